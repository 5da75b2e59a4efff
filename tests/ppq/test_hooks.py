import pytest

from espdl_quantize.core import InstallationError
from espdl_quantize.ppq import check_device, check_installation, esp_ppq_version
from espdl_quantize.ppq._hooks import REQUIRED


def test_the_installed_version_has_everything() -> None:
    check_installation()


def test_what_a_version_lacks_is_named_with_the_versions_that_work() -> None:
    lacking = (*REQUIRED, ("esp_ppq.core", "no_such_name"), ("esp_ppq.no_such_module", "x"))
    with pytest.raises(InstallationError) as caught:
        check_installation(lacking)
    text = str(caught.value)
    assert esp_ppq_version() in text
    assert "esp_ppq.core.no_such_name, esp_ppq.no_such_module.x" in text
    assert ">=1.3.12,<1.4" in text
    assert caught.value.exit_code == 6


def test_a_cuda_device_that_is_not_there_is_told() -> None:
    import torch

    if torch.cuda.is_available():
        pytest.skip("this machine has a CUDA device")
    check_device("cpu")
    with pytest.raises(InstallationError, match="no CUDA device"):
        check_device("cuda")
