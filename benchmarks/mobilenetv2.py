"""A contract for timing alone: MobileNetV2 at 96x96, its weights drawn from a fixed seed.

No package brings trained weights of it. Scores mean nothing here, so that the agreement of the
quantized with the float network stands in for the metric; the images are those of
examples/efficientnet_lite0, scaled down.
"""

from __future__ import annotations

import importlib.util
import os
from functools import cache
from pathlib import Path
from types import ModuleType
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn import functional
from torch.utils.data import DataLoader, Dataset

SIZE, BATCH, CALIBRATION, SCORED = 96, 16, 64, 128

QUANT_CONFIG = {
    "model_type": "torch",
    "model_name": "MobileNetV2 96",
    "input_shape": [3, SIZE, SIZE],
    "batch_size": BATCH,
    "target": os.environ.get("ESPDL_TARGET", "esp32s3"),
    "num_of_bits": 8,
    "device": os.environ.get("ESPDL_DEVICE", "cpu"),
    "calib_steps": CALIBRATION // BATCH,
    "primary_metric": "agreement",
    "metric_direction": "max",
    "analyse_steps": 2,
}

_STAGES = (
    # expansion, channels, repeats, first stride; table 2 of Sandler et al., "MobileNetV2" (2018)
    (1, 16, 1, 1),
    (6, 24, 2, 2),
    (6, 32, 3, 2),
    (6, 64, 4, 2),
    (6, 96, 3, 1),
    (6, 160, 3, 2),
    (6, 320, 1, 1),
)


def _unit(inputs: int, outputs: int, size: int, stride: int = 1, groups: int = 1) -> nn.Sequential:
    return nn.Sequential(
        nn.Conv2d(inputs, outputs, size, stride, size // 2, groups=groups, bias=False),
        nn.BatchNorm2d(outputs, momentum=None),
        nn.ReLU6(),
    )


class _InvertedResidual(nn.Module):
    def __init__(self, inputs: int, outputs: int, stride: int, expansion: int) -> None:
        super().__init__()
        hidden = inputs * expansion
        self.adds = stride == 1 and inputs == outputs
        self.layers = nn.Sequential(
            *([_unit(inputs, hidden, 1)] if expansion > 1 else []),
            _unit(hidden, hidden, 3, stride, groups=hidden),
            nn.Conv2d(hidden, outputs, 1, bias=False),
            nn.BatchNorm2d(outputs, momentum=None),
        )

    def forward(self, x: Tensor) -> Tensor:
        out: Tensor = self.layers(x)
        return x + out if self.adds else out


class MobileNetV2(nn.Module):
    """[batch, 3, height, width] -> [batch, 1000]."""

    def __init__(self) -> None:
        super().__init__()
        blocks, inputs = [], 32
        for expansion, outputs, repeats, stride in _STAGES:
            for number in range(repeats):
                first = stride if number == 0 else 1
                blocks.append(_InvertedResidual(inputs, outputs, first, expansion))
                inputs = outputs
        self.features = nn.Sequential(_unit(3, 32, 3, 2), *blocks, _unit(inputs, 1280, 1))
        self.classify = nn.Linear(1280, 1000)

    def forward(self, x: Tensor) -> Tensor:
        """Return the logits."""
        logits: Tensor = self.classify(self.features(x).mean((2, 3)))
        return logits


@cache
def _lite0() -> ModuleType:
    path = Path(__file__).parent.parent / "examples/efficientnet_lite0/user_quant.py"
    spec = importlib.util.spec_from_file_location("benchmarks_lite0", path)
    assert spec is not None and spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


class _Images(Dataset[Tensor]):
    """The images of the EfficientNet-Lite0 example, float32 [3, 96, 96]."""

    def __init__(self, first: int, count: int) -> None:
        self._images = _lite0().LabelledImages(range(first, first + count))

    def __len__(self) -> int:
        return len(self._images)

    def __getitem__(self, position: int) -> Tensor:
        image, _ = self._images[position]
        size = (SIZE, SIZE)
        return functional.interpolate(image[None], size, mode="bilinear", antialias=True)[0]


def create_calib_dataloader() -> DataLoader[Tensor]:
    """Batches of images."""
    return DataLoader(_Images(0, CALIBRATION), batch_size=BATCH)


@cache
def get_torch_model() -> nn.Module:
    """Return the network, with the mean statistics of the calibration images."""
    torch.manual_seed(0)
    model = MobileNetV2()
    with torch.no_grad():
        for batch in create_calib_dataloader():
            model(batch)
    return model.eval()


def evaluate(quant_graph: Any) -> dict[str, float]:
    """Percent of 128 other images on which the graph decides as the float network does."""
    from esp_ppq.executor import TorchExecutor

    executor = TorchExecutor(graph=quant_graph, device=str(QUANT_CONFIG["device"]))
    agreed = 0
    for batch in DataLoader(_Images(CALIBRATION, SCORED), batch_size=BATCH):
        with torch.no_grad():
            wanted = get_torch_model()(batch).argmax(1)
        predicted = executor.forward(batch.to(QUANT_CONFIG["device"]))[0].argmax(1).cpu()
        agreed += int((predicted == wanted).sum())
    return {"agreement": 100.0 * agreed / SCORED}
