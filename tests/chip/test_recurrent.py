"""GRU and LSTM in integers, beside the loops of ESP-DL's modules written out number by number."""

from __future__ import annotations

import math
from typing import Any

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from espdl_quantize.chip._facts import chip_facts
from espdl_quantize.chip._model import ChipModel, Node
from espdl_quantize.chip._model import Tensor as FileTensor
from espdl_quantize.chip._rules import examine
from espdl_quantize.chip.integers._call import KERNELS, Call, Unsupported

GATES = {"LSTM": 4, "GRU": 3}
f32 = np.float32


def made(
    op_type: str,
    chip: str,
    *,
    dtype: str = "int8",
    frames: int = 3,
    size: int = 5,
    hidden: int = 4,
    directions: int = 1,
    exponents: tuple[int, int, int, int] = (-6, -7, -7, -7),
    state: bool = True,
    bias: int = 100,
    largest: int = 127,
    seed: int = 0,
    **attributes: Any,
) -> Call:
    """Return a call with random integers: exponents of input, both weights and state."""
    draw = np.random.default_rng(seed)
    rows, gate = GATES[op_type] * hidden, -9
    of_input, of_weight, of_recurrent, of_state = exponents

    def numbers(most: int, *shape: int) -> Any:
        return draw.integers(-most, most + 1, size=shape)

    shapes: list[tuple[str, str, int, Any]] = [
        ("x", dtype, of_input, numbers(largest, frames, 1, size)),
        ("w", dtype, of_weight, numbers(largest, directions, rows, size)),
        ("r", dtype, of_recurrent, numbers(largest, directions, rows, hidden)),
        ("b", "int16", gate, numbers(bias, directions, 2 * rows)),
        ("h", dtype, of_state, numbers(largest, directions, 1, hidden)),
        ("c", "int16", gate, numbers(3000, directions, 1, hidden)),
    ]
    file = {name: FileTensor(name, kind, each.shape, (e,)) for name, kind, e, each in shapes}
    held = {name: torch.from_numpy(each) for name, _, _, each in shapes}
    inputs = ["x", "w", "r", "b", "", "h", "c"] if state else ["x", "w", "r", "b"]
    if op_type == "GRU":
        inputs, attributes = inputs[:6], {"linear_before_reset": 1, **attributes}
    outputs = ("y", "yh", "yc")[: 3 if op_type == "LSTM" else 2]
    file |= {
        "y": FileTensor("y", dtype, (frames, directions, 1, hidden), (of_state,)),
        "yh": FileTensor("yh", dtype, (directions, 1, hidden), (of_state,)),
        "yc": FileTensor("yc", "int16", (directions, 1, hidden), (gate,)),
    }
    width = {"int8": "S8", "int16": "S16"}[dtype]
    direction = "bidirectional" if directions == 2 else "forward"
    node = Node(
        "op",
        op_type,
        tuple(inputs),
        outputs,
        {
            "quant_type": width,
            "hidden_size": hidden,
            "gate_exponent": gate,
            "direction": direction,
            **attributes,
        },
    )
    model = ChipModel((node,), {}, file, ("x",), outputs)
    return Call(model, node, chip_facts(chip), [held.get(name) for name in inputs])


def rounded(value: Any, chip: str) -> int:
    if chip == "esp32p4":
        return int(np.rint(value))
    return math.floor(float(f32(float(value) + 0.5)))


def sigmoid(x: Any) -> Any:
    return f32(1.0 / (1.0 + float(np.exp(f32(-x)))))


def looked_up(index: int, end: float, function: Any) -> Any:
    """Read a table that is made up to an end, and mirrored."""
    last = int(f32(end) / f32(2.0**-9)) + 1
    return function(f32(min(abs(index), last) * 2.0**-9))


def gate(index: int) -> Any:
    read = looked_up(index, 6.3, sigmoid)
    return read if index >= 0 else f32(1) - read


def tanh(index: int) -> Any:
    read = looked_up(index, 3.5, lambda x: f32(2) * sigmoid(f32(2) * x) - f32(1))
    return read if index >= 0 else -read


def as_int16(value: int) -> int:
    return (value + 32768) % 65536 - 32768


def by_loops(call: Call, chip: str) -> list[list[int]]:
    """Compute a call as the module's loops do."""
    node, file = call.node, call.model.values
    hidden, gates = int(node.attributes["hidden_size"]), GATES[node.op_type]
    narrow = file["x"].dtype == "int8"
    x, w, r, b = (call.value(place).numpy() for place in range(4))
    directions, frames = w.shape[0], x.shape[0]
    block = 16 if narrow else 8
    low, high = (-128, 127) if narrow else (-32768, 32767)

    def dot(row: Any, column: Any, exponent: int) -> int:
        total, shift = int((row.astype(object) * column.astype(object)).sum()), -9 - exponent
        if chip != "c" and len(row) % block == 0 and shift >= 0:
            below, rest = divmod(total, 1 << shift)
            half = (1 << shift) / 2
            odd = below % 2 == 1 if chip == "esp32p4" else True
            found = below + (shift > 0 and (rest > half or (rest == half and odd)))
        else:
            found = rounded(f32(total) * f32(2.0**-shift), chip)
        return min(max(found, -32768), 32767)

    all_y: Any = np.zeros((frames, directions, hidden), dtype=int)
    last_h, last_c = [], []
    of_x, of_h = file["x"].exponent + file["w"].exponent, file["yh"].exponent + file["r"].exponent
    unit = f32(2.0 ** -file["y"].exponent)
    for number in range(directions):
        h = [0] * hidden if not call.has(5) else call.value(5).numpy()[number, 0].tolist()
        c = [0] * hidden if not call.has(6) else call.value(6).numpy()[number, 0].tolist()
        first, second = b[number][: gates * hidden], b[number][gates * hidden :]
        for t in range(frames) if number == 0 else reversed(range(frames)):
            into = [dot(w[number][i], x[t, 0], of_x) for i in range(gates * hidden)]
            over = [dot(r[number][i], np.array(h), of_h) for i in range(gates * hidden)]
            if node.op_type == "LSTM":
                sums = [
                    as_int16(into[i] + int(first[i]) + over[i] + int(second[i]))
                    for i in range(gates * hidden)
                ]
                for i in range(hidden):
                    kept = gate(sums[2 * hidden + i]) * f32(c[i])
                    new = gate(sums[i]) * tanh(sums[3 * hidden + i]) * f32(512)
                    c[i] = as_int16(rounded(kept + new, chip))
                    h[i] = rounded(gate(sums[hidden + i]) * tanh(c[i]) * unit, chip)
            else:
                left = [as_int16(into[i] + int(first[i])) for i in range(gates * hidden)]
                right = [as_int16(over[i] + int(second[i])) for i in range(gates * hidden)]
                for i in range(hidden):
                    z, reset = gate(left[i] + right[i]), gate(left[hidden + i] + right[hidden + i])
                    old = f32(right[2 * hidden + i])
                    index = rounded(f32(left[2 * hidden + i]) + reset * old, chip)
                    fresh = (f32(1) - z) * tanh(index) * unit
                    h[i] = rounded(fresh + z * f32(h[i]), chip)
            h = [min(max(value, low), high) for value in h]
            all_y[t, number] = h
        last_h.append(h)
        last_c.append(c)
    found = [all_y.reshape(-1).tolist(), np.array(last_h).reshape(-1).tolist()]
    return [*found, np.array(last_c).reshape(-1).tolist()] if node.op_type == "LSTM" else found


@given(
    st.sampled_from(["LSTM", "GRU"]),
    st.sampled_from(["esp32s3", "esp32p4", "c"]),
    st.sampled_from(["int8", "int16"]),
    st.tuples(st.integers(1, 4), st.sampled_from([1, 5, 8, 16]), st.sampled_from([1, 3, 8, 16])),
    st.integers(1, 2),
    st.tuples(*[st.integers(-9, 0)] * 3, st.integers(-9, -5)),
    st.booleans(),
    st.sampled_from([0, 100, 30000]),
    st.integers(0, 1000),
)
def test_steps_are_those_of_the_modules(
    op_type: str,
    chip: str,
    dtype: str,
    shape: tuple[int, int, int],
    directions: int,
    exponents: tuple[int, int, int, int],
    state: bool,
    bias: int,
    seed: int,
) -> None:
    call = made(
        op_type,
        chip,
        dtype=dtype,
        frames=shape[0],
        size=shape[1],
        hidden=shape[2],
        directions=directions,
        exponents=exponents,
        state=state,
        bias=bias,
        largest=127 if dtype == "int8" else 2000,
        seed=seed,
    )
    found = KERNELS[op_type](call)
    assert [each.shape for each in found] == [call.tensor(name).shape for name in call.node.outputs]
    assert [each.reshape(-1).tolist() for each in found] == by_loops(call, chip)


def test_sums_that_wrap_are_counted() -> None:
    # 30,000 and 30,000 of two biases do not fit into 16 bits; the chip's additions wrap.
    calm = made("LSTM", "esp32s3", bias=10)
    KERNELS["LSTM"](calm)
    assert calm.overflows == 0
    wild = made("LSTM", "esp32s3", bias=32767)
    KERNELS["LSTM"](wild)
    assert wild.overflows > 0


@pytest.mark.parametrize(
    ("changes", "reason"),
    [
        ({"direction": "reverse"}, "reverse forward"),
        ({"gate_exponent": -8}, "exponent of the gates"),
        ({"hidden_size": 7}, "shape"),
    ],
)
def test_what_the_modules_do_not_run(changes: dict[str, Any], reason: str) -> None:
    with pytest.raises((Unsupported, RuntimeError), match=reason):
        KERNELS["LSTM"](made("LSTM", "c", **changes))


@pytest.mark.parametrize(
    ("op_type", "name", "dtype", "exponent", "cause"),
    [
        ("LSTM", "yh", "int8", -6, "hidden states need one type and exponent"),
        ("LSTM", "h", "int8", -5, "hidden states need one type and exponent"),
        ("GRU", "yh", "int16", -7, "hidden states need one type and exponent"),
        ("LSTM", "yc", "int16", -8, "'yc' is int16 with the exponent -8, its gates"),
        ("LSTM", "c", "int8", -9, "'c' is int8"),
        ("GRU", "b", "int16", -10, "'b' is int16 with the exponent -10"),
        ("GRU", "w", "int8", -1, ""),
    ],
)
def test_states_that_the_modules_take_for_others(
    op_type: str, name: str, dtype: str, exponent: int, cause: str
) -> None:
    call = made(op_type, "esp32s3")
    shape = call.model.values[name].shape
    values = {**call.model.values, name: FileTensor(name, dtype, shape, (exponent,))}
    inputs = tuple(each for each in call.node.inputs if each)
    model = ChipModel(call.model.nodes, {}, values, inputs, call.node.outputs)
    causes = [fault.cause for fault in examine(model, chip_facts("esp32s3"))[0]]
    assert len(causes) == bool(cause), causes
    assert not cause or cause in causes[0]


def test_a_module_needs_all_of_its_outputs() -> None:
    call = made("LSTM", "esp32s3")
    node = Node("op", "LSTM", call.node.inputs, ("y", "", ""), call.node.attributes)
    inputs = tuple(each for each in node.inputs if each)
    model = ChipModel((node,), {}, call.model.values, inputs, ("y",))
    (fault,) = examine(model, chip_facts("c"))[0]
    assert fault.cause == "it has 1 outputs, its kernel 3"
