"""Every place where esp-ppq is changed at run time: what is replaced, by what, when and why.

Nothing else in this package assigns to a name of esp-ppq. What is replaced for a while is put back
at the end of a block; what is replaced on one object of esp-ppq goes with that object.
"""

from __future__ import annotations

import contextlib
import importlib
from collections.abc import Iterator
from dataclasses import dataclass
from enum import Enum
from typing import Any


class When(Enum):
    """The time for which something is replaced."""

    FAST_ENGINE = "while the fast engine is installed"
    ANALYSIS = "during esp-ppq's own statistical analysis"
    EXPORT = "during an export"
    EVALUATION = "while an evaluation runs"
    READING = "until an evaluation reads the graph"
    QUANTIZATION = "on one object, which a quantization makes"
    SEEDED = "for good, at the start of a quantization"
    IN_USE = "for good, once esp-ppq is in use"


@dataclass(frozen=True)
class Patch:
    """A name of esp-ppq that stands for something else.

    Attributes:
        module: of esp-ppq.
        name: dotted, below the module.
        when: for how long.
        by: "module:function" of this package. Of what is replaced for a while, the function makes
            the replacement from what stood there and from what :func:`installed` was given;
            elsewhere it is the function that assigns it.
        why: what is gained.
    """

    module: str
    name: str
    when: When
    by: str
    why: str


_NUMBERS = "the same numbers by compiled kernels, in one pass over memory"
_FAST = "espdl_quantize.ppq.fast"
_PASSES = "espdl_quantize.ppq._passes"
_TRAINING = "esp_ppq.quantization.optim.training"
_PER_BLOCK = "a block that fails is trained by plain esp-ppq; results of earlier runs are reused"

PATCHES: tuple[Patch, ...] = (
    Patch(
        "esp_ppq.core.defs",
        "gc",
        When.FAST_ENGINE,
        f"{_FAST}.passes:idle_collector",
        "garbage is not collected before many functions, where no GPU's memory depends on it",
    ),
    Patch(
        "esp_ppq.executor.torch",
        "PPQuantFunction",
        When.FAST_ENGINE,
        f"{_FAST}.passes:fake_quantization",
        _NUMBERS,
    ),
    Patch(
        "esp_ppq.executor",
        "TorchExecutor._TorchExecutor__forward",
        When.FAST_ENGINE,
        f"{_FAST}.forwards:forward",
        "activations and their quantization are one step, images have their channels last",
    ),
    Patch(
        "esp_ppq.quantization.observer.range",
        "TorchHistObserver.observe",
        When.FAST_ENGINE,
        f"{_FAST}.observers:histogram",
        _NUMBERS,
    ),
    Patch(
        "esp_ppq.quantization.observer.range",
        "TorchPercentileObserver.observe",
        When.FAST_ENGINE,
        f"{_FAST}.observers:percentile",
        _NUMBERS,
    ),
    Patch(
        "esp_ppq.quantization.observer.range",
        "TorchMSEObserver.compute_mse_loss",
        When.FAST_ENGINE,
        f"{_FAST}.observers:mean_square_error",
        _NUMBERS,
    ),
    Patch(
        "esp_ppq.parser.espdl.helper",
        "AlignedBytes",
        When.FAST_ENGINE,
        f"{_FAST}.writing:packing",
        "weights are written 16 bytes at a time, not one by one",
    ),
    Patch(
        "esp_ppq.parser.espdl.helper",
        "printable_tensor_value",
        When.FAST_ENGINE,
        f"{_FAST}.writing:tensor_text",
        "the text of a tensor is made at once, not by appending each number to all before",
    ),
    Patch(
        "esp_ppq.quantization.analyse.graphwise",
        "DetailedRecorder",
        When.ANALYSIS,
        "espdl_quantize.ppq.measure.by_esp_ppq:float_recorder",
        "integer, boolean and empty tensors have no mean, and are left out",
    ),
    Patch(
        "esp_ppq.parser.espdl.espdl_typedef",
        "ExporterPatternInfo.reset",
        When.EXPORT,
        "espdl_quantize.ppq._export:keeping_layouts",
        "the order of the axes in the file is known after the export, too",
    ),
    Patch(
        "esp_ppq.parser.espdl.layout_patterns",
        "BypassAddLikePattern.export",
        When.EXPORT,
        "espdl_quantize.ppq._export:laying_out_constants",
        "a constant beside an activation whose channels come last is laid out like it",
    ),
    Patch(
        "esp_ppq.executor",
        "TorchExecutor.forward",
        When.EVALUATION,
        "espdl_quantize.ppq._watch:watching",
        "what an evaluation puts through the graph is seen without asking it",
    ),
    Patch(
        "esp_ppq.IR",
        "BaseGraph.__getattribute__",
        When.READING,
        "espdl_quantize.ppq._unseen:noticing",
        "an evaluation that never reads the graph cannot have run it",
    ),
    Patch(
        "esp_ppq.core",
        "TensorQuantizationConfig._hash_seed",
        When.SEEDED,
        "espdl_quantize.ppq._quantize:seed_everything",
        "configurations are numbered from the same start, and not from the clock",
    ),
    Patch(
        "esp_ppq.log.logger",
        "Handler.process",
        When.IN_USE,
        "espdl_quantize.ppq._messages:print_message",
        "a message goes to the output of its moment: that of esp-ppq's import may be closed",
    ),
    Patch(
        "esp_ppq.quantization.quantizer",
        "BaseQuantizer.build_prequant_pipeline",
        When.QUANTIZATION,
        f"{_PASSES}:prepare_passes",
        "the engine gets hold of each pass",
    ),
    Patch(
        "esp_ppq.quantization.quantizer",
        "BaseQuantizer.build_quant_pipeline",
        When.QUANTIZATION,
        f"{_PASSES}:prepare_passes",
        "the engine gets hold of each pass",
    ),
    Patch(
        "esp_ppq.quantization.optim",
        "QuantizationOptimizationPass.optimize",
        When.QUANTIZATION,
        f"{_PASSES}:prepare_passes",
        "each pass is a stage, is run again by plain esp-ppq where the fast engine fails, and "
        "names the block and op at which it fails; calibrations of earlier runs are reused",
    ),
    Patch(
        _TRAINING,
        "TrainingBasedPass.split_graph_into_blocks",
        When.QUANTIZATION,
        f"{_FAST}.passes:speed_up_pass",
        "what will be asked for is known before the first block",
    ),
    Patch(
        _TRAINING,
        "TrainingBasedPass.collect",
        When.QUANTIZATION,
        f"{_FAST}.passes:speed_up_pass",
        "the graph is walked forward once, and not twice from its input for each block",
    ),
    Patch(
        _TRAINING,
        "TrainedQuantizationThresholdPass.finetune",
        When.QUANTIZATION,
        f"{_FAST}.passes:speed_up_pass",
        "one kernel per fake quantization, one step of Adam per block",
    ),
    Patch(
        _TRAINING,
        "LearnedStepSizePass.finetune",
        When.QUANTIZATION,
        f"{_FAST}.passes:speed_up_pass",
        _PER_BLOCK,
    ),
    Patch(
        _TRAINING,
        "RoundTuningPass.finetune",
        When.QUANTIZATION,
        f"{_FAST}.passes:speed_up_pass",
        _PER_BLOCK,
    ),
    Patch(
        "esp_ppq.quantization.optim.legacy",
        "AdaroundPass.finetune",
        When.QUANTIZATION,
        f"{_FAST}.passes:speed_up_pass",
        _PER_BLOCK,
    ),
    Patch(
        _TRAINING,
        "BiasCorrectionPass.correct_bias",
        When.QUANTIZATION,
        f"{_FAST}.passes:speed_up_pass",
        _PER_BLOCK,
    ),
    Patch(
        "esp_ppq.parser.espdl_exporter",
        "EspdlExporter.export_graph",
        When.EXPORT,
        "espdl_quantize.ppq._export:export",
        "the model with test values comes from the same prepared graph (on one object)",
    ),
)
"""All that is replaced in esp-ppq."""


def is_on_one_object(patch: Patch) -> bool:
    """Tell whether a patch changes one object of esp-ppq, and not a class or a module."""
    return patch.when is When.QUANTIZATION or patch.name == "EspdlExporter.export_graph"


@contextlib.contextmanager
def installed(when: When, *given: Any) -> Iterator[None]:
    """Replace within the block what the table says for that time.

    Args:
        when: the time.
        given: handed to each function that makes a replacement, behind what stood there before.
    """
    with contextlib.ExitStack() as stack:
        for patch in PATCHES:
            if patch.when is when and not is_on_one_object(patch):
                module, function = patch.by.split(":")
                make = getattr(importlib.import_module(module), function)
                owner, name = _owner(patch)
                before = vars(owner).get(name)
                setattr(owner, name, make(getattr(owner, name), *given))
                stack.callback(_put_back, owner, name, before)
        yield


def override(owner: Any, name: str, replacement: Any) -> None:
    """Replace a method of one object of esp-ppq.

    Raises:
        LookupError: the table has no such patch.
    """
    kinds = {kind.__name__ for kind in type(owner).__mro__}
    known = (patch.name.split(".") for patch in PATCHES if is_on_one_object(patch))
    if not any(kind in kinds and method == name for kind, method in known):
        raise LookupError(f"PATCHES does not name {type(owner).__name__}.{name}")
    setattr(owner, name, replacement)


def assign(when: When, value: Any) -> None:
    """Give the names that are replaced for good a value."""
    for patch in PATCHES:
        if patch.when is when:
            owner, name = _owner(patch)
            setattr(owner, name, value)


def _owner(patch: Patch) -> tuple[Any, str]:
    """Return the module or class that has the name, and the name in it."""
    owner: Any = importlib.import_module(patch.module)
    *path, name = patch.name.split(".")
    for part in path:
        owner = getattr(owner, part)
    return owner, name


def _put_back(owner: Any, name: str, before: Any) -> None:
    if before is None:
        # It was inherited.
        delattr(owner, name)
    else:
        setattr(owner, name, before)
