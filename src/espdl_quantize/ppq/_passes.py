"""Reports each pass of esp-ppq's quantizer as a stage, and training passes block by block."""

from __future__ import annotations

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
) -> None:
    """Make a quantizer tell ``progress`` of every pass that it runs, with the engine's own parts.

    Where there is a memory, the engine takes what that knows of from it.

    Only this instance changes: its two pipeline builders return the same passes, each with an
    ``optimize`` that is wrapped in a stage.
    """
    for builder in ("build_prequant_pipeline", "build_quant_pipeline"):
        _wrap_builder(quantizer, builder, progress, engine, memory)


def _wrap_builder(
    quantizer: Any,
    builder: str,
    progress: Progress,
    engine: QuantizationEngine,
    memory: PassMemory | None,
) -> None:
    build = getattr(quantizer, builder)

    def reporting(*args: Any, **kwargs: Any) -> Any:
        pipeline = build(*args, **kwargs)
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
            failure = failure_of(
                error,
                f"esp-ppq's pass {name!r} fails{place}",
                f"run the pass {name!r}{place}",
                "console.log has the whole trace; where an op is named, esp-ppq cannot run it so",
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
