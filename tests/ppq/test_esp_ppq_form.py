"""A setting that esp-ppq saved quantizes as esp-ppq would have it."""

import copy
import json
from importlib import resources
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from espdl_quantize.core import SettingError
from espdl_quantize.setting import load_setting, parse_setting
from espdl_quantize.setting.esp_ppq_form import WIDTHS

FILE = resources.files("espdl_quantize.setting") / "esp_ppq_setting.json"
DEFAULTS: dict[str, Any] = json.loads(FILE.read_text(encoding="utf-8"))
PASSES = {
    "equalization": ("opt_level", "iterations", "value_threshold", "bias_multiplier"),
    "bias_correct": ("block_size", "steps", "interested_layers"),
    "weight_split": ("interested_layers", "value_threshold"),
    "tqt_optimization": ("lr", "steps", "block_size", "gamma", "int_lambda", "interested_layers"),
    "blockwise_reconstruction": ("lr", "steps", "block_size", "gamma"),
}
LAYERS = st.lists(st.sampled_from(["/conv1/Conv", "/fc/Gemm"]), unique=True, min_size=1)
VALUES: dict[str, st.SearchStrategy[Any]] = {
    "opt_level": st.sampled_from([1, 2]),
    "iterations": st.integers(1, 100),
    "value_threshold": st.floats(0.1, 4),
    "bias_multiplier": st.floats(0, 1),
    "block_size": st.integers(1, 6),
    "steps": st.integers(1, 5000),
    "lr": st.floats(1e-6, 1e-2),
    "gamma": st.floats(0, 1),
    "int_lambda": st.floats(0, 1),
    "interested_layers": LAYERS,
}


@st.composite
def saved(draw: st.DrawFn) -> dict[str, Any]:
    """Return what ``to_json`` writes of a setting that somebody changed."""
    form = copy.deepcopy(DEFAULTS)
    for name, fields in PASSES.items():
        form[name] = draw(st.booleans())
        for field in draw(st.sets(st.sampled_from(fields))):
            form[f"{name}_setting"][field] = draw(VALUES[field])
    if form["weight_split"]:
        form["weight_split_setting"]["interested_layers"] = draw(LAYERS)
    algorithms = st.sampled_from(["kl", "minmax", "percentile", "mse"])
    form["quantize_activation_setting"]["calib_algorithm"] = draw(algorithms)
    form["quantize_parameter_setting"]["calib_algorithm"] = draw(st.none() | algorithms)
    for group in ("quantize_activation_setting", "quantize_parameter_setting"):
        form[group]["calib_algorithm_per_layer"] = {op: draw(algorithms) for op in draw(LAYERS)}
    form["dispatching_table"]["dispatchings"]["/fc/Gemm"] = draw(st.sampled_from([553, 554]))
    form["fusion_setting"]["align_concat_to"] = draw(st.sampled_from(["None", "Align to Large"]))
    form["fusion_setting"]["fuse_activation"] = draw(st.booleans())
    form["lut_optimization_setting"]["step"] = draw(st.sampled_from([16, 32]))
    form["dispatcher"] = draw(st.sampled_from(["allin", "conservative"]))
    return form


def test_the_defaults_and_platforms_are_the_installed_ones() -> None:
    from esp_ppq.api.setting import QuantizationSettingFactory
    from esp_ppq.core import TargetPlatform

    assert json.loads(QuantizationSettingFactory.espdl_setting().to_json()) == DEFAULTS
    names = {TargetPlatform(number).name: width for number, width in WIDTHS.items()}
    for name, width in names.items():
        assert name.startswith("ESPDL_") and name.endswith(
            f"{'W8A16' if width == 'w8a16' else f'INT{width}'}"
        )
        assert "H_PRE" not in name


@settings(max_examples=60, deadline=None)
@given(saved())
def test_it_comes_to_the_same_setting_of_esp_ppq(form: dict[str, Any]) -> None:
    from espdl_quantize.ppq._quantize import to_esp_ppq

    ours, warnings = to_esp_ppq(parse_setting(form), "esp32s3", 8)
    assert warnings == []
    made = json.loads(ours.to_json())
    wanted = copy.deepcopy(form)
    examples = DEFAULTS["dispatching_table"]["dispatchings"]
    table = wanted["dispatching_table"]["dispatchings"]
    wanted["dispatching_table"]["dispatchings"] = {
        op: number for op, number in table.items() if op not in examples
    }
    for name in PASSES:
        if not form[name]:
            # What a pass that is off would do.
            wanted[f"{name}_setting"] = made[f"{name}_setting"]
    assert made == wanted


def test_the_default_changes_nothing(tmp_path: Path) -> None:
    path = tmp_path / "quant_setting.json"
    path.write_text(json.dumps(DEFAULTS))
    assert load_setting(path).model_dump(exclude_none=True) == {
        "iteration_id": 0,
        "rationale": "",
        "calib_algorithm": "kl",
    }


def test_no_name_of_a_calibration_is_the_quantizers_own() -> None:
    form = copy.deepcopy(DEFAULTS)
    form["quantize_activation_setting"]["calib_algorithm"] = None
    form["dispatching_table"]["dispatchings"]["a"] = 552
    setting = parse_setting({**form, "iteration_id": 7, "rationale": "mine"})
    assert setting.iteration_id == 7 and setting.rationale == "mine"
    assert setting.calib_algorithm == "percentile"
    assert setting.calib_algorithm_per_layer == {"a": "minmax"}


@pytest.mark.parametrize(
    ("path", "value", "told"),
    [
        ("tqt_optimisation", True, "no 'tqt_optimisation', did you mean 'tqt_optimization'"),
        ("tqt_optimization_setting.stepz", 1, "did you mean 'steps'"),
        ("tqt_optimization", {"enabled": True}, "'tqt_optimization' is"),
        ("tqt_optimization_setting", 3, "not an object"),
        ("equalization", 1, "'equalization' is 1"),
        ("equalization_setting.iterations", "10", "'10'"),
        ("quantize_activation_setting.calib_algorithm", 3, "'quantize_activation_setting"),
        ("quantize_activation_setting.calib_algorithm", "magic", "magic"),
        ("dispatching_table.dispatchings", {"/fc/Gemm": 0}, "'/fc/Gemm' to platform 0"),
        ("dispatching_table.dispatchings", {"/fc/Gemm": True}, "platform True"),
        ("dispatching_table", [], "no object 'dispatchings'"),
        (
            "quantize_parameter_setting.clip_visiblity",
            {"__ppq_enum__": "QuantizationVisibility", "name": "INTERNAL"},
            "EXPORT_WHEN_ACTIVE",
        ),
        ("graph_format_setting.fuse_conv_bn", None, "fuse_conv_bn"),
        ("lut_optimization_setting.step", float("nan"), "no finite number"),
    ],
)
def test_what_is_unknown_is_refused_by_name(path: str, value: Any, told: str) -> None:
    form = copy.deepcopy(DEFAULTS)
    *parents, last = path.split(".")
    place = form
    for parent in parents:
        place = place[parent]
    place[last] = value
    if path == "tqt_optimization":
        form["tqt_optimization_setting"] = {}
    with pytest.raises(SettingError, match=r".") as refused:
        parse_setting(form)
    assert told in str(refused.value)
