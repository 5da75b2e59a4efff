"""esp-ppq's channel split, by the setting: more channels, and in float the same network."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch
from torch import nn

from espdl_quantize.chip import check_model
from espdl_quantize.contract import Batch, QuantConfig
from espdl_quantize.core import NoProgress
from espdl_quantize.ppq import FloatModel, QuantizedModel, export, probe_target, quantize
from espdl_quantize.setting import parse_setting, resolve
from tests.contracts import CONFIG
from tests.networks import calibration_images, held_out_images

_OUTLIER = 12.0


def _network() -> nn.Module:
    """A network with one channel of huge weights, which the next layer reads with small ones."""
    torch.manual_seed(0)
    net = nn.Sequential(
        nn.Conv2d(1, 8, 3, padding=1),
        nn.ReLU(),
        nn.Conv2d(8, 8, 3, padding=1),
        nn.ReLU(),
        nn.Flatten(),
        nn.Linear(8 * 28 * 28, 10),
    ).eval()
    with torch.no_grad():
        net[0].weight[3] *= _OUTLIER  # type: ignore[index, operator]
    return net


def _quantized(
    folder: Path, target: str, section: dict[str, object] | None
) -> tuple[QuantizedModel, nn.Module]:
    net, file = _network(), folder / "net.onnx"
    torch.onnx.export(net, (torch.zeros(1, 1, 28, 28),), str(file), opset_version=18, dynamo=False)
    config = QuantConfig.model_validate({**CONFIG, "target": target, "calib_steps": 2})
    setting = parse_setting(
        {"iteration_id": 0, **({"channel_split": section} if section is not None else {})}
    )
    resolved = resolve(setting, probe_target(target))
    batches = [Batch.of(images) for images in torch.split(calibration_images(32), 16)]
    model = FloatModel(file, [[1, 28, 28]], "cpu")
    return quantize(model, config, resolved, batches, NoProgress()), net


def _channels(model: QuantizedModel) -> list[int]:
    ops = model.graph.topological_sort()
    return [op.inputs[1].value.shape[0] for op in ops if op.type == "Conv"]


@pytest.mark.parametrize("target", ["esp32s3", "esp32p4", "c"])
def test_a_channel_is_doubled_and_the_model_stays_legal(target: str, tmp_path: Path) -> None:
    from esp_ppq.executor import TorchExecutor
    from esp_ppq.IR.quantize import QuantableGraph

    section = {
        "enabled": True,
        "iterations": 1,
        "value_threshold": 0.1,
        "opt_level": 2,
        "interested_layers": ["/0/Conv", "/2/Conv"],
    }
    plain, net = _quantized(tmp_path, target, None)
    split, _ = _quantized(tmp_path, target, section)
    assert _channels(plain)[1:] == _channels(split)[1:]
    assert _channels(split)[0] > _channels(plain)[0]
    file = tmp_path / "model.espdl"
    layouts = export(split, file)
    batches = [Batch.of(images) for images in torch.split(calibration_images(32), 16)]
    assert check_model(file, target, split.graph, layouts, batches, "cpu").legality.legal

    QuantableGraph(split.graph).dequantize_graph(expire_device="cpu")
    images = held_out_images(8)
    outputs = TorchExecutor(split.graph, device="cpu").forward(images)[0]
    with torch.no_grad():
        torch.testing.assert_close(outputs, net(images), rtol=1e-4, atol=1e-4)


def test_it_names_its_layers() -> None:
    from espdl_quantize.core import SettingError

    setting = parse_setting({"iteration_id": 0, "channel_split": {"enabled": True}})
    with pytest.raises(SettingError, match=r"channel_split\.interested_layers is \[\]"):
        resolve(setting, probe_target("esp32s3"))
