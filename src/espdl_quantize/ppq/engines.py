"""The two engines: plain esp-ppq, and the fast one with the same results.

An engine is chosen once and handed to whatever quantizes, measures, exports or checks. Where the
fast engine fails at something, plain esp-ppq does that from the state before, inside the engine's
own methods: those who call them need not know.
"""

from __future__ import annotations

import contextlib
from abc import ABC, abstractmethod
from collections.abc import Callable, Iterator, Mapping
from typing import TYPE_CHECKING, Any, ClassVar

from espdl_quantize.contract import Batch
from espdl_quantize.core import Engine, IterationError, Progress
from espdl_quantize.ppq._blame import failure_of
from espdl_quantize.ppq._fallback import (
    ANALYSIS,
    CHIP_CHECK,
    ENGINE,
    EXPORT,
    PASS,
    REUSE,
    SELF_TEST,
    Fallback,
    FallbackRecord,
    Part,
    Restore,
    keep_graph,
)
from espdl_quantize.ppq.measure import Measurements

if TYPE_CHECKING:
    from espdl_quantize.ppq.reuse import PassMemory


class QuantizationEngine(ABC):
    """Quantizes, measures and exports by way of esp-ppq.

    An engine serves one iteration, and keeps the record of it.

    Attributes:
        name: of the kind of engine.
        fallback: what plain esp-ppq had to do for the engine.
    """

    name: ClassVar[Engine]

    def __init__(self) -> None:
        self.fallback = Fallback()

    @property
    def records(self) -> list[FallbackRecord]:
        """What plain esp-ppq did for the engine, in order."""
        return self.fallback.records

    @property
    def warnings(self) -> list[str]:
        """What the user should know of that, a line per record."""
        return self.fallback.warnings

    @abstractmethod
    @contextlib.contextmanager
    def install(self) -> Iterator[QuantizationEngine]:
        """Make esp-ppq's executors, observers and exporter work as the engine does in the block."""

    @abstractmethod
    def wrap_pass(self, optimization: Any, memory: PassMemory | None = None) -> None:
        """Change one pass of esp-ppq to work as the engine does; only this instance.

        Args:
            optimization: the pass.
            memory: of the results of earlier passes.
        """

    def measure(
        self,
        graph: Any,
        batches: list[Batch],
        device: str,
        steps: int,
        progress: Progress,
    ) -> Measurements:
        """Run the layerwise, graphwise and statistical analyses of esp-ppq.

        Args:
            graph: a quantized ``BaseGraph``; it is the same before and after.
            batches: calibration batches. esp-ppq reads ``steps + 1`` of them, since it compares
                its counter at the end of the loop; both engines do.
            device: where the graph runs.
            steps: analyse_steps of the contract.
            progress: told of each analysis.

        Raises:
            IterationError: an analysis fails.
        """
        try:
            measured = self._measure(graph, batches, device, steps, progress)
        except (OSError, IterationError):
            raise
        except Exception as error:
            raise failure_of(
                error,
                "esp-ppq cannot analyse the quantized graph",
                "analyse the quantized graph",
            ) from error
        worst_first = sorted(measured.layerwise.items(), key=lambda item: -item[1])
        return Measurements(dict(worst_first), measured.graphwise, measured.statistics)

    def write_files(
        self, write: Callable[[], None], file_name: str, snapshot: Callable[[], Restore]
    ) -> None:
        """Export by ``write``.

        Args:
            write: exports.
            file_name: of the export, for a record.
            snapshot: called before; returns what puts the state back for a second try.
        """
        write()

    def run_op(self, graph: Any, op: Any, values: Mapping[str, Any], device: str) -> list[Any]:
        """Return what one op of a quantized graph puts out.

        Args:
            graph: the ``BaseGraph``.
            op: of it.
            values: of the inputs that are no constants, by name.
            device: where it runs.

        Raises:
            RuntimeError: the op fails.
        """
        from esp_ppq.executor import TorchExecutor

        executor = TorchExecutor(graph=graph, device=device)
        names = [variable.name for variable in op.outputs]
        outputs: list[Any] = executor.partial_graph_forward([op], dict(values), names)
        return outputs

    def _measure(
        self, graph: Any, batches: list[Batch], device: str, steps: int, progress: Progress
    ) -> Measurements:
        from espdl_quantize.ppq.measure.by_esp_ppq import measure_by_esp_ppq

        return measure_by_esp_ppq(graph, batches, device, steps, progress)


class ReferenceEngine(QuantizationEngine):
    """Plain esp-ppq."""

    name = Engine.REFERENCE

    def __init__(self) -> None:
        super().__init__()
        self.fallback.give_up()

    @contextlib.contextmanager
    def install(self) -> Iterator[QuantizationEngine]:
        """Change nothing."""
        yield self

    def wrap_pass(self, optimization: Any, memory: PassMemory | None = None) -> None:
        """Leave the pass as it is: plain esp-ppq takes no results of the fast engine."""


class FastEngine(QuantizationEngine):
    """esp-ppq with parts that give the same numbers sooner, and plain esp-ppq where these fail.

    Args:
        check: compare it with plain esp-ppq first, once per version and processor; see
            :mod:`espdl_quantize.ppq.canary`. Where they differ, it leaves everything to esp-ppq.
    """

    name = Engine.FAST

    def __init__(self, *, check: bool = True) -> None:
        super().__init__()
        self._check = check

    @contextlib.contextmanager
    def install(self) -> Iterator[QuantizationEngine]:
        """Put the parts in the place of esp-ppq's within the block."""
        with contextlib.ExitStack() as stack:
            if self._check:
                self._check_itself()

            def start() -> None:
                from espdl_quantize.ppq.fast import fast_engine

                stack.enter_context(fast_engine(self.fallback))

            self.fallback.attempt(ENGINE, start, self.fallback.give_up)
            yield self

    def wrap_pass(self, optimization: Any, memory: PassMemory | None = None) -> None:
        """Make the pass fast, and have it look for results of earlier runs first."""
        from espdl_quantize.ppq.fast import speed_up_pass

        self._change_pass(PASS, optimization, lambda: speed_up_pass(optimization, self.fallback))
        if memory is not None:
            self._change_pass(REUSE, optimization, lambda: memory.attach(optimization))

    def write_files(
        self, write: Callable[[], None], file_name: str, snapshot: Callable[[], Restore]
    ) -> None:
        """Export with the engine's packing, and by plain esp-ppq alone where that fails."""
        # The same code: within, it is esp-ppq's or the fast engine's hooks that do the writing.
        self.fallback.attempt(EXPORT, write, write, lambda: file_name, snapshot)

    def run_op(self, graph: Any, op: Any, values: Mapping[str, Any], device: str) -> list[Any]:
        """Return what one op puts out, by esp-ppq's executor where the engine's fails."""

        def run() -> list[Any]:
            from espdl_quantize.ppq.fast import OpRunner, inputs_of

            return OpRunner(device).run(op, inputs_of(op, values))

        plainly = super().run_op
        return self.fallback.attempt(CHIP_CHECK, run, lambda: plainly(graph, op, values, device))

    def _check_itself(self) -> None:
        from espdl_quantize.ppq.canary import find_difference

        difference = find_difference()
        if difference:
            self.fallback.give_up(FallbackRecord(SELF_TEST.name, "", difference))

    def _measure(
        self, graph: Any, batches: list[Batch], device: str, steps: int, progress: Progress
    ) -> Measurements:
        def sweep() -> Measurements:
            # Here, so that an engine that cannot be imported leaves the work to esp-ppq.
            from espdl_quantize.ppq.measure.sweep import sweep

            return sweep(graph, batches, device, steps, progress)

        plainly = super()._measure
        return self.fallback.attempt(
            ANALYSIS,
            sweep,
            lambda: plainly(graph, batches, device, steps, progress),
            snapshot=lambda: keep_graph(graph),
        )

    def _change_pass(self, part: Part, optimization: Any, change: Callable[[], None]) -> None:
        """Change a pass, or leave it as it is where that fails."""

        def snapshot() -> Restore:
            from espdl_quantize.ppq._snapshot import Snapshot

            return Snapshot([optimization]).restore

        self.fallback.attempt(part, change, lambda: None, lambda: str(optimization.name), snapshot)


def engine_for(engine: Engine) -> QuantizationEngine:
    """Return a new engine of a kind."""
    return FastEngine() if Engine(engine) is Engine.FAST else ReferenceEngine()
