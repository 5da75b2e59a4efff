"""What of a setting is changed for ops that ESP-DL lacks."""

from typing import Any

import pytest

from espdl_quantize.core import SettingError
from espdl_quantize.setting import ResolvedSetting, fit_to_model, parse_setting, resolve
from espdl_quantize.targets import TargetFacts
from espdl_quantize.targets.ops import Version, lacks_16_bits, oldest_version, op_table

NEWEST = op_table().version
LATER = (NEWEST[0], NEWEST[1] + 1, 0)
ATTENTION = {"q": "MatMul", "soft": "Softmax", "v": "MatMul", "conv": "Conv"}
RESIZED = {"conv": "Conv", "up": "Resize", "curve": "Gelu"}


def fitted(
    ops: dict[str, str], esp_dl: Version | None = None, bits: int = 8, **fields: Any
) -> ResolvedSetting:
    target = TargetFacts("esp32p4", bits, True, True, "half-even", 32)
    resolved = resolve(parse_setting({"iteration_id": 0, **fields}), target, esp_dl=esp_dl)
    return fit_to_model(resolved, ops, target, esp_dl=esp_dl)


@pytest.mark.parametrize("extra", [None, {}, {"espdl_attention_fusion": True}, {"fusion": True}])
def test_attention_is_not_fused_for_a_version_without_it(extra: Any) -> None:
    result = fitted(ATTENTION, NEWEST, extra=extra)
    assert result.setting.extra == {**(extra or {}), "espdl_attention_fusion": False}
    (warning,) = result.warnings
    assert "3.3.9 has no Attention" in warning


@pytest.mark.parametrize(
    ("ops", "version", "extra"),
    [
        (ATTENTION, None, None),
        (ATTENTION, LATER, None),
        (ATTENTION, NEWEST, {"espdl_attention_fusion": False}),
        ({"soft": "Softmax", "v": "MatMul"}, NEWEST, None),
        ({"a": "MatMul", "b": "MatMul"}, NEWEST, None),
        ({}, NEWEST, None),
    ],
)
def test_else_the_setting_stays(ops: dict[str, str], version: Version | None, extra: Any) -> None:
    result = fitted(ops, version, extra=extra)
    assert result.setting.extra == extra
    assert not any("espdl_attention_fusion" in warning for warning in result.warnings)


def test_a_version_that_nobody_has_looked_at_is_named() -> None:
    (warning,) = fitted({}, LATER).warnings
    assert "ESP-DL 3.4.0 is newer than 3.3.9" in warning
    assert fitted({}, NEWEST).warnings == fitted({}).warnings == ()


@pytest.mark.parametrize(
    ("fields", "named"),
    [
        ({"width": "w8a16"}, "width is 'w8a16'"),
        ({"dispatching_table": [{"op": "c", "bits": "w8a16"}]}, r"dispatching_table\['c'\] is"),
    ],
)
def test_w8a16_is_refused_for_a_version_without_it(fields: Any, named: str) -> None:
    with pytest.raises(SettingError, match=named) as raised:
        fitted({}, NEWEST, **fields)
    assert "ESP-DL 3.3.9" in str(raised.value)
    for version in (None, LATER):
        assert any("w8a16" in warning for warning in fitted({}, version, **fields).warnings)


@pytest.mark.parametrize(("bits", "width"), [(16, None), (8, 16), (8, "w8a16")])
def test_what_has_8_bits_alone_gets_them_in_a_model_of_16(bits: int, width: Any) -> None:
    result = fitted(RESIZED, bits=bits, width=width)
    table = {entry.op: entry.bits for entry in result.setting.dispatching_table or []}
    assert table == {"up": 8, "curve": 8}
    assert "8 bits to up (Resize), curve (Gelu)" in result.warnings[-1]


def test_a_width_that_was_asked_for_stays() -> None:
    asked = [{"op": "up", "bits": 16}, {"op": "curve", "bits": 8}]
    result = fitted(RESIZED, bits=16, dispatching_table=asked)
    assert result.warnings == ()
    assert [entry.bits for entry in result.setting.dispatching_table or []] == [16, 8]
    for bits, width in ((8, None), (16, 8)):
        assert fitted(RESIZED, bits=bits, width=width).setting.dispatching_table is None


def test_the_table_of_ops_says_what_lacks_16_bits() -> None:
    assert lacks_16_bits() == {"Resize", "Gelu"}
    assert oldest_version() == (3, 0, 0)
