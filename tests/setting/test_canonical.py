from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from espdl_quantize.setting import (
    Setting,
    baseline,
    canonical,
    diff,
    parse_setting,
    setting_key,
    with_calibration,
)


def setting(**fields: Any) -> Setting:
    return parse_setting({"iteration_id": 7, **fields})


def test_a_calibration_that_is_not_named_depends_on_the_width() -> None:
    unnamed = setting()
    for bits, name in ((8, "kl"), (16, "minmax")):
        assert canonical(unnamed, bits)["calib_algorithm"] == name
        assert setting_key(unnamed, bits) == setting_key(setting(calib_algorithm=name), bits)
        assert with_calibration(unnamed, bits).calib_algorithm == name
        assert with_calibration(setting(calib_algorithm="mse"), bits).calib_algorithm == "mse"
        assert baseline(3, bits).calib_algorithm == name
        assert name in baseline(3, bits).rationale
    assert setting_key(unnamed, 8) != setting_key(unnamed, 16)
    assert baseline(3, None).calib_algorithm is None


@pytest.mark.parametrize(
    ("left", "right"),
    [
        ({}, {"calib_algorithm": "kl"}),
        ({}, {"tqt_optimization": {"enabled": False, "steps": 3}}),
        ({}, {"fusion_alignment": {}, "dispatching_table": [], "extra": {}}),
        (
            {"tqt_optimization": {"enabled": True}},
            {"tqt_optimization": {"enabled": True, "lr": 1e-5}},
        ),
        (
            {"dispatching_table": [{"op": "a", "bits": 16}, {"op": "b", "bits": 16}]},
            {"dispatching_table": [{"op": "b", "bits": 16}, {"op": "a", "bits": 16}]},
        ),
        (
            {"tqt_optimization": {"enabled": True, "collecting_device": "cpu"}},
            {"tqt_optimization": {"enabled": True, "collecting_device": "cuda"}},
        ),
        (
            {},
            {"fusion_alignment": {"align_elementwise_to": "Align to Output"}},
        ),
        (
            {"fusion_alignment": {"align_concat_to": "Align to Large"}},
            {
                "fusion_alignment": {
                    "align_concat_to": "Align to Large",
                    "align_avgpooling_to": "None",
                    "force_alignment_overlap": False,
                }
            },
        ),
        ({}, {"extra": {"fusion_setting": {"align_resize_to": "Align to Output"}}}),
        ({}, {"extra": {"quantize_activation_setting.calib_algorithm": "kl"}}),
        (
            {"extra": {"fusion_setting": {"align_quantization": False}}},
            {"extra": {"fusion_setting.align_quantization": False}},
        ),
    ],
)
def test_settings_that_quantize_alike_have_one_key(
    left: dict[str, Any], right: dict[str, Any]
) -> None:
    assert setting_key(setting(**left)) == setting_key(setting(**right))
    assert diff(setting(**left), setting(**right)) == []


def test_id_and_rationale_do_not_count() -> None:
    assert canonical(setting(rationale="x")) == canonical(baseline())


def test_turning_a_pass_on_is_one_change() -> None:
    tqt = {"enabled": True, "steps": 500}
    on = diff(baseline(), setting(tqt_optimization=tqt))
    assert [change.path for change in on] == ["tqt_optimization"]
    longer = diff(
        setting(tqt_optimization=tqt), setting(tqt_optimization={**tqt, "steps": 1000, "lr": 5e-5})
    )
    assert [(change.path, change.before, change.after) for change in longer] == [
        ("tqt_optimization.lr", 1e-5, 5e-5),
        ("tqt_optimization.steps", 500, 1000),
    ]


sections = st.fixed_dictionaries(
    {},
    optional={
        "calib_algorithm": st.sampled_from(["kl", "mse", "percentile"]),
        "tqt_optimization": st.fixed_dictionaries(
            {"enabled": st.booleans(), "steps": st.sampled_from([500, 1000])}
        ),
        "bias_correct": st.fixed_dictionaries({"enabled": st.booleans()}),
        "dispatching_table": st.lists(
            st.fixed_dictionaries({"op": st.sampled_from("abc"), "bits": st.just(16)})
        ),
    },
)


@given(sections, sections)
def test_no_difference_is_the_same_as_an_equal_key(
    left: dict[str, Any], right: dict[str, Any]
) -> None:
    first, second = setting(**left), setting(**right)
    assert (diff(first, second) == []) == (setting_key(first) == setting_key(second))
    mirrored = [(c.path, c.after, c.before) for c in diff(second, first)]
    assert [(c.path, c.before, c.after) for c in diff(first, second)] == mirrored
