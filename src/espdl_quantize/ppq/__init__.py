"""The esp-ppq backend: float model, quantization and export. Every hook into esp-ppq is here."""

from espdl_quantize.ppq._blame import failure_of
from espdl_quantize.ppq._engine import Engine, at_work
from espdl_quantize.ppq._export import TEST_MODEL, export
from espdl_quantize.ppq._fallback import (
    ANALYSIS,
    CHIP_CHECK,
    Fallback,
    FallbackRecord,
    fallback_at_work,
    keep_graph,
)
from espdl_quantize.ppq._graph import (
    FloatModel,
    describe_failure,
    load_torch_model,
    parse_onnx,
    prepare_float_model,
)
from espdl_quantize.ppq._hooks import (
    SUPPORTED_VERSIONS,
    check_device,
    check_installation,
    esp_ppq_version,
)
from espdl_quantize.ppq._passes import field_of_pass
from espdl_quantize.ppq._probe import probe_float_model, probe_torch_model, run_forward
from espdl_quantize.ppq._quantize import (
    QuantizedModel,
    ReusedPass,
    SimplifiedOp,
    quantize,
    seed_everything,
    simplified_ops_of,
)
from espdl_quantize.ppq._spill import is_spilling, spill, spill_batch, spilling_to
from espdl_quantize.ppq._targets import probe_target, target_names
from espdl_quantize.ppq._unseen import reads_of, scrambled
from espdl_quantize.ppq._watch import batch_digests, sample_digests, watched

__all__ = [
    "ANALYSIS",
    "CHIP_CHECK",
    "SUPPORTED_VERSIONS",
    "TEST_MODEL",
    "Engine",
    "Fallback",
    "FallbackRecord",
    "FloatModel",
    "QuantizedModel",
    "ReusedPass",
    "SimplifiedOp",
    "at_work",
    "batch_digests",
    "check_device",
    "check_installation",
    "describe_failure",
    "esp_ppq_version",
    "export",
    "failure_of",
    "fallback_at_work",
    "field_of_pass",
    "is_spilling",
    "keep_graph",
    "load_torch_model",
    "parse_onnx",
    "prepare_float_model",
    "probe_float_model",
    "probe_target",
    "probe_torch_model",
    "quantize",
    "reads_of",
    "run_forward",
    "sample_digests",
    "scrambled",
    "seed_everything",
    "simplified_ops_of",
    "spill",
    "spill_batch",
    "spilling_to",
    "target_names",
    "watched",
]
