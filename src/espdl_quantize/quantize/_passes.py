"""Reports each pass of esp-ppq's quantizer as a stage, and training passes block by block."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from espdl_quantize.errors import IterationError
from espdl_quantize.quantize._engine import Engine
from espdl_quantize.quantize._graph import describe_failure
from espdl_quantize.quantize._progress import Progress

if TYPE_CHECKING:
    from espdl_quantize.quantize.reuse import PassMemory


def prepare_passes(
    quantizer: Any, progress: Progress, engine: Engine, memory: PassMemory | None = None
) -> None:
    """Make a quantizer tell ``progress`` of every pass that it runs, with the engine's own parts.

    Where there is a memory, what it knows of is taken from it.

    Only this instance changes: its two pipeline builders return the same passes, each with an
    ``optimize`` that is wrapped in a stage.
    """
    for builder in ("build_prequant_pipeline", "build_quant_pipeline"):
        _wrap_builder(quantizer, builder, progress, engine, memory)


def _wrap_builder(
    quantizer: Any, builder: str, progress: Progress, engine: Engine, memory: PassMemory | None
) -> None:
    build = getattr(quantizer, builder)

    def reporting(*args: Any, **kwargs: Any) -> Any:
        pipeline = build(*args, **kwargs)
        for optimization in pipeline:
            if engine == "fast":
                from espdl_quantize.quantize.fast import speed_up_pass

                speed_up_pass(optimization)
            if memory is not None:
                memory.attach(optimization)
            _wrap_pass(optimization, progress)
        return pipeline

    setattr(quantizer, builder, reporting)


def _wrap_pass(optimization: Any, progress: Progress) -> None:
    optimize = optimization.optimize

    def reporting(*args: Any, **kwargs: Any) -> None:
        name = readable(optimization.name)
        try:
            with progress.stage(name):
                optimize(*args, **kwargs)
        except OSError:
            raise
        except Exception as error:
            raise IterationError(
                f"esp-ppq's pass {name!r} fails: {describe_failure(error)}",
                "console.log has the whole trace; where an op is named, esp-ppq cannot run it so",
            ) from error

    optimization.optimize = reporting
    if hasattr(optimization, "split_graph_into_blocks"):
        _count_blocks(optimization, progress)


def _count_blocks(optimization: Any, progress: Progress) -> None:
    split, collect = optimization.split_graph_into_blocks, optimization.collect
    blocks: list[Any] = []
    begun = [0]

    def splitting(*args: Any, **kwargs: Any) -> Any:
        blocks[:] = split(*args, **kwargs)
        return list(blocks)

    def collecting(*args: Any, **kwargs: Any) -> Any:
        # Every block begins by collecting its data.
        progress.update(begun[0], len(blocks), f"block {begun[0] + 1} of {len(blocks)}")
        begun[0] += 1
        return collect(*args, **kwargs)

    optimization.split_graph_into_blocks = splitting
    optimization.collect = collecting


def readable(name: str) -> str:
    """Return the name of one of esp-ppq's passes without its decoration."""
    for noise in ("ESP-PPQ ", "PPQ ", " Pass", " Optimization"):
        name = name.replace(noise, "")
    return name.strip().lower()
