"""The user's contract: a Python module that brings the model, calibration data and evaluation."""

from espdl_quantize.contract._batches import (
    FEW,
    Keeper,
    count_samples,
    note_of_few_for_kl,
    note_of_repeats,
    read_batches,
    warn_of_few,
)
from espdl_quantize.contract._blame import located
from espdl_quantize.contract._config import InputSpec, QuantConfig, UnlabelledMetric
from espdl_quantize.contract._faults import ContractFaultsError, Fault
from espdl_quantize.contract._load import (
    NO_OVERRIDES,
    Contract,
    Overrides,
    load_contract,
    require_file,
)
from espdl_quantize.contract._origin import Conflict, Origin, common_origin
from espdl_quantize.contract._starter import ModelType, starter_contract, starter_from
from espdl_quantize.contract.batch import Batch, first_samples, spread_samples
from espdl_quantize.contract.declared import Contradiction, contradictions, forward_contradiction
from espdl_quantize.contract.model_file import (
    DeclaredInput,
    ModelFile,
    foreign_format,
    read_model_file,
)
from espdl_quantize.contract.objects import contract_of_objects

__all__ = [
    "FEW",
    "NO_OVERRIDES",
    "Batch",
    "Conflict",
    "Contract",
    "ContractFaultsError",
    "Contradiction",
    "DeclaredInput",
    "Fault",
    "InputSpec",
    "Keeper",
    "ModelFile",
    "ModelType",
    "Origin",
    "Overrides",
    "QuantConfig",
    "UnlabelledMetric",
    "common_origin",
    "contract_of_objects",
    "contradictions",
    "count_samples",
    "first_samples",
    "foreign_format",
    "forward_contradiction",
    "load_contract",
    "located",
    "note_of_few_for_kl",
    "note_of_repeats",
    "read_batches",
    "read_model_file",
    "require_file",
    "spread_samples",
    "starter_contract",
    "starter_from",
    "warn_of_few",
]
