"""Constants of element-wise ops, whose layout in the file is that of the activation beside them."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch
from torch import Tensor, nn

from espdl_quantize.chip import check_model
from espdl_quantize.ppq import patches
from tests.chip.made import Export, make_export
from tests.networks import KINDS


class _Scaled(nn.Module):
    """A Conv, then constants of every rank and on every axis.

    Args:
        channels: of the Conv, whose outputs are 14 x 14.
    """

    def __init__(self, channels: int) -> None:
        super().__init__()
        self.conv = nn.Conv2d(1, channels, 3, stride=2, padding=1)
        self.after = nn.Conv2d(channels, 4, 1)
        shapes = [(1, channels, 1, 1), (channels, 1, 1), (14,), (14, 1), (channels, 14, 14)]
        for index, shape in enumerate(shapes):
            torch.manual_seed(index)
            self.register_buffer(f"c{index}", torch.rand(shape) + 0.5)

    def forward(self, x: Tensor) -> Tensor:
        x = torch.relu(self.conv(x)) * self.c0
        x = torch.relu(self.c1 * x) * self.c2
        x = torch.relu(x) * self.c3
        return self.after(torch.relu(x) * self.c4)  # type: ignore[no-any-return]


def scaled(folder: Path, chip: str, channels: int) -> Export:
    torch.manual_seed(0)
    module = _Scaled(channels).eval()
    with pytest.MonkeyPatch.context() as patch:
        patch.setitem(KINDS, "scaled", lambda: module)
        return make_export(folder, "scaled", chip, batch=1)


def check(made: Export) -> tuple[list[str], float | None]:
    """Return the faults, and the percent of integers that agree."""
    found = check_model(made.file, made.chip, made.graph, made.layouts, made.batches)
    percent = found.integers.total.percent if found.integers else None
    return [fault.cause for fault in found.legality.faults], percent


# 14 channels of 14 x 14: a constant on the wrong axis has a shape that fits.
@pytest.mark.parametrize(("chip", "channels"), [("esp32s3", 14), ("esp32p4", 14), ("c", 6)])
def test_constants_lie_as_the_activations_beside_them(
    chip: str, channels: int, tmp_path: Path
) -> None:
    faults, percent = check(scaled(tmp_path, chip, channels))
    assert faults == []
    assert percent == 100.0


def test_as_plain_esp_ppq_lays_them_out_the_chip_computes_something_else(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    left = tuple(item for item in patches.PATCHES if "constants" not in item.by)
    assert len(left) == len(patches.PATCHES) - 1
    monkeypatch.setattr(patches, "PATCHES", left)
    faults, percent = check(scaled(tmp_path / "fits", "esp32s3", 14))
    assert faults == []
    assert percent is not None
    assert percent < 90
    faults, _ = check(scaled(tmp_path / "not", "esp32s3", 6))
    assert any("do not fit each other" in cause for cause in faults)
