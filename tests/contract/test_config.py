import pytest

from espdl_quantize.contract._config import parse_config, unknown_keys

TARGETS = ("c", "esp32p4", "esp32s3")
VALID = {
    "model_type": "torch",
    "input_shape": [3, 32, 32],
    "batch_size": 8,
    "target": "esp32s3",
    "num_of_bits": 8,
    "device": "cpu",
    "calib_steps": 4,
    "primary_metric": "top1",
    "metric_direction": "max",
}


def test_defaults_are_those_of_the_contract() -> None:
    config, faults = parse_config(VALID, TARGETS)
    assert faults == []
    assert config is not None
    assert config.analyse_steps == 8
    assert config.top_k_layers == 20
    assert config.non_computing_top_k == 10
    assert config.graphwise_intervening_excess_threshold == 0.02
    assert config.deploy_runtime_priority == "balanced"
    assert config.target_metric is None


def test_a_drop_beside_a_target_is_a_fault() -> None:
    config, faults = parse_config({**VALID, "max_drop": 1, "target_metric": 70.0}, TARGETS)
    assert config is None
    (fault,) = faults
    assert fault.key == 'QUANT_CONFIG["max_drop"]'
    assert "target_metric 70.0" in fault.found
    for one in ({"max_drop": 0}, {"target_metric": 70.0}, {"max_drop": 1.5, "target_metric": None}):
        assert parse_config({**VALID, **one}, TARGETS)[1] == []


@pytest.mark.parametrize("given", ["3.3.9", "v3.3.9", " 3.3.9 ", "3.4.0", "3.0.0"])
def test_a_version_of_esp_dl_is_read(given: str) -> None:
    config, faults = parse_config({**VALID, "esp_dl_version": given}, TARGETS)
    assert faults == []
    assert config is not None
    assert config.esp_dl_version == given.strip().removeprefix("v")
    assert config.esp_dl == tuple(map(int, config.esp_dl_version.split(".")))
    plain, _ = parse_config({**VALID, "esp_dl_version": None}, TARGETS)
    assert plain is not None
    assert plain.esp_dl is None


@pytest.mark.parametrize(
    "wrong", ["3", "3.3", "abc", "", "3.3.9-rc1", "3.3.9.1", "2.9.9", "99999.0.0", 3.3, (3, 3, 9)]
)
def test_what_is_no_version_of_esp_dl_is_named(wrong: object) -> None:
    config, (fault,) = parse_config({**VALID, "esp_dl_version": wrong}, TARGETS)
    assert config is None
    assert fault.key == 'QUANT_CONFIG["esp_dl_version"]'
    assert repr(wrong) in fault.found
    assert "three numbers from 3.0.0 on" in fault.expected


def test_every_missing_key_is_reported_at_once() -> None:
    config, faults = parse_config({}, TARGETS)
    assert config is None
    assert {fault.key for fault in faults} == {f'QUANT_CONFIG["{key}"]' for key in VALID}
    assert {fault.found for fault in faults} == {"nothing"}


@pytest.mark.parametrize(
    ("key", "wrong"),
    [
        ("model_type", "tensorflow"),
        ("input_shape", [3, "x", 32]),
        ("input_shape", []),
        ("input_shape", [3, 0, 32]),
        ("input_shape", 224),
        ("batch_size", "8"),
        ("batch_size", True),
        ("batch_size", 0),
        ("target", "esp32s9"),
        ("target", 3),
        ("num_of_bits", 4),
        ("device", "gpu"),
        *(
            (f"max_{what}", wrong)
            for what in ("latency_ms", "ram_kb", "flash_kb")
            for wrong in (0, "5")
        ),
        *((f"max_{what}", wrong) for what in ("latency_ms", "drop") for wrong in (-1, True, [5])),
        ("max_latency_ms", float("nan")),
        ("max_drop", float("inf")),
        ("max_drop", "1"),
        ("calib_steps", 1),
        ("calib_steps", 5001),
        ("batch_axis", True),
        ("batch_axis", -1),
        ("batch_axis", 4),
        ("batch_axis", None),
        ("batch_axis", [0, 0]),
        ("batch_axis", {"state": 1}),
        ("input_shape", {}),
        ("input_shape", {"": [3]}),
        ("input_shape", {"x": 3}),
        ("calib_steps", 1.5),
        ("primary_metric", ""),
        ("metric_direction", "up"),
        ("metric_direction", b"max"),
        ("metric_unit", 1),
        ("target_metric", "high"),
        ("target_metric", float("nan")),
        ("analyse_steps", 0),
        ("top_k_layers", -1),
        ("deploy_runtime_priority", "fast"),
        ("deploy_runtime_priority", None),
        ("graphwise_intervening_excess_threshold", float("inf")),
    ],
)
def test_a_wrong_value_is_named_with_what_is_expected(key: str, wrong: object) -> None:
    config, faults = parse_config({**VALID, key: wrong}, TARGETS)
    assert config is None
    assert len(faults) == 1
    assert faults[0].key == f'QUANT_CONFIG["{key}"]'
    assert repr(wrong) in faults[0].found
    assert faults[0].expected
    assert faults[0].example


def test_a_misspelled_key_is_shown_for_the_missing_one() -> None:
    payload = {key: value for key, value in VALID.items() if key != "calib_steps"}
    _, faults = parse_config({**payload, "calib_step": 4}, TARGETS)
    assert faults[0].key == 'QUANT_CONFIG["calib_steps"]'
    assert faults[0].found == "nothing; the unknown key 'calib_step' looks like it"


def test_a_wrong_value_is_shown_whatever_other_keys_there_are() -> None:
    _, faults = parse_config({**VALID, "calib_steps": 0, "calib_step": 4}, TARGETS)
    assert faults[0].found == "0 (int)"


def test_keys_of_other_tools_are_ignored_but_told() -> None:
    payload = {**VALID, "learning_rate": 3}
    config, faults = parse_config(payload, TARGETS)
    assert config is not None
    assert not faults
    assert unknown_keys(payload) == ["learning_rate"]


def test_an_onnx_model_needs_its_path() -> None:
    _, faults = parse_config({**VALID, "model_type": "onnx"}, TARGETS)
    assert [fault.key for fault in faults] == ['QUANT_CONFIG["onnx_path"]']


def test_shapes_may_be_tuples_and_more_than_one() -> None:
    config, _ = parse_config({**VALID, "input_shape": (3, 32, 32)}, TARGETS)
    assert config is not None
    assert config.input_shapes == [[3, 32, 32]]
    config, _ = parse_config({**VALID, "input_shape": [(3, 8, 8), [10]]}, TARGETS)
    assert config is not None
    assert config.input_shapes == [[3, 8, 8], [10]]


def test_a_chip_name_may_be_in_capitals() -> None:
    config, _ = parse_config({**VALID, "target": "ESP32-S3".replace("-", "")}, TARGETS)
    assert config is not None
    assert config.target == "esp32s3"


@pytest.mark.parametrize("payload", [None, [], "x"])
def test_a_config_that_is_no_dict_is_one_fault(payload: object) -> None:
    config, faults = parse_config(payload, TARGETS)
    assert config is None
    assert [fault.key for fault in faults] == ["QUANT_CONFIG"]


@pytest.mark.parametrize(
    ("shapes", "axes", "expected"),
    [
        ([3, 32], 0, [(None, [7, 3, 32])]),
        ([3, 32], 1, [(None, [3, 7, 32])]),
        ([[28], [2, 16], []], [0, 1, 0], [(None, [7, 28]), (None, [2, 7, 16]), (None, [7])]),
        ({"x": [28], "h": (2, 16)}, {"h": 1}, [("x", [7, 28]), ("h", [2, 7, 16])]),
        ({"x": [28], "rate": []}, {"rate": None}, [("x", [7, 28]), ("rate", [])]),
    ],
)
def test_the_shape_of_a_batch_has_its_samples_where_it_is_said(
    shapes: object, axes: object, expected: list[tuple[str | None, list[int]]]
) -> None:
    config, faults = parse_config(VALID | {"input_shape": shapes, "batch_axis": axes}, TARGETS)
    assert faults == []
    assert config is not None
    assert [(spec.name, spec.batched(7)) for spec in config.inputs] == expected
    assert all(spec.fits(shape) for spec, (_, shape) in zip(config.inputs, expected, strict=True))


@pytest.mark.parametrize(
    ("axes", "found"),
    [
        ({"state": 1}, "the names ['state'], which input_shape does not have"),
        ({"x": 2}, "axis 2 of 'x', where a batch has 2 axes"),
        ({"x": None, "h": None}, "no input that holds samples"),
        ([0], "1 axes for 2 inputs"),
    ],
)
def test_a_contradicting_batch_axis_is_named(axes: object, found: str) -> None:
    payload = VALID | {"input_shape": {"x": [3], "h": [4]}, "batch_axis": axes}
    config, faults = parse_config(payload, TARGETS)
    assert config is None
    assert [fault.key for fault in faults] == ['QUANT_CONFIG["batch_axis"]']
    assert found in faults[0].found
