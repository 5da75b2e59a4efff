"""Runs esp-ppq's quantizer on a float model."""

from __future__ import annotations

import json
import random
from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from espdl_quantize.contract import Batch, QuantConfig
from espdl_quantize.core import IterationError, Progress
from espdl_quantize.ppq._blame import failure_of
from espdl_quantize.ppq._engine import Engine
from espdl_quantize.ppq._fallback import fallback_at_work
from espdl_quantize.ppq._graph import FloatModel, parse_onnx
from espdl_quantize.ppq._limits import reject_unsupported
from espdl_quantize.ppq._passes import prepare_passes, readable
from espdl_quantize.ppq._to_esp_ppq import to_esp_ppq
from espdl_quantize.setting import ResolvedSetting, unknown_op_warnings

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

    ``esp_ppq_setting`` holds every attribute of the QuantizationSetting that ran; ``reused`` the
    passes whose results, or some of them, were known from another run.
    """

    graph: Any
    platform: Any
    esp_ppq_setting: dict[str, Any]
    simplified_ops: tuple[SimplifiedOp, ...]
    warnings: tuple[str, ...]
    reused: tuple[ReusedPass, ...] = ()


def seed_everything(seed: int) -> None:
    """Seed every generator that esp-ppq, torch or a contract may draw from."""
    import numpy as np
    import torch
    from esp_ppq.core import TensorQuantizationConfig

    random.seed(seed)
    np.random.seed(seed)
    torch.manual_seed(seed)
    TensorQuantizationConfig._hash_seed = _HASH_SEED


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
    seed: int = 0,
    engine: Engine = Engine.FAST,
    memory: Path | None = None,
) -> QuantizedModel:
    """Quantize a float model, as ``espdl_quantize_onnx`` would with ``skip_export=True``.

    Args:
        model: the simplified float model.
        config: names the target, the default width and the number of calibration steps.
        resolved: the setting, after the rules.
        batches: calibration batches, collated; esp-ppq iterates them many times.
        progress: told of each pass.
        seed: of the training passes' sampling.
        engine: whose parts the passes use.
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
    platform = get_target_platform(config.target, config.num_of_bits)
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
        fallback = fallback_at_work()
        fallback.graph = graph
        quantizer = ppq_lib.Quantizer(platform, graph)
        known = None if memory is None else PassMemory(memory, fallback=fallback)
        prepare_passes(quantizer, progress, engine, fallback, known)
        executor = TorchExecutor(graph=graph, device=config.device)
        quantizer.quantize(
            inputs=model.dummy_inputs(),
            calib_dataloader=batches,
            executor=executor,
            setting=setting,
            calib_steps=config.calib_steps,
            collate_fn=None,
        )
    except (OSError, IterationError):
        raise
    except Exception as error:
        raise failure_of(
            error,
            "esp-ppq cannot quantize the model",
            "quantize the model",
            "console.log has the whole trace; if an op is named, esp-ppq cannot run it as set",
        ) from error
    return QuantizedModel(
        graph,
        platform,
        json.loads(setting.to_json()),
        simplified_ops,
        tuple(warnings),
        _by_pass(known.reused if known else ()),
    )


def _by_pass(reused: Iterable[Any]) -> tuple[ReusedPass, ...]:
    seconds: dict[str, list[float]] = {}
    for one in reused:
        seconds.setdefault(readable(one.name), []).append(one.seconds)
    return tuple(ReusedPass(name, len(each), sum(each)) for name, each in seconds.items())
