"""This project's strategies: ``tune`` as the command runs it, for a time."""

from __future__ import annotations

import time
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from benchmarks.zoo.job import Evaluations, Messages, short
from benchmarks.zoo.networks import Job
from benchmarks.zoo.results import Incumbent, Result, Score
from espdl_quantize.core import EspdlQuantizeError, NoProgress, Strategy
from espdl_quantize.iteration import RunOptions
from espdl_quantize.record import History, Iteration, read_history
from espdl_quantize.record.files import FINAL
from espdl_quantize.setting import canonical
from espdl_quantize.tuning import Budget, Observer, RealBackend, TuneOptions, tune


@dataclass(frozen=True)
class _Step:
    """What stood after an iteration: the best so far, by its number."""

    seconds: float
    best: int | None
    scored: int


class _Steps(Observer):
    """Notes when the best so far changes, and keeps what scored each iteration."""

    def __init__(self, evaluations: Evaluations, send: Messages, seconds: float) -> None:
        self.steps: list[_Step] = []
        self.scores: dict[int, dict[str, Any] | None] = {}
        self._evaluations, self._send, self._seconds = evaluations, send, seconds
        self._started = time.monotonic()

    def iteration_ended(self, iteration: Iteration, history: History) -> None:
        """Note one."""
        seconds = time.monotonic() - self._started
        if iteration.value is not None:
            self.scores[iteration.id] = self._evaluations.last("evaluate", iteration.value)
        best = history.best
        self.steps.append(_Step(seconds, best.id if best else None, len(history.scored)))
        value = best.value if best else None
        self._send(seconds=seconds, iterations=len(history.scored), best=value)


def search(job: Job, evaluations: Evaluations, send: Messages) -> Result:
    """Search; then score every model that was the best for a while on the held-out samples."""
    outputs = Path(job.folder) / "outputs"
    backend = RealBackend(evaluations.contract, RunOptions())
    options = TuneOptions(
        Budget(seconds=job.seconds),
        ignore_plateau=True,
        final=False,
        strategy=Strategy(job.strategy),
    )
    steps, error = _Steps(evaluations, send, job.seconds), ""
    ended = ""
    try:
        # Named here, since it may be of the processor: the default is that of the import.
        result = tune(backend, outputs, options, observer=steps, clock=time.monotonic)
        ended = f"{result.category}: {result.detail}"
    except EspdlQuantizeError as raised:
        error = short(raised)
    history = read_history(outputs)
    # What ended after the time is not this strategy's.
    within = [step for step in steps.steps if step.seconds <= job.seconds]
    by_id = {iteration.id: iteration for iteration in history.iterations}
    incumbents: list[tuple[int, Incumbent]] = []
    finals = _Finals(backend, outputs, evaluations, send)
    for step in within:
        if step.best is None or (incumbents and incumbents[-1][0] == step.best):
            continue
        iteration = by_id[step.best]
        search_score = evaluations.score(steps.scores.get(step.best)) or _bare(iteration)
        incumbents.append((step.best, finals.incumbent(iteration, step.seconds, search_score)))
    first = incumbents[0] if incumbents else None
    baseline = first[1] if first is not None and first[0] == 0 else None
    known = by_id.get(first[0]) if first else None
    return evaluations.result(
        job,
        [incumbent for _, incumbent in incumbents],
        error,
        float_search=known.float_value if known else None,
        float_final=finals.float_value,
        baseline=baseline,
        iterations=within[-1].scored if within else 0,
        took=within[-1].seconds if within else 0.0,
        ended=ended,
    )


def _bare(iteration: Iteration) -> Score:
    assert iteration.value is not None
    return Score(iteration.value)


class _Finals:
    """Scores iterations again on the samples of the final score, as ``final`` does."""

    def __init__(
        self, backend: RealBackend, outputs: Path, evaluations: Evaluations, send: Messages
    ) -> None:
        self._backend, self._outputs, self._send = backend, outputs.resolve(), send
        self._evaluations = evaluations
        self._scores: dict[int, Score | None] = {}
        self.float_value: float | None = None

    def incumbent(self, iteration: Iteration, seconds: float, search: Score) -> Incumbent:
        """Return an iteration as an incumbent, with its final score."""
        if iteration.id not in self._scores and self._evaluations.has_final:
            self._send(note=f"final score of {iteration.name}")
            self._scores[iteration.id] = self._score(iteration)
        return Incumbent(
            seconds,
            describe(iteration),
            search,
            self._scores.get(iteration.id),
            iteration.spent["max_latency_ms"],
        )

    def _score(self, iteration: Iteration) -> Score | None:
        assert iteration.setting is not None
        folder = self._outputs / FINAL / iteration.name
        folder.parent.mkdir(exist_ok=True)
        record = self._backend.run_auxiliary(
            iteration.setting,
            folder,
            NoProgress(),
            home=str(self._outputs),
            final=True,
            seed=iteration.seed or 0,
            **({} if iteration.engine is None else {"engine": iteration.engine}),
        )
        self.float_value = record.float_value
        return self._evaluations.score(self._evaluations.last("evaluate_final", record.value))


def describe(iteration: Iteration) -> str:
    """Name a setting by its fields that are other than esp-ppq's defaults."""
    if iteration.setting is None:
        return iteration.name
    fields = {
        name: value
        for name, value in canonical(iteration.setting).items()
        if name not in ("iteration_id", "rationale")
    }
    return " + ".join(
        str(value) if name == "calib_algorithm" else name for name, value in fields.items()
    )
