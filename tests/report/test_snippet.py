from __future__ import annotations

import types
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from espdl_quantize.record import read_history
from espdl_quantize.report import python_snippet
from espdl_quantize.report._snippet import LOWERED, NOT_LOWERED, how_exact
from espdl_quantize.setting import baseline
from tests.search.made_runs import EQUALIZED, SWEEP, make, swept, tqt, trained, write_history

EVERYTHING = {
    "calib_algorithm": "percentile",
    "equalization": EQUALIZED,
    "bias_correct": {"enabled": True, "steps": 16},
    "weight_split": {"enabled": True, "interested_layers": ["c'1"], "value_threshold": 1.5},
    "tqt_optimization": tqt(lr=5e-5, steps=2000, block_size=2, collecting_device="cuda"),
    "blockwise_reconstruction": {"enabled": True},
    "fusion_alignment": {"align_elementwise_to": "Align to Large"},
    "dispatching_table": [{"op": "a/Conv", "bits": 16}, {"op": 'q"\\\n', "bits": 8}],
    "extra": {"lut_optimization": False, "graph_format_setting": {"fuse_swish": False}, "a b": 1},
}


class Group(types.SimpleNamespace):
    """Attributes that may be set, created on first use."""

    def __getattr__(self, name: str) -> Any:
        if name.startswith("__"):
            raise AttributeError(name)
        made = Group()
        setattr(self, name, made)
        return made


def execute(code: str, monkeypatch: pytest.MonkeyPatch) -> Any:
    """Run a snippet against stand-ins for esp-ppq's modules."""
    import sys

    built = Group(bits=None)
    built.table = {}
    built.dispatching_table = types.SimpleNamespace(append=built.table.__setitem__)

    def espdl_setting(num_of_bits: int) -> Any:
        built.bits = num_of_bits
        return built

    factory = types.SimpleNamespace(espdl_setting=espdl_setting)
    api = types.ModuleType("esp_ppq.api")
    vars(api)["get_target_platform"] = lambda target, bits: (target, bits)
    settings = types.ModuleType("esp_ppq.api.setting")
    vars(settings)["QuantizationSettingFactory"] = factory
    for name, module in (
        ("esp_ppq", types.ModuleType("esp_ppq")),
        ("esp_ppq.api", api),
        ("esp_ppq.api.setting", settings),
    ):
        monkeypatch.setitem(sys.modules, name, module)
    exec(compile(code, "snippet", "exec"), {})
    return built


def test_every_field_arrives_at_the_attribute_of_esp_ppq(monkeypatch: pytest.MonkeyPatch) -> None:
    built = execute(python_snippet(make(**EVERYTHING), "esp32s3", 8), monkeypatch)
    assert built.bits == 8
    assert built.quantize_activation_setting.calib_algorithm == "percentile"
    assert built.equalization is True
    assert built.equalization_setting.opt_level == 2
    assert built.bias_correct_setting.steps == 16
    assert built.weight_split_setting.interested_layers == ["c'1"]
    assert built.tqt_optimization is True
    tuned = built.tqt_optimization_setting
    assert (tuned.lr, tuned.steps, tuned.block_size) == (5e-5, 2000, 2)
    assert (tuned.int_lambda, tuned.collecting_device) == (0.0, "cuda")
    assert built.blockwise_reconstruction_setting.collecting_device == "cpu"
    assert built.blockwise_reconstruction_setting.gamma == 1.0
    assert built.fusion_setting.align_elementwise_to == "Align to Large"
    assert built.table == {"a/Conv": ("esp32s3", 16), 'q"\\\n': ("esp32s3", 8)}
    assert built.lut_optimization is False
    assert built.graph_format_setting.fuse_swish is False
    assert "lsq_optimization" not in vars(built)


def test_interested_layers_that_mean_all_are_left_to_esp_ppq(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    built = execute(python_snippet(trained(), "c"), monkeypatch)
    assert "interested_layers" not in vars(built.tqt_optimization_setting)


def test_a_baseline_is_three_lines() -> None:
    code = python_snippet(baseline(), "esp32p4", 16)
    assert "espdl_setting(num_of_bits=16)" in code
    assert "calib_algorithm = 'kl'" in code
    assert "get_target_platform" not in code


@pytest.mark.parametrize("name", ["x\nimport os", "x'); import os; ('", "a```b", "\u2028", "<b>"])
def test_names_cannot_become_code(name: str, monkeypatch: pytest.MonkeyPatch) -> None:
    setting = trained(
        dispatching_table=[{"op": name, "bits": 16}], extra={name: name, "ok": {name: [name]}}
    )
    code = python_snippet(setting, name)
    assert "\nimport os" not in code
    assert "```" not in code
    assert execute(code, monkeypatch).table == {name: (name, 16)}


def test_attribute_names_are_those_of_the_installed_esp_ppq() -> None:
    """Read as text: importing esp-ppq would import torch."""
    import importlib.util
    from pathlib import Path

    spec = importlib.util.find_spec("esp_ppq")
    if spec is None or not spec.submodule_search_locations:
        pytest.skip("esp-ppq is not installed")
    source = (Path(spec.submodule_search_locations[0]) / "api" / "setting.py").read_text("utf-8")
    code = python_snippet(
        make(**{key: value for key, value in EVERYTHING.items() if key != "extra"}), "c"
    )
    for line in code.splitlines():
        if line.startswith("setting.") and " = " in line:
            path = line.split(" = ")[0].removeprefix("setting.")
            assert all(f"self.{part} = " in source for part in path.split(".")), path
    assert "def espdl_setting(num_of_bits" in source


def test_weights_that_the_script_does_not_lower_are_named(tmp_path: Path) -> None:
    (first, *_) = read_history(write_history(tmp_path / "outputs", swept(*SWEEP))).iterations
    assert NOT_LOWERED not in how_exact(first)
    warning = f"op 'a': the weights of channel 3 {LOWERED}"
    assert NOT_LOWERED in how_exact(replace(first, warnings=("else", warning)))
