"""The check that the installed esp-ppq is one that this package knows, and has all that it uses.

esp-ppq gives no promise for most of these names. A version that lacks one must be named at start,
not fail in the middle of a search.
"""

from __future__ import annotations

import importlib
import os
import re
import sys
from importlib import metadata

from espdl_quantize.core import InstallationError
from espdl_quantize.ppq._messages import follow_standard_output
from espdl_quantize.ppq.names import USED
from espdl_quantize.ppq.patches import PATCHES

SUPPORTED_VERSIONS = ">=1.3.12,<1.4"
ANY_VERSION = "ESPDL_QUANTIZE_ANY_ESP_PPQ"
"""Environment variable that, set to 1, lets versions outside of the range pass."""

_FIRST, _END = (1, 3, 12), (1, 4)

BY_OTHER_MEANS: tuple[tuple[str, str], ...] = (
    ("esp_ppq.api.espdl_interface", "_PIE_V1_TARGETS"),
    ("esp_ppq.api.espdl_interface", "_PIE_V2_TARGETS"),
    ("esp_ppq.parser.espdl.espdl_typedef", "ExporterPatternInfo.var_permute"),
    ("esp_ppq.quantization.analyse.graphwise", "DetailedRecorder.post_forward_hook"),
    ("esp_ppq.quantization.analyse.graphwise", "DetailedRecorder.pre_forward_hook"),
)
"""Names that no import or annotation in the source leads to."""

REQUIRED: tuple[tuple[str, str], ...] = tuple(
    sorted({*USED, *((patch.module, patch.name) for patch in PATCHES), *BY_OTHER_MEANS})
)
"""Module and dotted name of all that is used or replaced here."""


def esp_ppq_version() -> str:
    """Return the version of the installed esp-ppq.

    Raises:
        InstallationError: it is not installed.
    """
    try:
        return metadata.version("esp-ppq")
    except metadata.PackageNotFoundError:
        raise InstallationError(
            "esp-ppq is not installed", f"pip install 'esp-ppq{SUPPORTED_VERSIONS}'"
        ) from None


def check_installation(required: tuple[tuple[str, str], ...] = REQUIRED) -> None:
    """Check that the installed esp-ppq is in the range, and has all that is used or replaced.

    From then on its messages go to the standard output of their moment.

    Raises:
        InstallationError: names the installed version, what it lacks and the versions that work.
    """
    version = esp_ppq_version()
    check_version(version)
    _import_onnxsim()
    missing = [f"{module}.{path}" for module, path in required if not _has(module, path)]
    if missing:
        raise InstallationError(
            f"esp-ppq {version} lacks {', '.join(missing)}",
            f"install a version that works: pip install 'esp-ppq{SUPPORTED_VERSIONS}'",
        )
    follow_standard_output()


def _import_onnxsim() -> None:
    """Import onnxsim, as esp-ppq is about to, without sympy.

    onnxsim does without it, and prints sizes of symbolic shapes with it; its import takes more than
    a tenth of what a process needs to start.
    """
    if "sympy" in sys.modules:
        return
    sys.modules["sympy"] = None  # type: ignore[assignment]
    try:
        importlib.import_module("onnxsim")
    except ImportError:
        # What imports it for its use says so.
        pass
    finally:
        del sys.modules["sympy"]


def check_version(version: str) -> None:
    """Check that a version of esp-ppq is in the supported range, or that any will do.

    Raises:
        InstallationError: names the version, the range and both ways on.
    """
    release = tuple(int(number) for number in re.findall(r"\d+", version.split("+")[0])[:3])
    is_final = re.fullmatch(r"\d+(\.\d+)*(\.post\d+)?(\+.*)?", version) is not None
    # A pre-release of the first version comes before it.
    is_known = _FIRST <= release < _END and (is_final or release > _FIRST)
    if is_known or os.environ.get(ANY_VERSION) == "1":
        return
    raise InstallationError(
        f"esp-ppq {version} is outside of the versions that this program is tested with, "
        f"{SUPPORTED_VERSIONS}",
        f"pip install 'esp-ppq{SUPPORTED_VERSIONS}', or set {ANY_VERSION}=1 to try it as it is",
    )


def prepare_device(device: str) -> None:
    """Check that torch can use the device, and have it compute float32 as such.

    By default torch rounds the factors of a convolution on a GPU to TensorFloat-32, of 10 bits: the
    float model then differs by about 0.2 % from itself on a CPU, and 16-bit values are no longer
    exact. It stays so, since the contract's evaluate() is to compute alike.

    Raises:
        InstallationError: the device is "cuda" and torch sees none.
    """
    import torch

    if device == "cuda" and not torch.cuda.is_available():
        raise InstallationError(
            'the contract asks for device "cuda", and torch '
            f"{torch.__version__} sees no CUDA device",
            'set "device": "cpu" in QUANT_CONFIG, or install a CUDA build of torch and its driver',
        )
    torch.backends.cudnn.allow_tf32 = False
    torch.backends.cuda.matmul.allow_tf32 = False


def _has(module: str, path: str) -> bool:
    try:
        value = importlib.import_module(module)
        for part in path.split("."):
            value = getattr(value, part)
    except (ImportError, AttributeError):
        return False
    return True
