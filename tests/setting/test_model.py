import copy
import json
from pathlib import Path
from typing import Any

import pytest

from espdl_quantize.core import SettingError
from espdl_quantize.setting import baseline, json_schema, load_setting, parse_setting

FULL: dict[str, Any] = {
    "iteration_id": 4,
    "rationale": "all at once",
    "calib_algorithm": "Percentile",
    "equalization": {
        "enabled": True,
        "iterations": 10,
        "value_threshold": 0.5,
        "opt_level": 2,
        "including_bias": False,
        "including_act": False,
        "interested_layers": None,
    },
    "bias_correct": {"enabled": True, "block_size": 4, "steps": 32, "interested_layers": []},
    "weight_split": {
        "enabled": True,
        "interested_layers": ["/conv"],
        "value_threshold": 1.5,
        "method": "balance",
    },
    "tqt_optimization": {
        "enabled": True,
        "lr": 1e-5,
        "steps": 500,
        "block_size": 4,
        "is_scale_trainable": True,
        "gamma": 0.0,
        "int_lambda": 0,
        "collecting_device": "cuda",
        "interested_layers": None,
    },
    "blockwise_reconstruction": {"enabled": False},
    "fusion_alignment": {
        "align_elementwise_to": "Align to Large",
        "align_concat_to": "Align to Output",
        "align_avgpooling_to": "None",
        "align_resize_to": "Align to Input",
        "force_alignment_overlap": False,
    },
    "dispatching_table": [{"op": "/a", "bits": 16}, {"op_name": "/b", "bits": 8}],
    "extra": {"lut_optimization": False},
}


def test_the_whole_schema_is_read_and_the_payload_kept() -> None:
    payload = copy.deepcopy(FULL)
    setting = parse_setting(payload)
    assert payload == FULL
    assert setting.calib_algorithm == "percentile"
    assert setting.dispatching_table is not None
    assert [entry.op for entry in setting.dispatching_table] == ["/a", "/b"]
    assert setting.bias_correct is not None
    assert setting.bias_correct.interested_layers is None


def test_what_was_read_can_be_written_and_read_again() -> None:
    setting = parse_setting(FULL)
    again = parse_setting(json.loads(setting.model_dump_json(exclude_unset=True)))
    assert again == setting


@pytest.mark.parametrize("wrong", [True, -1, "0", 1.0, None])
def test_an_iteration_id_is_an_int_from_zero(wrong: object) -> None:
    with pytest.raises(SettingError, match="iteration_id"):
        parse_setting({"iteration_id": wrong})


@pytest.mark.parametrize(
    ("payload", "message"),
    [
        ({"tqt_optimisation": {}}, "tqt_optimisation.*did you mean 'tqt_optimization'"),
        ({"tqt": {}}, "'tqt'.*did you mean 'tqt_optimization'"),
        ({"tqt_optimization": {"learning_rate": 1}}, "tqt_optimization.learning_rate"),
        ({"tqt_optimization": {"step": 1}}, "tqt_optimization.step'.*did you mean 'steps'"),
        ({"dispatching_table": [{"op": "a", "bit": 8}]}, "dispatching_table.0.bit.*'bits'"),
        ({"dispatching_table": [{"op": "a", "bits": 4}]}, "4"),
        ({"calib_algorithm": "klx"}, "klx"),
        ({"equalization": {"opt_level": 3}}, "opt_level"),
        ({"fusion_alignment": {"align_resize_to": "Align to Large"}}, "Align to Input"),
        ({"lsq_optimization": {"int_lambda": 0.1}}, "int_lambda"),
    ],
)
def test_a_wrong_field_is_named_with_the_nearest_valid_one(
    payload: dict[str, Any], message: str
) -> None:
    with pytest.raises(SettingError, match=message) as caught:
        parse_setting({"iteration_id": 0, **payload})
    assert caught.value.exit_code == 4


def test_every_fault_is_told_at_once() -> None:
    with pytest.raises(SettingError) as caught:
        parse_setting({"bogus": 1, "calib_algorithm": 3})
    text = str(caught.value)
    assert all(word in text for word in ("bogus", "calib_algorithm", "iteration_id"))


def test_a_file_that_is_no_setting_is_named(tmp_path: Path) -> None:
    with pytest.raises(SettingError, match=r"nothing\.json"):
        load_setting(tmp_path / "nothing.json")
    (tmp_path / "list.json").write_text("[]")
    with pytest.raises(SettingError, match="list"):
        load_setting(tmp_path / "list.json")
    (tmp_path / "broken.json").write_text('{"iteration_id": ')
    with pytest.raises(SettingError, match=r"broken\.json is not JSON"):
        load_setting(tmp_path / "broken.json")


def test_the_schema_names_every_field_and_refuses_others() -> None:
    schema = json.loads(json_schema())
    assert set(schema["properties"]) >= set(FULL)
    assert schema["additionalProperties"] is False
    assert schema["required"] == ["iteration_id"]


def test_the_baseline_changes_nothing() -> None:
    assert baseline(3).model_dump(exclude_unset=True, exclude={"rationale"}) == {
        "iteration_id": 3,
        "calib_algorithm": "kl",
    }
