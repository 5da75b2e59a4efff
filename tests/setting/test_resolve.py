from typing import Any

import pytest

from espdl_quantize.core import SettingError
from espdl_quantize.setting import ResolvedSetting, parse_setting, resolve, unknown_op_warnings
from espdl_quantize.targets import TargetFacts

S3 = TargetFacts("esp32s3", 8, True, False, "half-up", 20)
P4 = TargetFacts("esp32p4", 8, True, True, "half-even", 32)
FREE_SCALES = TargetFacts("other", 8, False, False, "half-even", 32)


def resolved(target: TargetFacts = S3, device: str = "cpu", **fields: Any) -> ResolvedSetting:
    return resolve(parse_setting({"iteration_id": 0, **fields}), target, device)


def test_lsq_is_off_under_power_of_two_scales() -> None:
    result = resolved(lsq_optimization={"enabled": True})
    assert result.setting.lsq_optimization is not None
    assert not result.setting.lsq_optimization.enabled
    assert "tqt_optimization" in result.warnings[0]


def test_lsq_runs_where_scales_are_free() -> None:
    result = resolved(FREE_SCALES, lsq_optimization={"enabled": True})
    assert result.setting.lsq_optimization is not None
    assert result.setting.lsq_optimization.enabled
    assert result.warnings == ()


def test_isotone_is_refused_where_scales_are_powers_of_two() -> None:
    with pytest.raises(SettingError, match="esp32s3 has no others"):
        resolved(calib_algorithm="isotone")
    assert resolved(FREE_SCALES, calib_algorithm="isotone").warnings == ()


@pytest.mark.parametrize("other", ["tqt_optimization", "blockwise_reconstruction"])
def test_lsq_excludes_the_other_training_passes(other: str) -> None:
    with pytest.raises(SettingError, match=f"lsq_optimization and {other}"):
        resolved(S3, "cpu", **{name: {"enabled": True} for name in ("lsq_optimization", other)})


def test_tqt_and_blockwise_run_together() -> None:
    result = resolved(
        tqt_optimization={"enabled": True}, blockwise_reconstruction={"enabled": True}
    )
    assert result.warnings == ()


def test_blockwise_scales_are_frozen_under_power_of_two() -> None:
    result = resolved(blockwise_reconstruction={"enabled": True, "is_scale_trainable": True})
    assert result.setting.blockwise_reconstruction is not None
    assert result.setting.blockwise_reconstruction.is_scale_trainable is False
    assert "is_scale_trainable" in result.warnings[0]


def test_equalization_warns_on_per_channel_weights_and_runs() -> None:
    result = resolved(P4, equalization={"enabled": True, "opt_level": 2})
    assert len(result.warnings) == 1
    assert "per channel" in result.warnings[0]
    assert result.setting.equalization is not None
    assert result.setting.equalization.enabled
    assert resolved(S3, equalization={"enabled": True, "opt_level": 2}).warnings == ()


def test_equalization_without_a_level_warns_of_skipped_chains() -> None:
    assert "Add or Sub" in resolved(equalization={"enabled": True}).warnings[0]
    assert resolved(equalization={"enabled": True, "opt_level": 1}).warnings == ()


@pytest.mark.parametrize("layers", [None, []])
def test_a_weight_split_needs_layers(layers: object) -> None:
    with pytest.raises(SettingError, match="weight_split"):
        resolved(weight_split={"enabled": True, "interested_layers": layers})


def test_a_section_that_is_not_enabled_is_told() -> None:
    assert "tqt_optimization" in resolved(tqt_optimization={"steps": 3}).warnings[0]
    assert resolved(tqt_optimization={"enabled": False}).warnings == ()


@pytest.mark.parametrize(
    ("asked", "device", "got", "warned"),
    [
        (None, "cpu", "cpu", False),
        (None, "cuda", "cuda", False),
        ("cuda", "cpu", "cpu", True),
        ("cpu", "cuda", "cpu", False),
        ("executor", "cpu", "executor", False),
    ],
)
def test_training_data_is_kept_where_the_device_allows(
    asked: str | None, device: str, got: str, warned: bool
) -> None:
    section = {"enabled": True, "collecting_device": asked}
    result = resolved(S3, device, tqt_optimization=section)
    assert result.setting.tqt_optimization is not None
    assert result.setting.tqt_optimization.collecting_device == got
    assert bool(result.warnings) is warned


def test_the_setting_that_was_asked_for_is_not_changed() -> None:
    asked = parse_setting({"iteration_id": 0, "lsq_optimization": {"enabled": True}})
    resolve(asked, S3)
    assert asked.lsq_optimization is not None
    assert asked.lsq_optimization.enabled


def test_unknown_ops_are_named_with_the_nearest_ones() -> None:
    setting = parse_setting(
        {
            "iteration_id": 0,
            "dispatching_table": [{"op": "/head/Gem", "bits": 16}, {"op": "/stem/Conv", "bits": 8}],
            "bias_correct": {"enabled": True, "interested_layers": ["zzz"]},
            "tqt_optimization": {"enabled": False, "interested_layers": ["off"]},
        }
    )
    warnings = unknown_op_warnings(setting, ["/stem/Conv", "/head/Gemm"])
    assert len(warnings) == 2
    assert "'/head/Gem'" in warnings[0]
    assert "/head/Gemm" in warnings[0].split(";")[1]
    assert "bias_correct.interested_layers" in warnings[1]
