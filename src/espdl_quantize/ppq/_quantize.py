"""Runs esp-ppq's quantizer on a float model."""

from __future__ import annotations

import contextlib
import json
import random
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from espdl_quantize.contract import Batch, QuantConfig
from espdl_quantize.core import EspdlQuantizeError, Progress
from espdl_quantize.ppq._blame import failure_of
from espdl_quantize.ppq._graph import FloatModel, parse_onnx
from espdl_quantize.ppq._messages import follow_standard_output
from espdl_quantize.ppq._passes import prepare_passes, readable
from espdl_quantize.ppq._targets import has_vector_unit
from espdl_quantize.ppq.engines import QuantizationEngine, ReferenceEngine
from espdl_quantize.ppq.left_shifts import lower_exponents
from espdl_quantize.ppq.patches import When, assign
from espdl_quantize.ppq.unsupported import reject_unsupported
from espdl_quantize.setting import (
    ExponentSearch,
    OpWidth,
    ResolvedSetting,
    Setting,
    activation_bits,
    enabled_passes,
    nearest,
    unknown_op_warnings,
    width_of,
)

_QUANT_TYPES: Mapping[OpWidth, str] = {8: "w8a8", 16: "w16a16", "w8a16": "w8a16"}
"""What esp-ppq calls each width."""

_HASH_SEED = 0x20211230
"""First of the numbers that esp-ppq gives its tensor configurations; its own is the clock."""


@dataclass(frozen=True)
class SimplifiedOp:
    """One op of the simplified float graph; its name is what a dispatching table refers to."""

    name: str
    op_type: str
    inputs: tuple[str, ...]
    outputs: tuple[str, ...]


@dataclass(frozen=True)
class ReusedPass:
    """A pass of which results were known.

    Attributes:
        name: of the pass.
        results: how many; a training pass has one per block.
        seconds: that they took when they were computed.
    """

    name: str
    results: int
    seconds: float


@dataclass(frozen=True)
class QuantizedModel:
    """A quantized esp-ppq ``BaseGraph``, its platform, and what was odd on the way.

    ``setting`` is what ran, and ``esp_ppq_setting`` every attribute of esp-ppq's that followed from
    it; ``reused`` holds the passes whose results, or some of them, were known from another run.
    """

    graph: Any
    platform: Any
    setting: Setting
    esp_ppq_setting: dict[str, Any]
    simplified_ops: tuple[SimplifiedOp, ...]
    warnings: tuple[str, ...]
    reused: tuple[ReusedPass, ...] = ()


def seed_everything(seed: int) -> None:
    """Seed every generator that esp-ppq, torch or a contract may draw from."""
    import numpy as np
    import torch

    random.seed(seed)
    np.random.seed(seed)
    torch.manual_seed(seed)
    assign(When.SEEDED, _HASH_SEED)
    follow_standard_output()


@contextlib.contextmanager
def unquantized(graph: Any) -> Iterator[None]:
    """Let a quantized graph compute in floats within the block; it is the same graph otherwise."""
    ops = [op for op in graph.operations.values() if hasattr(op, "restore_quantize_state")]
    for op in ops:
        op.dequantize()
    try:
        yield
    finally:
        for op in ops:
            op.restore_quantize_state()


def simplified_ops_of(graph: Any) -> tuple[SimplifiedOp, ...]:
    """List the ops of a float graph in topological order."""
    return tuple(
        SimplifiedOp(
            name=op.name,
            op_type=op.type,
            inputs=tuple(variable.name for variable in op.inputs),
            outputs=tuple(variable.name for variable in op.outputs),
        )
        for op in graph.topological_sort()
    )


def quantize(
    model: FloatModel,
    config: QuantConfig,
    resolved: ResolvedSetting,
    batches: list[Batch],
    progress: Progress,
    *,
    engine: QuantizationEngine | None = None,
    seed: int = 0,
    memory: Path | None = None,
) -> QuantizedModel:
    """Quantize a float model, as ``espdl_quantize_onnx`` would with ``skip_export=True``.

    Args:
        model: the simplified float model.
        config: names the target, the default width and the number of calibration steps.
        resolved: the setting, after the rules.
        batches: calibration batches; esp-ppq iterates them many times.
        progress: told of each pass.
        engine: is installed, and does the work of the passes; None for plain esp-ppq.
        seed: of the training passes' sampling.
        memory: a folder that keeps the results of long passes, for other calls to take; None for
            no such folder.

    Raises:
        IterationError: esp-ppq fails; the op is named where there is one.
    """
    import esp_ppq.lib as ppq_lib
    from esp_ppq.api import get_target_platform
    from esp_ppq.api.interface import dispatch_graph
    from esp_ppq.executor import TorchExecutor

    from espdl_quantize.ppq.reuse import PassMemory

    seed_everything(seed)
    setting, warnings = to_esp_ppq(resolved.setting, config.target, config.num_of_bits)
    width = width_of(resolved.setting, config.num_of_bits)
    platform = get_target_platform(config.target, _QUANT_TYPES[width])
    graph = parse_onnx(model.onnx_file)
    warnings += unknown_op_warnings(resolved.setting, list(graph.operations))
    try:
        graph = dispatch_graph(
            graph=graph,
            platform=platform,
            dispatcher=setting.dispatcher,
            dispatching_table=setting.dispatching_table,
        )
        simplified_ops = simplified_ops_of(graph)
        reject_unsupported(graph)
        engine = engine or ReferenceEngine()
        engine.fallback.graph = graph
        quantizer = ppq_lib.Quantizer(platform, graph)
        quantizer.custom_tqc = custom_widths(resolved.setting)
        known = None if memory is None else PassMemory(memory, fallback=engine.fallback)
        prepare_passes(
            quantizer,
            progress,
            engine,
            known,
            percentile=resolved.setting.percentile,
            int16_tables=bool(resolved.setting.int16_tables),
            search=_search_of(resolved.setting, config, batches, progress, engine),
        )
        executor = TorchExecutor(graph=graph, device=config.device)
        quantizer.quantize(
            inputs=model.dummy_inputs(),
            calib_dataloader=[batch.as_esp_ppq() for batch in batches],
            executor=executor,
            setting=setting,
            calib_steps=config.calib_steps,
            collate_fn=None,
        )
        if has_vector_unit(config.target):
            warnings += lower_exponents(graph, batches[: config.calib_steps], config.device, engine)
    except (OSError, EspdlQuantizeError):
        raise
    except Exception as error:
        raise failure_of(
            error,
            "esp-ppq cannot quantize the model",
            "quantize the model",
            "where an op is named, esp-ppq cannot run it as set",
        ) from error
    return QuantizedModel(
        graph,
        platform,
        resolved.setting,
        json.loads(setting.to_json()),
        simplified_ops,
        tuple(warnings),
        _by_pass(known.reused if known else ()),
    )


def _search_of(
    setting: Setting,
    config: QuantConfig,
    batches: list[Batch],
    progress: Progress,
    engine: QuantizationEngine,
) -> Any:
    """Return the search over exponents that a setting asks for; None where it asks for none."""
    for spec, section in enabled_passes(setting):
        if spec.own and isinstance(section, ExponentSearch):
            from espdl_quantize.ppq.exponents import ExponentSearchPass

            plainly = isinstance(engine, ReferenceEngine)
            return ExponentSearchPass(
                section, batches, config.calib_steps, config.device, progress, plainly=plainly
            )
    return None


def _by_pass(reused: Iterable[Any]) -> tuple[ReusedPass, ...]:
    seconds: dict[str, list[float]] = {}
    for one in reused:
        seconds.setdefault(readable(one.name), []).append(one.seconds)
    return tuple(ReusedPass(name, len(each), sum(each)) for name, each in seconds.items())


def to_esp_ppq(setting: Setting, target: str, num_of_bits: int) -> tuple[Any, list[str]]:
    """Translate a resolved setting.

    Args:
        setting: resolved, so that only what can run is enabled.
        target: a chip name that esp-ppq accepts.
        num_of_bits: the contract's default width.

    Returns:
        esp-ppq's ``QuantizationSetting``, and a warning per ``extra`` attribute that it lacks.
    """
    from esp_ppq.api import get_target_platform
    from esp_ppq.api.setting import QuantizationSettingFactory

    bits = activation_bits(width_of(setting, num_of_bits))
    result = QuantizationSettingFactory.espdl_setting(num_of_bits=bits)
    activations, weights = result.quantize_activation_setting, result.quantize_parameter_setting
    if setting.calib_algorithm is not None:
        activations.calib_algorithm = setting.calib_algorithm
    activations.calib_algorithm_per_layer.update(setting.calib_algorithm_per_layer or {})
    if setting.weight_calib_algorithm is not None:
        weights.calib_algorithm = setting.weight_calib_algorithm
    weights.calib_algorithm_per_layer.update(setting.weight_calib_algorithm_per_layer or {})
    for spec, section in enabled_passes(setting):
        if spec.own:
            continue
        setattr(result, spec.field, True)
        parameters = getattr(result, spec.parameters)
        for field, value in section.model_dump(exclude={"enabled"}).items():
            if value is not None:
                setattr(parameters, field, value)
    if setting.fusion_alignment is not None:
        for field, value in setting.fusion_alignment.model_dump(exclude_none=True).items():
            setattr(result.fusion_setting, field, value)
    # esp-ppq fills the table with examples, which would be written into reports as if they ran.
    result.dispatching_table.dispatchings.clear()
    for entry in setting.dispatching_table or []:
        platform = get_target_platform(target, _QUANT_TYPES[entry.bits])
        result.dispatching_table.append(entry.op, platform)
    warnings = []
    for name, value in (setting.extra or {}).items():
        if not _set_dotted(result, name, value):
            close = nearest(name, [key for key in vars(result) if not key.startswith("_")])
            hint = f"; did you mean {close!r}?" if close else ""
            warnings.append(f"extra.{name} is no attribute of QuantizationSetting: skipped{hint}")
    return result, warnings


def custom_widths(setting: Setting) -> dict[str, dict[str, dict[str, int]]] | None:
    """Return the widths of single tensors as esp-ppq's ``custom_tqc`` has them."""
    widths: dict[str, dict[str, dict[str, int]]] = {}
    for entry in setting.tensor_bits or []:
        widths.setdefault(entry.op, {})[entry.tensor] = {"bit_width": entry.bits}
    return widths or None


def _set_dotted(target: Any, path: str, value: Any) -> bool:
    """Set ``a.b.c`` where it exists; a dict given for a group of attributes sets each of them."""
    *parents, last = path.split(".")
    for part in parents:
        target = vars(target).get(part) if hasattr(target, "__dict__") else None
    if not hasattr(target, "__dict__") or last not in vars(target):
        return False
    current = getattr(target, last)
    if isinstance(value, dict) and hasattr(current, "__dict__"):
        found = [_set_dotted(current, key, inner) for key, inner in value.items()]
        return all(found)
    setattr(target, last, value)
    return True
