"""Reports each pass of esp-ppq's quantizer as a stage, and training passes block by block."""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING, Any

from espdl_quantize.core import FailedPass, IterationError, PassError, Progress, is_out_of_memory
from espdl_quantize.ppq._blame import failure_of
from espdl_quantize.ppq.patches import override
from espdl_quantize.setting import PASSES

if TYPE_CHECKING:
    from espdl_quantize.ppq.engines import QuantizationEngine
    from espdl_quantize.ppq.reuse import PassMemory

_FIELDS = {
    **{spec.pass_name: name for name, spec in PASSES.items()},
    "quantization alignment": "fusion_alignment",
    "runtime calibration": "calib_algorithm",
}
"""The field of a setting that decides on each pass; the other passes run in any case."""

_MOST_LAYERS = 4000
"""Of a larger network no layer is left out, since a setting cannot list all the others."""


def prepare_passes(
    quantizer: Any,
    progress: Progress,
    engine: QuantizationEngine,
    memory: PassMemory | None = None,
    *,
    percentile: float | None = None,
    int16_tables: bool = False,
    search: Any = None,
) -> None:
    """Make a quantizer tell ``progress`` of every pass that it runs, with the engine's own parts.

    Args:
        quantizer: of esp-ppq.
        progress: notified of each pass.
        engine: has parts of its own.
        memory: the engine takes what it knows of from it.
        percentile: of the calibration of activations that goes by it; None for esp-ppq's own.
        int16_tables: 16-bit functions of one value become tables, also in an 8-bit model.
        search: over exponents, a pass that runs between calibration and training; None for none.

    Only this instance changes: its two pipeline builders return the same passes, each with an
    ``optimize`` that is wrapped in a stage.
    """

    def extend(pipeline: Any, setting: Any) -> None:
        if percentile is not None:
            _set_percentile(quantizer, percentile)
        if int16_tables:
            _append_tables(pipeline, setting)
        if search is not None:
            from espdl_quantize.ppq.exponents import insert_search

            insert_search(pipeline, search)

    _wrap_builder(quantizer, "build_prequant_pipeline", progress, engine, memory)
    _wrap_builder(quantizer, "build_quant_pipeline", progress, engine, memory, extend)


def _set_percentile(quantizer: Any, percentile: float) -> None:
    """Give every activation its percentile; esp-ppq reads it off the tensor's configuration."""
    from esp_ppq.core import OBSERVER_PERCENTILE_MANUL_OVERRIDE
    from esp_ppq.IR import QuantableOperation

    for op in quantizer._graph.operations.values():
        if isinstance(op, QuantableOperation):
            for config, variable in op.config_with_variable:
                if not variable.is_parameter:
                    config.detail[OBSERVER_PERCENTILE_MANUL_OVERRIDE] = percentile


def _append_tables(pipeline: Any, setting: Any) -> None:
    """Append the pass that esp-ppq itself appends where the whole model has 16 bits."""
    from esp_ppq.quantization.optim import EspdlLUTFusionPass

    if any(isinstance(optimization, EspdlLUTFusionPass) for optimization in pipeline):
        return
    tables = setting.lut_optimization_setting
    pipeline.append_optimization_to_pipeline(
        EspdlLUTFusionPass(target_ops=tables.target_ops, lut_step=tables.step)
    )


def _wrap_builder(
    quantizer: Any,
    builder: str,
    progress: Progress,
    engine: QuantizationEngine,
    memory: PassMemory | None,
    extend: Callable[[Any, Any], None] | None = None,
) -> None:
    build = getattr(quantizer, builder)

    def reporting(setting: Any, *args: Any, **kwargs: Any) -> Any:
        pipeline = build(setting, *args, **kwargs)
        if extend is not None:
            extend(pipeline, setting)
        for optimization in pipeline:
            engine.wrap_pass(optimization, memory)
            _wrap_pass(optimization, progress)
        return pipeline

    override(quantizer, builder, reporting)


def _wrap_pass(optimization: Any, progress: Progress) -> None:
    optimize = optimization.optimize
    blocks = _Blocks()
    if hasattr(optimization, "split_graph_into_blocks"):
        blocks.watch(optimization, progress)

    def reporting(*args: Any, **kwargs: Any) -> None:
        name = readable(optimization.name)
        try:
            with progress.stage(name):
                optimize(*args, **kwargs)
        except (OSError, IterationError):
            raise
        except Exception as error:
            where = blocks.failed_pass(name)
            place = f" at {where.layer}" if where.layer else ""
            spec = PASSES.get(field_of_pass(name))
            whose = "our own" if spec is not None and spec.own else "esp-ppq's"
            failure = failure_of(
                error,
                f"{whose} pass {name!r} fails{place}",
                f"run the pass {name!r}{place}",
                "where an op is named, esp-ppq cannot run it so",
            )
            if is_out_of_memory(error):
                # Less memory may do: it does not lie in the pass.
                raise failure from error
            raise PassError(failure.cause, failure.hint, where) from error

    override(optimization, "optimize", reporting)


class _Blocks:
    """The blocks that a pass goes through, and the one that it is at."""

    def __init__(self) -> None:
        self._all: list[Any] = []
        self._chosen: list[Any] = []
        self._begun = 0

    def watch(self, optimization: Any, progress: Progress) -> None:
        """Follow the pass, and tell of every block as it begins."""
        split, collect = optimization.split_graph_into_blocks, optimization.collect

        def splitting(*args: Any, **kwargs: Any) -> Any:
            self._chosen = list(split(*args, **kwargs))
            self._begun = 0
            self._all = self._chosen
            if kwargs.get("interested_layers"):
                # The others are left out by the setting, and can be named in the next one.
                self._all = list(split(*args, **{**kwargs, "interested_layers": None}))
            return list(self._chosen)

        def collecting(*args: Any, **kwargs: Any) -> Any:
            # Every block begins by collecting its data.
            count = len(self._chosen)
            progress.update(self._begun, count, f"block {self._begun + 1} of {count}")
            self._begun += 1
            return collect(*args, **kwargs)

        override(optimization, "split_graph_into_blocks", splitting)
        override(optimization, "collect", collecting)

    def failed_pass(self, name: str) -> FailedPass:
        """Return where the pass is now."""
        field = field_of_pass(name)
        if not 0 < self._begun <= len(self._chosen):
            return FailedPass(name, field)
        block = self._chosen[self._begun - 1]
        first, last = block.sp.name, block.ep.name
        failed = tuple(op.name for op in block.rps)
        others = tuple(
            op.name
            for other in self._all
            for op in other.rps
            if op.is_computing_op and op.name not in failed
        )
        if len(failed) + len(others) > _MOST_LAYERS:
            failed, others = (), ()
        layer = f"op {first}" if first == last else f"the block {first} to {last}"
        return FailedPass(name, field, layer, failed, others)


def field_of_pass(name: str) -> str:
    """Return the field of a setting that turns a pass on, by the pass's readable name.

    It is empty for a pass that runs with every setting.
    """
    return _FIELDS.get(name, "")


def readable(name: str) -> str:
    """Return the name of one of esp-ppq's passes without its decoration."""
    for noise in ("ESP-PPQ ", "PPQ ", " Pass", " Optimization"):
        name = name.replace(noise, "")
    return name.strip().lower()
