"""Exponents of weights are lowered where the vector unit would shift left, and nothing is lost."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from torch import Tensor, nn

from espdl_quantize.chip import check_model
from espdl_quantize.ppq import ReferenceEngine, run_graph
from espdl_quantize.ppq.left_shifts import lower_exponents
from tests.chip.made import Export, make_export
from tests.matrix import examples
from tests.networks import KINDS


class _Shut(nn.Module):
    """A ReLU that never opens in channel 3, before a depthwise Conv with large weights there."""

    def __init__(self) -> None:
        super().__init__()
        torch.manual_seed(0)
        self.conv, self.deep = nn.Conv2d(1, 16, 3), nn.Conv2d(16, 16, 3, groups=16)
        self.head = nn.Conv2d(16, 4, 1)
        assert self.conv.bias is not None
        assert self.deep.bias is not None
        self.conv.bias.data[3] = -1000.0
        self.deep.weight.data[3] *= 400.0
        self.deep.bias.data[3] = 0.3

    def forward(self, x: Tensor) -> Tensor:
        return self.head(torch.relu(self.deep(torch.relu(self.conv(x)))))  # type: ignore[no-any-return]


def exported(folder: Path, chip: str = "esp32p4") -> Export:
    with pytest.MonkeyPatch.context() as patch:
        patch.setitem(KINDS, "shut", lambda: _Shut().eval())
        return make_export(folder, "shut", chip)


def test_a_channel_that_sees_nothing_is_mended_and_exact(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    made = exported(tmp_path)
    (warning,) = made.warnings
    # The report goes by these words.
    assert "need no left shift" in warning, warning
    assert "channel 3 " in warning
    found = check_model(made.file, made.chip, made.graph, made.layouts, made.batches)
    assert found.legality.faults == ()
    assert found.integers is not None
    assert found.integers.total.exact == found.integers.total.outputs > 1000
    assert found.integers.end_to_end is not None
    assert found.integers.end_to_end.exact == found.integers.end_to_end.outputs

    monkeypatch.setattr("espdl_quantize.ppq._quantize.lower_exponents", lambda *_: [])
    left = exported(tmp_path / "left")
    refused = check_model(left.file, left.chip, left.graph, left.layouts, left.batches)
    (fault,) = refused.legality.faults
    assert (fault.rule, fault.op_type) == ("shift", "Conv")
    assert "1 of 16 channels (3) would be shifted left" in fault.cause
    assert "cut off" in fault.cause


@pytest.fixture(scope="module")
def made(tmp_path_factory: pytest.TempPathFactory) -> Export:
    return make_export(tmp_path_factory.mktemp("residual"), "residual", "esp32p4")


def configs_of(op: Any) -> tuple[Any, Any, Any, Any]:
    first, weight, bias = op.config.input_quantization_config
    return first, weight, bias, op.config.output_quantization_config[0]


def shifts_of(op: Any) -> Tensor:
    first, weight, _, out = configs_of(op)
    bits: Tensor = out.scale.log2() - first.scale.log2() - weight.scale.log2()
    return bits.flatten().round()


def rows_of(op: Any) -> Tensor:
    """Return the weights in steps of their scales, [channels, all of a channel]."""
    _, weight, _, _ = configs_of(op)
    rows: Tensor = op.inputs[1].value.movedim(weight.channel_axis, 0).flatten(1)
    scales: Tensor = weight.scale
    return rows / scales.reshape(-1, 1)


def errors_of(op: Any) -> Tensor:
    rows = rows_of(op)
    scales: Tensor = configs_of(op)[1].scale.reshape(-1, 1)
    return (rows.round().clamp(-128, 127) - rows).abs() * scales


def without_limits(op: Any, image: Tensor) -> Tensor:
    """Compute an op with weights and biases of as many bits as they need."""
    first, weight, bias, _ = configs_of(op)
    image = (image / first.scale).round().clamp(-128, 127) * first.scale
    scales: Tensor = weight.scale
    rows = rows_of(op).round() * scales.reshape(-1, 1)
    moved = op.inputs[1].value.movedim(weight.channel_axis, 0)
    weights = rows.reshape(moved.shape).movedim(0, weight.channel_axis).double()
    biases: Tensor = ((op.inputs[2].value / bias.scale).round() * bias.scale).double()
    if op.type == "Gemm":
        return image.double() @ (weights.T if op.attributes.get("transB") else weights) + biases
    return nn.functional.conv2d(
        image.double(),
        weights,
        biases,
        op.attributes.get("strides", 1),
        op.attributes.get("pads", [0, 0])[:2],
        groups=op.attributes.get("group", 1),
    )


def coarsened(op: Any, factors: Tensor, shrink: Tensor) -> None:
    """Multiply each channel's scales, and its weights and bias by that less ``shrink`` bits."""
    _, weight, bias, _ = configs_of(op)
    weight._scale, bias._scale = weight.scale * factors, bias.scale * factors
    shape = [1] * op.inputs[1].value.dim()
    shape[weight.channel_axis] = -1
    op.inputs[1].value = op.inputs[1].value * (factors * 2.0**-shrink).reshape(shape)


@examples(20, whole=100)
@given(
    st.sampled_from(["/first/Conv", "/head/Gemm"]),
    st.lists(st.integers(0, 6), min_size=8, max_size=8),
    st.lists(st.integers(0, 3), min_size=7, max_size=7),
)
def test_what_is_lowered_loses_nothing_and_the_rest_stays(
    made: Export, name: str, wanted: list[int], shrink: list[int]
) -> None:
    op = made.graph.operations[name]
    _, weight, bias, out = configs_of(op)
    kept, count = (weight.scale, bias.scale, op.inputs[1].value), weight.scale.numel()
    fused = [reader.type for reader in op.outputs[0].dest_ops] == ["Relu"]
    source = op.inputs[0].name
    given_ = [run_graph(made.graph, batch, "cpu", [source])[0] for batch in made.batches]

    def stored(outputs: list[Tensor]) -> Tensor:
        steps = torch.cat(outputs).div(out.scale).round()
        return steps.clamp(0 if fused else -128, 127).transpose(0, 1)

    def simulated() -> Tensor:
        run = ReferenceEngine().run_op
        return stored([run(made.graph, op, {source: each}, "cpu")[0] for each in given_])

    try:
        # Shifts from -3 to 3, and weights that training has left smaller than they might be.
        aim = torch.tensor([(wanted * count)[place] - 3 for place in range(count)])
        bits = torch.tensor([(shrink * count)[place] for place in range(count)])
        coarsened(op, 2.0 ** (shifts_of(op) - aim), bits)
        before, errors, scales, steps = shifts_of(op), errors_of(op), weight.scale, rows_of(op)
        messages = lower_exponents(made.graph, made.batches, "cpu", ReferenceEngine())
        new, lowered = simulated(), weight.scale != scales
        whole = stored([without_limits(op, each) for each in given_])
        assert not (lowered & (before >= 0)).any()
        assert (shifts_of(op)[lowered] == 0).all()
        for channel in (before < 0).nonzero().flatten().tolist():
            largest = steps[channel].abs().max() * 2.0 ** -before[channel]
            if not lowered[channel]:
                assert largest > 127
                continue
            # Nothing but finer numbers, as far as the outputs can tell.
            assert torch.equal(whole[channel], new[channel])
            if largest < 127.5:
                assert (errors_of(op)[channel] <= errors[channel] + 1e-6).all()
        assert bool((before < 0).any()) == bool(messages)
        assert all(repr(name) in message for message in messages)
    finally:
        weight._scale, bias._scale, op.inputs[1].value = kept


def test_without_calibration_data_nothing_is_cut_off(made: Export) -> None:
    op = made.graph.operations["/first/Conv"]
    _, weight, bias, _ = configs_of(op)
    kept = (weight.scale, bias.scale, op.inputs[1].value)
    try:
        coarsened(op, 2.0 ** (shifts_of(op) + 1), torch.zeros(weight.scale.numel()))
        scales = weight.scale
        messages = lower_exponents(made.graph, [], "cpu", ReferenceEngine())
        assert torch.equal(weight.scale, scales)
        assert any("they stay as they are" in message for message in messages)
    finally:
        weight._scale, bias._scale, op.inputs[1].value = kept
