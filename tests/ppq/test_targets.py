import pytest

from espdl_quantize.core import InstallationError
from espdl_quantize.ppq import probe_target, target_names


def test_every_chip_that_esp_ppq_accepts_is_described() -> None:
    assert {"esp32p4", "esp32s3", "c", "esp32c6", "esp32s31"} <= set(target_names())
    for name in target_names():
        assert probe_target(name).power_of_two
        assert probe_target(name, 16).num_of_bits == 16


def test_the_facts_agree_with_what_the_chips_documents_say() -> None:
    assert probe_target("esp32p4").per_channel_weights
    assert probe_target("esp32p4").rounding == "half-even"
    assert not probe_target("esp32s3").per_channel_weights
    assert probe_target("esp32s3").rounding == "half-up"
    assert probe_target("esp32s3").bias_bits == 20


def test_an_unknown_chip_is_named_with_those_that_are_known() -> None:
    with pytest.raises(InstallationError, match=r"esp32x9.*esp32p4"):
        probe_target("esp32x9")
