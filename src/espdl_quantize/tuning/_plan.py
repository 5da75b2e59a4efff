"""What a search expects to do, and how long that takes as far as it was measured."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, field

from espdl_quantize.search import (
    Open,
    SearchState,
    TimeEstimate,
    TimeModel,
    decide,
    stretches_left,
    sweep_setting,
)
from espdl_quantize.setting import Setting
from espdl_quantize.tuning._budget import Budget


@dataclass(frozen=True)
class PlanStep:
    """One stretch of the search.

    Attributes:
        name: what is done.
        iterations: how many there are; None where nobody knows.
        at_most: there may be fewer of them.
        time: of all of them; None where nothing was measured.
    """

    name: str
    iterations: int | None
    at_most: bool = field(default=False, kw_only=True)
    time: TimeEstimate | None = field(default=None, kw_only=True)

    def __str__(self) -> str:
        text = self.name
        if self.iterations is not None:
            most = "at most " if self.at_most else ""
            text += f": {most}{self.iterations} iteration{'s' if self.iterations != 1 else ''}"
        return text + (f", {self.time}" if self.time is not None else "")


@dataclass(frozen=True)
class Plan:
    """What is expected, given what was measured.

    Attributes:
        steps: what is left to do, in order.
        budget: the user's ceiling.
        per_iteration: of one iteration of best's kind; None where nothing was measured.
        measured: "nothing", the "baseline", or "training", too.
    """

    steps: tuple[PlanStep, ...]
    budget: Budget
    per_iteration: TimeEstimate | None
    measured: str
    is_swift: bool = False

    def lines(self) -> list[str]:
        """Write the plan."""
        lines = [f"  {step}" for step in self.steps]
        text = f"budget: {self.budget}"
        if self.budget.iterations is not None and self.per_iteration is not None:
            whole = self.per_iteration.times(self.budget.iterations)
            text += f"; at the pace of one iteration ({self.per_iteration}) that is {whole}"
        elif not self.budget.is_set:
            plateau = "" if self.is_swift else ", at a plateau"
            text += f"; it stops at the target{plateau}, or when nothing is left to try"
        elif self.budget.seconds is not None and self.per_iteration is not None:
            count = int(self.budget.seconds / max(self.per_iteration.seconds, 1e-9))
            text += f"; room for about {count} iterations ({self.per_iteration} each)"
        if self.measured == "nothing":
            text += "; how long an iteration takes is known once the baseline has run"
        elif self.measured == "baseline":
            how = "what training adds is"
            if self.per_iteration is not None and self.per_iteration.derived:
                how = "what training adds is derived from one forward, and"
            text += f"; {how} known once the first training has run"
        return [*lines, text]


def make_plan(state: SearchState, budget: Budget) -> Plan:
    """Lay out what is left of the search."""
    history, times, missing = state.history, state.times, state.missing_sweep
    best = history.best.setting if history.best is not None else None
    steps = []
    if not history.iterations:
        steps.append(PlanStep("baseline", 1))
    if state.is_swift:
        steps += _swift_steps(state)
    if missing and not state.is_swift:
        name = f"calibration sweep ({', '.join(missing)}, each with TQT)"
        estimate = _times(times, sweep_setting(missing[0]), len(missing))
        steps.append(PlanStep(name, len(missing), time=estimate))
    if not isinstance(decide(state), Open) and not state.is_swift:
        cap = state.options.thresholds.phase3_cap
        if not missing:
            cap -= len(history.iterations) - (state.sweep_complete_after or 0)
        estimate = _times(times, best or sweep_setting("kl"), cap)
        steps.append(PlanStep("levers, one change at a time", cap, at_most=True, time=estimate))
    if budget.is_set or not state.is_swift:
        steps.append(PlanStep("open exploration", None))
    measured = "training" if times.knows_training else "baseline" if history.scored else "nothing"
    per_iteration = times.estimate(best or sweep_setting("kl"))
    if measured == "baseline":
        per_iteration = times.estimate(sweep_setting("kl"))
    return Plan(tuple(steps), budget, per_iteration, measured, state.is_swift)


def _swift_steps(state: SearchState) -> Iterator[PlanStep]:
    for stretch in stretches_left(state):
        estimate = _times(state.times, stretch.setting, stretch.iterations)
        yield PlanStep(stretch.name, stretch.iterations, at_most=True, time=estimate)


def _times(times: TimeModel, setting: Setting, count: int) -> TimeEstimate | None:
    estimate = times.estimate(setting)
    return None if estimate is None else estimate.times(count)
