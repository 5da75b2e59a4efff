"""What this package relies on in esp-ppq, and the check that the installed version has it.

esp-ppq gives no promise for most of these names. A version that lacks one must be named at start,
not fail in the middle of a search.
"""

from __future__ import annotations

import importlib
from importlib import metadata

from espdl_quantize.core import InstallationError

SUPPORTED_VERSIONS = ">=1.3.12,<1.4"

REQUIRED: tuple[tuple[str, str], ...] = (
    ("esp_ppq.api", "get_target_platform"),
    ("esp_ppq.api.espdl_interface", "_PIE_NONE_TARGETS"),
    ("esp_ppq.api.espdl_interface", "_PIE_V1_TARGETS"),
    ("esp_ppq.api.espdl_interface", "_PIE_V2_TARGETS"),
    ("esp_ppq.api.interface", "dispatch_graph"),
    ("esp_ppq.api.interface", "format_graph"),
    ("esp_ppq.api.interface", "load_graph"),
    ("esp_ppq.api.setting", "QuantizationSettingFactory.espdl_setting"),
    ("esp_ppq.core", "TensorQuantizationConfig._hash_seed"),
    ("esp_ppq.core.common", "COMPUTING_OP"),
    ("esp_ppq.executor", "TorchExecutor.forward"),
    ("esp_ppq.executor", "TorchExecutor.tracing_operation_meta"),
    ("esp_ppq.lib", "Exporter"),
    ("esp_ppq.lib", "Quantizer"),
    ("esp_ppq.parser.espdl.espdl_typedef", "ExporterPatternInfo.reset"),
    ("esp_ppq.parser.espdl.espdl_typedef", "ExporterPatternInfo.var_permute"),
    ("esp_ppq.parser.espdl.helper", "Model.Model.GetRootAs"),
    ("esp_ppq.parser.espdl.helper", "reset_global_fbs_builder"),
    ("esp_ppq.parser.espdl.helper", "TensorTypeAndShape.TensorTypeAndShape"),
    ("esp_ppq.quantization.analyse", "graphwise_error_analyse"),
    ("esp_ppq.quantization.analyse", "layerwise_error_analyse"),
    ("esp_ppq.quantization.analyse", "statistical_analyse"),
    ("esp_ppq.quantization.analyse.graphwise", "DetailedRecorder.pre_forward_hook"),
    ("esp_ppq.quantization.analyse.graphwise", "DetailedRecorder.post_forward_hook"),
    ("esp_ppq.quantization.optim", "QuantizationOptimizationPass.optimize"),
    ("esp_ppq.quantization.quantizer", "BaseQuantizer.build_quant_pipeline"),
    ("esp_ppq.quantization.quantizer", "BaseQuantizer.build_prequant_pipeline"),
    ("esp_ppq.quantization.optim.training", "TrainingBasedPass.split_graph_into_blocks"),
    ("esp_ppq.quantization.optim.training", "TrainingBasedPass.collect"),
    # Of the fast engine:
    ("esp_ppq.core.defs", "gc.collect"),
    ("esp_ppq.core", "PASSIVE_OPERATIONS"),
    ("esp_ppq.executor", "TorchExecutor._TorchExecutor__forward"),
    ("esp_ppq.executor.base", "OPERATION_FORWARD_TABLE"),
    ("esp_ppq.executor.op", "TorchBackendContext"),
    ("esp_ppq.executor.op.torch.default", "DEFAULT_BACKEND_TABLE"),
    ("esp_ppq.executor.torch", "PPQuantFunction"),
    ("esp_ppq.IR.quantize", "QuantableGraph.dequantize_graph"),
    ("esp_ppq.parser.espdl.helper", "AlignedBytes.CreateAlignedBytes"),
    ("esp_ppq.parser.espdl.helper", "printable_tensor_value"),
    ("esp_ppq.parser.espdl.helper", "tensor_dtype_to_np_dtype"),
    ("esp_ppq.quantization.algorithm.training", "TQTDelegator.trainable_tensors"),
    ("esp_ppq.quantization.algorithm.training", "TQTDelegator.withdraw"),
    ("esp_ppq.quantization.analyse.util", "MeasureRecorder.update"),
    ("esp_ppq.quantization.observer.range", "TorchHistObserver.observe"),
    ("esp_ppq.quantization.observer.range", "TorchMSEObserver.compute_mse_loss"),
    ("esp_ppq.quantization.observer.range", "TorchPercentileObserver.observe"),
    ("esp_ppq.quantization.optim.training", "TrainedQuantizationThresholdPass.finetune"),
)
"""Module and dotted attribute of every name that is called or overridden here."""


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
    """Check that the installed esp-ppq has everything that is called or overridden here.

    Raises:
        InstallationError: names the installed version, what it lacks and the versions that work.
    """
    version = esp_ppq_version()
    missing = [f"{module}.{path}" for module, path in required if not _has(module, path)]
    if missing:
        raise InstallationError(
            f"esp-ppq {version} lacks {', '.join(missing)}",
            f"install a version that works: pip install 'esp-ppq{SUPPORTED_VERSIONS}'",
        )


def check_device(device: str) -> None:
    """Check that torch can use the device.

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


def _has(module: str, path: str) -> bool:
    try:
        found = importlib.import_module(module)
        for part in path.split("."):
            found = getattr(found, part)
    except (ImportError, AttributeError):
        return False
    return True
