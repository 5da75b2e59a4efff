"""What only a later ESP-DL has is told, and left out once a version is named."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from espdl_quantize.contract import Overrides
from espdl_quantize.core import SHELL
from espdl_quantize.gate import STAGES, GateContext, GateOptions, GateReport, examine
from espdl_quantize.iteration import captured
from espdl_quantize.record.files import LOG
from tests.contracts import CONFIG, write_contract


def examined(folder: Path, kind: str, version: str | None = None, **config: Any) -> GateReport:
    size = 1 if kind == "transformer" else 16
    path = write_contract(
        folder,
        config=CONFIG
        | {"target": "esp32p4", "batch_size": size, "calib_steps": 64 // size}
        | config,
        calibration="from tests.networks import calibration_images\n"
        f"    return calibration_images(64).split({size})",
        model=f"from tests.networks import network\n    return network({kind!r})",
    )
    scratch = folder / "scratch"
    scratch.mkdir()
    options = GateOptions(score=False, overrides=Overrides(esp_dl_version=version))
    with captured(scratch / LOG):
        return examine(GateContext(path, scratch, options), STAGES)


def told(report: GateReport) -> dict[str, str]:
    assert report.error is None
    return {each.code: each.message for each in report.findings if each.code != "rewritten"}


@pytest.mark.parametrize(
    ("option", "key", "is_fused"),
    [(None, None, True), ("3.3.9", None, False), (None, "3.3.9", False), (None, "3.4.0", True)],
)
def test_attention(option: str | None, key: str | None, is_fused: bool, tmp_path: Path) -> None:
    report = examined(tmp_path, "transformer", option, esp_dl_version=key)
    found = told(report)
    assert ("needs_later_esp_dl" in found) is is_fused
    assert ("espdl_attention_fusion is set to false" in found.get("setting_changed", "")) is (
        not is_fused
    )
    assert ("newer than 3.3.9" in found.get("setting_changed", "")) is (key == "3.4.0")
    if is_fused:
        (doubt,) = (each for each in report.findings if each.code == "needs_later_esp_dl")
        assert "Attention needs an ESP-DL later than 3.3.9" in doubt.message
        assert "--esp-dl-version 3.3.9 sees to it" in SHELL.spell(doubt.hint)


def test_a_resize_in_a_model_of_16_bits_has_8(tmp_path: Path) -> None:
    found = told(examined(tmp_path, "upsampled", num_of_bits=16))
    assert "8 bits to /Resize (Resize)" in found["setting_changed"]
