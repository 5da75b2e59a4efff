"""Which convolutions may add in any order, and that esp-ppq's numbers stay what they are."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import torch
from esp_ppq.executor import TorchExecutor
from torch import Tensor, nn

from espdl_quantize.contract import load_contract, read_batches
from espdl_quantize.core import Engine, NoProgress
from espdl_quantize.ppq import engine_for, prepare_float_model, probe_target, quantize, target_names
from espdl_quantize.ppq.fast import Layout, forwards
from espdl_quantize.setting import parse_setting, resolve
from tests.contracts import CONFIG, write_contract
from tests.networks import calibration_images


def quantized(folder: Path, kind: str, **fields: Any) -> Any:
    model = f"from tests.networks import network\n    return network('{kind}')"
    # onnxsim bakes the batch size into the transformer.
    calibration = "from tests.networks import calibration_images as c; return c(4).split(1)"
    path = write_contract(
        folder, model=model, calibration=calibration, config={**CONFIG, "batch_size": 1}
    )
    contract = load_contract(path, target_names())
    target = probe_target(contract.config.target)
    setting = resolve(parse_setting({"iteration_id": 0, **fields}), target)
    with engine_for(Engine.FAST).install() as engine:
        float_model, batches = prepare_float_model(contract, folder), read_batches(contract)
        return quantize(
            float_model, contract.config, setting, batches, NoProgress(), engine=engine
        ).graph


@pytest.fixture(scope="module")
def graph(tmp_path_factory: pytest.TempPathFactory) -> Any:
    return quantized(tmp_path_factory.mktemp("net"), "depthwise")


def convolutions(graph: Any) -> list[Any]:
    return [op for op in graph.topological_sort() if op.type == "Conv"]


def test_int8_convolutions_are_exact(graph: Any) -> None:
    assert Layout.of(graph).convolutions == {op.name for op in convolutions(graph)}


def test_what_is_no_integer_is_not_exact(graph: Any) -> None:
    first, second = convolutions(graph)[:2]
    before = first.outputs[0].dest_ops[0]
    first.dequantize()
    before.dequantize()
    try:
        found = Layout.of(graph).convolutions
        assert not {first.name, second.name} & found
        assert len(found) == len(convolutions(graph)) - 2
    finally:
        first.restore_quantize_state()
        before.restore_quantize_state()


def test_a_sum_that_float32_cannot_hold_is_not_exact(graph: Any) -> None:
    op = convolutions(graph)[1]
    bias, config = op.inputs[2], op.config.input_quantization_config[2]
    value, scale = bias.value.clone(), config.scale.clone()
    try:
        for power, is_exact in ((8, True), (20, False)):
            config.scale.copy_(scale * 2**power)
            bias.value = torch.full_like(value, 100 * float(config.scale.max()))
            assert (op.name in Layout.of(graph).convolutions) == is_exact
        # A bias between two integers.
        config.scale.copy_(scale / 2)
        bias.value = torch.full_like(value, float(config.scale.max()))
        assert op.name not in Layout.of(graph).convolutions
    finally:
        bias.value = value
        config.scale.copy_(scale)


def test_wide_integers_are_not_exact(tmp_path: Path) -> None:
    name = next(op.name for op in convolutions(quantized(tmp_path, "residual")))
    wide = quantized(tmp_path, "residual", dispatching_table=[{"op": name, "bits": 16}])
    found = Layout.of(wide).convolutions
    assert name not in found
    assert found


class _Seen:
    """A quantized graph's every value, from esp-ppq's own executor and from the fast one."""

    def __init__(self, graph: Any, images: Tensor) -> None:
        runner = TorchExecutor(graph=graph, device="cpu")
        self.names = [one.name for op in graph.topological_sort() for one in op.outputs]
        self.plain = runner.forward(images, self.names)
        with engine_for(Engine.FAST).install():
            self.fast = runner.forward(images, self.names)
            self.outputs = runner.forward(images)


@pytest.mark.parametrize("kind", ["depthwise", "residual", "detector", "transformer", "gru"])
def test_every_value_is_esp_ppqs_to_the_last_bit(
    kind: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(forwards, "_LARGE", 0)
    graph = quantized(tmp_path, kind)
    seen = _Seen(graph, calibration_images(1 if kind == "transformer" else 6))
    for name, plain, fast in zip(seen.names, seen.plain, seen.fast, strict=True):
        assert torch.equal(plain, fast), name
        assert fast.is_contiguous() or not plain.is_contiguous(), name
    by_name = dict(zip(seen.names, seen.plain, strict=True))
    for name, found in zip(graph.outputs, seen.outputs, strict=True):
        assert torch.equal(found, by_name[name])


def test_errors_and_odd_inputs_are_esp_ppqs(graph: Any) -> None:
    runner, images = TorchExecutor(graph=graph, device="cpu"), calibration_images(2)
    with engine_for(Engine.FAST).install():
        with pytest.raises(KeyError, match="nowhere"):
            runner.forward(images, ["nowhere"])
        with pytest.raises(RuntimeError, match="Op Execution Error"):
            runner.forward(images[:, :, :1, :1].expand(2, 3, 1, 1).contiguous())
        by_name = runner.forward({next(iter(graph.inputs)): images})
        assert torch.equal(by_name[0], runner.forward([images])[0])
        strided = images.transpose(2, 3)
        assert torch.equal(runner.forward(strided)[0], runner.forward(strided.contiguous())[0])
        assert torch.equal(runner.forward(images, list(graph.inputs))[0], images)
    # Nothing is left in the graph.
    assert all(one.value is None for one in graph.variables.values() if not one.is_parameter)


def test_gradients_flow_through_esp_ppqs_own_forward(graph: Any) -> None:
    images = calibration_images(2).requires_grad_()
    with engine_for(Engine.FAST).install():
        runner = TorchExecutor(graph=graph, device="cpu")
        runner.forward_with_gradient(images)[0].sum().backward()
    assert images.grad is not None
    assert nn.Parameter(images.grad).abs().sum() > 0
