from typing import Any

from esp_ppq.api import get_target_platform
from esp_ppq.api.setting import QuantizationSettingFactory

from espdl_quantize.ppq._quantize import to_esp_ppq
from espdl_quantize.setting import FusionAlignment, baseline, parse_setting, setting_key
from tests.setting.test_model import FULL


def mapped(num_of_bits: int = 8, **fields: Any) -> tuple[Any, list[str]]:
    setting = parse_setting({"iteration_id": 0, **fields})
    return to_esp_ppq(setting, "esp32s3", num_of_bits)


def plain(num_of_bits: int = 8) -> dict[str, Any]:
    import json

    setting = QuantizationSettingFactory.espdl_setting(num_of_bits)
    setting.dispatching_table.dispatchings.clear()
    result: dict[str, Any] = json.loads(setting.to_json())
    return result


def as_dict(setting: Any) -> dict[str, Any]:
    import json

    result: dict[str, Any] = json.loads(setting.to_json())
    return result


def test_an_empty_setting_is_the_default_of_esp_ppq() -> None:
    for bits in (8, 16):
        setting, warnings = mapped(bits)
        assert as_dict(setting) == plain(bits)
        assert warnings == []


def test_every_field_reaches_its_attribute() -> None:
    setting, _ = to_esp_ppq(parse_setting(FULL), "esp32s3", 8)
    assert setting.quantize_activation_setting.calib_algorithm == "percentile"
    assert setting.equalization is True
    assert setting.equalization_setting.opt_level == 2
    assert setting.bias_correct is True
    assert setting.bias_correct_setting.interested_layers == []
    assert setting.weight_split is True
    assert setting.weight_split_setting.interested_layers == ["/conv"]
    assert setting.weight_split_setting.value_threshold == 1.5
    assert setting.tqt_optimization is True
    assert setting.tqt_optimization_setting.steps == 500
    assert setting.tqt_optimization_setting.collecting_device == "cuda"
    assert setting.blockwise_reconstruction is False
    assert setting.fusion_setting.align_elementwise_to == "Align to Large"
    assert setting.fusion_setting.align_resize_to == "Align to Input"
    assert setting.lut_optimization is False
    assert setting.dispatching_table.dispatchings == {
        "/a": get_target_platform("esp32s3", 16).value,
        "/b": get_target_platform("esp32s3", 8).value,
    }


def test_a_disabled_pass_leaves_the_defaults_alone() -> None:
    setting, _ = mapped(tqt_optimization={"enabled": False, "steps": 3})
    assert as_dict(setting) == plain()


def test_extra_reaches_inner_attributes_and_unknown_ones_are_told() -> None:
    setting, warnings = mapped(
        extra={
            "fusion_setting.fuse_passive_op": False,
            "bias_correct_setting": {"steps": 3, "bogus": 1},
            "tqt_optimisation": True,
        }
    )
    assert setting.fusion_setting.fuse_passive_op is False
    assert setting.bias_correct_setting.steps == 3
    assert len(warnings) == 2
    assert "did you mean 'tqt_optimization'" in warnings[1]


def test_every_alignment_that_the_model_allows_is_one_that_esp_ppq_takes() -> None:
    from typing import get_args

    from esp_ppq.quantization.optim import QuantAlignmentPass

    from espdl_quantize.setting import InputOrOutput, LargeOrOutput

    for value in get_args(LargeOrOutput):
        QuantAlignmentPass(elementwise_alignment=value, concat_alignment=value)
    for value in get_args(InputOrOutput):
        QuantAlignmentPass(pooling_alignment=value, resize_alignment=value)


def test_a_baseline_is_esp_ppqs_default_of_each_width() -> None:
    for bits in (8, 16):
        asked = baseline(num_of_bits=bits).model_dump(exclude_none=True)
        del asked["iteration_id"]
        setting, warnings = mapped(bits, **asked)
        assert as_dict(setting) == plain(bits)
        assert warnings == []
    # The weights are calibrated as esp-ppq does it there, too.
    assert setting.quantize_parameter_setting.calib_algorithm == "minmax"


def test_what_counts_as_esp_ppqs_default_alignment_is_that() -> None:
    """A setting that restates it has the key of one that says nothing."""
    fusion = vars(to_esp_ppq(baseline(), "esp32s3", 8)[0].fusion_setting)
    stated = {name: fusion[name] for name in FusionAlignment.model_fields}
    setting = baseline().model_copy(update={"fusion_alignment": FusionAlignment(**stated)})
    assert setting_key(setting) == setting_key(baseline())
