"""Small files that announce, repeat or entangle more than they hold are refused at once."""

from __future__ import annotations

import contextlib
import struct
import time
from pathlib import Path
from typing import Any

import flatbuffers  # type: ignore[import-untyped]
import pytest

from espdl_quantize.chip import UnreadableModelError, check_legality, parse_model
from espdl_quantize.chip._facts import chip_facts
from espdl_quantize.chip._model import ChipModel, Node, Tensor
from espdl_quantize.chip._rules import examine
from espdl_quantize.chip.cost import UnplannableModelError, parameter_bytes, plan_memory


def file_of(builder: Any, **vectors: int) -> bytes:
    """Finish a model whose graph has these vectors, by the name of the field."""
    from esp_ppq.parser.espdl import helper

    helper.Graph.Start(builder)
    for name, offset in vectors.items():
        getattr(helper.Graph, f"Add{name}")(builder, offset)
    graph = helper.Graph.End(builder)
    helper.Model.Start(builder)
    helper.Model.AddGraph(builder, graph)
    builder.Finish(helper.Model.End(builder))
    body = bytes(builder.Output())
    return struct.pack("<4sII4x", b"EDL2", 0, len(body)) + body


def vector_of(builder: Any, offsets: list[int]) -> int:
    builder.StartVector(4, len(offsets), 4)
    for offset in reversed(offsets):
        builder.PrependUOffsetTRelative(offset)
    return int(builder.EndVector())


def one_long_name_for_many() -> bytes:
    from esp_ppq.parser.espdl import helper

    builder = flatbuffers.Builder(1 << 20)
    name = builder.CreateString("n" * 500_000)
    helper.Node.Start(builder)
    helper.Node.AddName(builder, name)
    node = helper.Node.End(builder)
    return file_of(builder, Node=vector_of(builder, [node] * 20_000))


def one_attribute_for_many() -> bytes:
    from esp_ppq.parser.espdl import helper

    builder = flatbuffers.Builder(1 << 20)
    helper.Attribute.Start(builder)
    attribute = helper.Attribute.End(builder)
    attributes = vector_of(builder, [attribute] * 15_000)
    helper.Node.Start(builder)
    helper.Node.AddAttribute(builder, attributes)
    node = helper.Node.End(builder)
    return file_of(builder, Node=vector_of(builder, [node] * 15_000))


def a_shape_of_many_axes() -> bytes:
    from esp_ppq.parser.espdl import helper

    builder = flatbuffers.Builder(1 << 20)
    builder.StartVector(8, 100_000, 8)
    for _ in range(100_000):
        builder.PrependInt64((1 << 62) - 1)
    axes = builder.EndVector()
    helper.Tensor.Start(builder)
    helper.Tensor.AddDims(builder, axes)
    helper.Tensor.AddDataType(builder, 3)
    tensor = helper.Tensor.End(builder)
    return file_of(builder, Initializer=vector_of(builder, [tensor]))


@pytest.mark.parametrize(
    ("content", "reason"),
    [
        (one_long_name_for_many, "16 times its size"),
        (one_attribute_for_many, "16 times its size"),
        (a_shape_of_many_axes, "has the shape"),
    ],
)
def test_what_a_file_repeats_or_announces_is_bounded(content: Any, reason: str) -> None:
    made = content()
    assert len(made) < 2_000_000
    started = time.process_time()
    with pytest.raises(UnreadableModelError, match=reason) as caught:
        parse_model(made)
    assert caught.value.hint
    assert time.process_time() - started < 20


def test_a_file_that_cannot_be_read_is_a_fault_with_what_to_do(tmp_path: Path) -> None:
    file = tmp_path / "model.espdl"
    for content, told in (
        (b"PDL2" + bytes(60), "several models packed into one"),
        (b"EDL2" + struct.pack("<II4x", 1, 16) + bytes(16), "export it without encryption"),
        (b"EDL2" + struct.pack("<II4x", 0, 400) + bytes(16), "copy the file once more"),
    ):
        file.write_bytes(content)
        (fault,) = check_legality(file, "esp32s3").faults
        assert fault.rule == "file"
        assert told in fault.cause


def knotted(*edges: tuple[tuple[str, ...], str], size: int = 4) -> ChipModel:
    """Return a model of Relus from some tensors to another, whatever sense that makes."""
    names = {name for inputs, output in edges for name in (*inputs, output)}
    values = {name: Tensor(name, "int8", (1, size), (0,)) for name in names | {"in", "out"}}
    nodes = tuple(
        Node(f"op{number}", "Relu", inputs, (output,), {"quant_type": "S8"})
        for number, (inputs, output) in enumerate(edges)
    )
    return ChipModel(nodes, {}, values, ("in",), ("out",))


@pytest.mark.parametrize(
    ("model", "cause"),
    [
        (knotted((("b",), "a"), (("a",), "b"), (("in",), "out")), "before anything has written"),
        (knotted((("out",), "out")), "before anything has written"),
        (knotted((("in",), "a")), "nothing writes the output"),
        (knotted(), "no op or no output"),
        (knotted(((), "out")), "do not fit together"),
    ],
    ids=["a cycle", "its own input", "no output", "nothing", "no input"],
)
def test_a_graph_that_is_none_is_a_fault(model: ChipModel, cause: str) -> None:
    faults, _ = examine(model, chip_facts("esp32s3"))
    assert any(cause in fault.cause for fault in faults), faults
    # Whoever plans it all the same gets a plan or an answer, and no crash.
    with contextlib.suppress(UnplannableModelError):
        assert plan_memory(model).total >= 0
    assert parameter_bytes(model) == 0


def test_a_long_chain_is_no_deep_one() -> None:
    edges = [((f"t{place}",), f"t{place + 1}") for place in range(5000)]
    model = knotted((("in",), "t0"), *edges, (("t5000",), "out"), size=1 << 40)
    assert examine(model, chip_facts("esp32s3"))[0] == []
    assert plan_memory(model).total >= 1 << 40
