"""The esp-ppq backend: float model, quantization and export. Every hook into esp-ppq is here."""

from espdl_quantize.ppq._blame import failure_of
from espdl_quantize.ppq._export import (
    configured_variables,
    espdl_tables,
    espdl_text,
    export,
)
from espdl_quantize.ppq._fallback import FallbackRecord
from espdl_quantize.ppq._graph import (
    FloatModel,
    describe_failure,
    load_torch_model,
    parse_onnx,
    prepare_float_model,
    run_graph,
)
from espdl_quantize.ppq._installation import (
    SUPPORTED_VERSIONS,
    check_installation,
    esp_ppq_version,
    prepare_device,
)
from espdl_quantize.ppq._passes import field_of_pass
from espdl_quantize.ppq._probe import (
    forwards,
    probe_float_model,
    probe_torch_model,
    run_forward,
)
from espdl_quantize.ppq._quantize import (
    QuantizedModel,
    ReusedPass,
    SimplifiedOp,
    quantize,
    seed_everything,
    simplified_ops_of,
    unquantized,
)
from espdl_quantize.ppq._spill import is_spilling, spill, spill_batch, spilling_to
from espdl_quantize.ppq._targets import (
    computing_op_types,
    exported_op_types,
    has_vector_unit,
    probe_target,
    target_names,
)
from espdl_quantize.ppq._unseen import reads_of, scrambled, with_noise
from espdl_quantize.ppq._watch import (
    batch_digests,
    content_digest,
    sample_digests,
    sample_rows,
    watched,
)
from espdl_quantize.ppq.engines import (
    FastEngine,
    QuantizationEngine,
    ReferenceEngine,
    engine_for,
)
from espdl_quantize.ppq.patches import PATCHES, Patch
from espdl_quantize.ppq.same import graph_digest, setting_digest
from espdl_quantize.ppq.unsupported import unsupported

__all__ = [
    "PATCHES",
    "SUPPORTED_VERSIONS",
    "FallbackRecord",
    "FastEngine",
    "FloatModel",
    "Patch",
    "QuantizationEngine",
    "QuantizedModel",
    "ReferenceEngine",
    "ReusedPass",
    "SimplifiedOp",
    "batch_digests",
    "check_installation",
    "computing_op_types",
    "configured_variables",
    "content_digest",
    "describe_failure",
    "engine_for",
    "esp_ppq_version",
    "espdl_tables",
    "espdl_text",
    "export",
    "exported_op_types",
    "failure_of",
    "field_of_pass",
    "forwards",
    "graph_digest",
    "has_vector_unit",
    "is_spilling",
    "load_torch_model",
    "parse_onnx",
    "prepare_device",
    "prepare_float_model",
    "probe_float_model",
    "probe_target",
    "probe_torch_model",
    "quantize",
    "reads_of",
    "run_forward",
    "run_graph",
    "sample_digests",
    "sample_rows",
    "scrambled",
    "seed_everything",
    "setting_digest",
    "simplified_ops_of",
    "spill",
    "spill_batch",
    "spilling_to",
    "target_names",
    "unquantized",
    "unsupported",
    "watched",
    "with_noise",
]
