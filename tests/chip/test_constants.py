"""Constants of element-wise ops, whose layout in the file is that of the activation beside them."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch
from torch import Tensor, nn

from espdl_quantize.chip import check_model
from espdl_quantize.core import SHELL, FindingKind
from espdl_quantize.ppq import patches
from tests.chip.made import Export, export_of
from tests.gate.test_esp_dl_version import examined
from tests.networks import KINDS


class _Scaled(nn.Module):
    """A Conv, then constants of every rank and on every axis.

    Args:
        channels: of the Conv, whose outputs are 14 x 14.
    """

    c0: Tensor
    c1: Tensor
    c2: Tensor
    c3: Tensor
    c4: Tensor

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
    return export_of(folder, lambda: _Scaled(channels), chip)


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
    # The gate names the first that computes something else, before anything is tuned.
    module = _Scaled(14).eval()
    monkeypatch.setitem(KINDS, "scaled", lambda: module)
    found = [
        each
        for each in examined(tmp_path, "scaled", target="esp32s3").findings
        if each.code == "computes_differently"
    ]
    assert {each.kind for each in found} == {FindingKind.WARNING}
    assert all("(Mul): as exported" in each.message for each in found)
    assert "espdl-quantize deploy" in SHELL.spell(found[0].hint)


class _Vectors(nn.Module):
    """Rows times a vector, and a vector times rows; both directions of a GRU before them."""

    left: Tensor
    right: Tensor

    def __init__(self) -> None:
        super().__init__()
        self.cells = nn.GRU(28, 9, bidirectional=True)
        self.register_buffer("right", torch.linspace(-1, 1, 18))
        self.register_buffer("left", torch.linspace(-2, 1, 28))

    def forward(self, x: Tensor) -> Tensor:
        states = torch.relu(self.cells(x.reshape(28, 1, 28))[0]).reshape(1, 28, 18)
        rows = torch.relu(self.left @ states)
        return torch.cat([states @ self.right, rows], dim=1)


@pytest.mark.parametrize("chip", ["esp32s3", "esp32p4"])
def test_products_with_vectors_and_both_directions_are_computed_alike(
    chip: str, tmp_path: Path
) -> None:
    made = export_of(tmp_path, _Vectors, chip)
    found = check_model(made.file, made.chip, made.graph, made.layouts, made.batches)
    assert found.integers is not None
    assert {"GRU", "MatMul"} <= {op.op_type for op in found.integers.ops}
    assert found.differing == []
    assert found.integers.total.percent == 100.0
