"""Reports each pass of esp-ppq's quantizer as a stage, and training passes block by block."""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING, Any

from espdl_quantize.errors import IterationError
from espdl_quantize.quantize._blame import failure_of
from espdl_quantize.quantize._engine import Engine
from espdl_quantize.quantize._fallback import PASS, REUSE, Fallback, Restore
from espdl_quantize.quantize._progress import Progress

if TYPE_CHECKING:
    from espdl_quantize.quantize.reuse import PassMemory


def prepare_passes(
    quantizer: Any,
    progress: Progress,
    engine: Engine,
    fallback: Fallback,
    memory: PassMemory | None = None,
) -> None:
    """Make a quantizer tell ``progress`` of every pass that it runs, with the engine's own parts.

    Where there is a memory, what it knows of is taken from it.

    Only this instance changes: its two pipeline builders return the same passes, each with an
    ``optimize`` that is wrapped in a stage.
    """
    for builder in ("build_prequant_pipeline", "build_quant_pipeline"):
        _wrap_builder(quantizer, builder, progress, engine, fallback, memory)


def _wrap_builder(
    quantizer: Any,
    builder: str,
    progress: Progress,
    engine: Engine,
    fallback: Fallback,
    memory: PassMemory | None,
) -> None:
    build = getattr(quantizer, builder)

    def reporting(*args: Any, **kwargs: Any) -> Any:
        pipeline = build(*args, **kwargs)
        for optimization in pipeline:
            if engine == "fast":
                fallback.attempt(PASS, *_either(_speed_up, optimization, fallback))
            if memory is not None:
                fallback.attempt(REUSE, *_either(memory.attach, optimization))
            _wrap_pass(optimization, progress)
        return pipeline

    setattr(quantizer, builder, reporting)


def _either(
    change: Callable[..., None], optimization: Any, *given: Any
) -> tuple[Callable[[], None], Callable[[], None], Callable[[], str], Callable[[], Restore]]:
    """Return what attempts to change a pass, and leaves it as it is where that fails."""

    def snapshot() -> Restore:
        from espdl_quantize.quantize._snapshot import Snapshot

        return Snapshot([optimization]).restore

    return (
        lambda: change(optimization, *given),
        lambda: None,
        lambda: readable(optimization.name),
        snapshot,
    )


def _speed_up(optimization: Any, fallback: Fallback) -> None:
    from espdl_quantize.quantize.fast import speed_up_pass

    speed_up_pass(optimization, fallback)


def _wrap_pass(optimization: Any, progress: Progress) -> None:
    optimize = optimization.optimize

    def reporting(*args: Any, **kwargs: Any) -> None:
        name = readable(optimization.name)
        try:
            with progress.stage(name):
                optimize(*args, **kwargs)
        except (OSError, IterationError):
            raise
        except Exception as error:
            raise failure_of(
                error,
                f"esp-ppq's pass {name!r} fails",
                f"run the pass {name!r}",
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
        # A pass that is run again counts from the first block.
        blocks[:], begun[0] = split(*args, **kwargs), 0
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
