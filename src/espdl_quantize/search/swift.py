"""The strategy "swift": what is cheap first, then training of what came out of it.

A second decision procedure beside the seed's. It shares the levers, the ranking and the stops, and
is a pure function of the history, too. Training takes nearly all of a search's time, and at the
schedules in use it moves no exponent: so the calibrations, and the levers that cost the chip
nothing, are judged without it, by the metric and, within its noise, by the noise at the outputs. A
short training then tells finalists apart, and only the best of them is trained for long. Every
iteration changes one thing in an earlier one, so that a change is kept on its own merits.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING

from espdl_quantize.core import Phase
from espdl_quantize.record import Evidence, Iteration, signals_that_count
from espdl_quantize.search._decisions import Proposal, Stop
from espdl_quantize.search._describe import (
    cite,
    describe_changes,
    describe_score,
    describe_setting,
)
from espdl_quantize.search._stops import plateau
from espdl_quantize.search._sweep import DEFAULT_TQT
from espdl_quantize.search.levers import LEVERS, is_tried
from espdl_quantize.search.phase5 import calibration
from espdl_quantize.search.rules import (
    baseline_first,
    crash_notes,
    judge_lever,
    pull,
    target_met,
)
from espdl_quantize.setting import (
    TRAINING_PASSES,
    Setting,
    TqtOptimization,
    baseline,
    canonical,
    enabled_passes,
)

if TYPE_CHECKING:
    from espdl_quantize.search._state import SearchState

SCREENED = ("kl", "minmax", "percentile", "mse")
"""Calibrations that are tried without training: all but isotone, whose scales are no powers of two,
and ESP-DL chips have no others."""

SHORT_TQT = DEFAULT_TQT.model_copy(update={"steps": 50, "lr": 1e-4})
"""As far as the default schedule goes, in a tenth of its steps. On the S3 that left noise:signal of
0.078 at the outputs of the demo (the default: 0.082), 0.0018 at those of the detector (0.0018)."""

LONG_TQT = DEFAULT_TQT.model_copy(update={"steps": 200, "lr": 1e-4})
"""Four times as far: 0.034 on the demo, and on the detector no less. So it is for what came out
best, and kept only where it is better."""

LONGEST_TQT = DEFAULT_TQT.model_copy(update={"steps": 800, "lr": 1e-4})
"""Only where that gained, and the float model is still ahead by more than chance."""

_OF_EXPONENTS = ("3d", "3c")
"""Levers that cost the chip nothing and after which another calibration may be the best."""

_OF_VALUES = ("3b",)
"""Levers that cost the chip nothing and leave the exponents as they are."""

_OF_OUTPUTS = ("3k",)
"""Levers that cost the chip nothing, and on a large network more time than a short training: that
comes first. On EfficientNet-Lite0 it gained 13 points without training, on a trained network less:
so they are pulled where a gap is left."""

_PAID = ("3i", "3e", "3f")
"""Levers that the chip pays for: only where a gap is left after training. Groups of ops come first:
on the example with Swish one op with 16 bits (3e) won nothing, groups of them (3i) did."""


@dataclass(frozen=True)
class _Step:
    """One candidate of the program.

    Attributes:
        base: what is changed; None for the baseline.
        setting: complete, but for its number and rationale.
        phase: where the search stands.
        pattern: what it is, in a few words.
        reason: why it comes now.
        lever: id of the lever that it pulls.
        calibration: that it tries.
        race: as of :class:`Proposal`.
    """

    base: Iteration | None
    setting: Setting
    phase: Phase
    pattern: str
    reason: str
    lever: str | None = None
    calibration: str | None = None
    race: str = ""

    @property
    def is_trained(self) -> bool:
        """Return whether anything is trained."""
        return _trains(self.setting)


class _Borrowing(Mapping[int, Evidence]):
    """The evidence of iterations; those that were not analysed have the baseline's."""

    def __init__(self, evidence: Mapping[int, Evidence], lender: Iteration | None) -> None:
        self._evidence, self._lender = evidence, lender

    def __getitem__(self, iteration_id: int) -> Evidence:
        own = self._evidence[iteration_id]
        if own.layerwise or self._lender is None:
            return own
        return self._evidence.get(self._lender.id, own)

    def __iter__(self) -> Iterator[int]:
        return iter(self._evidence)

    def __len__(self) -> int:
        return len(self._evidence)


def decide_swiftly(state: SearchState) -> Proposal | Stop | None:
    """Return the next step; None where the program is through and the search is open."""
    for rule in (baseline_first, target_met):
        decision = rule(state)
        if decision is not None:
            return decision
    step = _next_step(state)
    if step is not None:
        return _proposal(state, step)
    return _flat(state) if state.options.user_budget else _through(state)


def program_ended_after(state: SearchState) -> int | None:
    """Return how many iterations the program took; None while it goes on."""
    for count in range(1, len(state.history.iterations) + 1):
        if _next_step(state.upto(count)) is None:
            return count
    return None


@dataclass(frozen=True)
class Stretch:
    """Some steps of the program that are left.

    Attributes:
        name: what is done.
        setting: of one of them.
        iterations: how many there are, at most.
    """

    name: str
    setting: Setting
    iterations: int


def stretches_left(state: SearchState) -> list[Stretch]:
    """Lay out what is left of the program."""
    cheap = _untrained(state)
    base = cheap.base
    screened = [step for step in _screen(None, base, "") if state.is_new(step.setting)]
    free = [name for name in (*_OF_EXPONENTS, *_OF_VALUES) if _is_left(name, state)]
    paid = [name for name in _PAID if _is_left(name, state)]
    outputs = [name for name in _OF_OUTPUTS if _is_left(name, state)]
    settings = [item.setting for item in state.history.iterations if item.setting]
    short = sum(_has(setting, SHORT_TQT) for setting in settings)
    schedules = (LONG_TQT, LONGEST_TQT)
    longer = sum(any(_has(setting, each) for setting in settings) for each in schedules)
    finalists = 1 + state.options.thresholds.swift_rivals
    left = (
        Stretch("calibrations without training", base, len(screened)),
        Stretch("levers without training", base, len(free)),
        Stretch("short training of the best", _trained(base, SHORT_TQT), finalists - short),
        Stretch("search over the exponents", _trained(base, SHORT_TQT), len(outputs)),
        Stretch("levers that the chip pays for", _trained(base, SHORT_TQT), len(paid)),
        Stretch("longer training", _trained(base, LONG_TQT), len(schedules) - longer),
    )
    return [stretch for stretch in left if stretch.iterations > 0]


def _next_step(state: SearchState) -> _Step | None:
    """Return the first candidate of the program that was never run and can be."""
    for step in _program(state):
        setting = state.without_crashed_layers(step.setting)
        if state.is_new(setting):
            return replace(step, setting=setting)
    return None


def _program(state: SearchState) -> Iterator[_Step]:
    """Yield the candidates in their order, given what came of the earlier ones."""
    cheap = _untrained(state)
    first = state.history.baseline
    yield from _screen(first, baseline(num_of_bits=state.options.width), "without training")
    if not cheap.has_base:
        return
    yield from _pull_each(cheap, state, _OF_EXPONENTS)
    if not is_tried(LEVERS["3b"], state.history):
        yield from _screen(cheap.best, cheap.base, f"on the levers of {cheap.base_name}")
    yield from _pull_each(cheap, state, _OF_VALUES)
    yield from _train_finalists(cheap)
    if _has_gap(state):
        yield from _train_gently(state)
        yield from _pull_each(_borrowing(state), state, (*_OF_OUTPUTS, *_PAID))
    yield from _train_longer(state)


def _screen(base: Iteration | None, setting: Setting, where: str) -> Iterator[_Step]:
    """Yield a setting with each calibration."""
    for name in SCREENED:
        yield _Step(
            base,
            setting.model_copy(update={"calib_algorithm": name}),
            Phase.SWEEP,
            f"{name} {where}",
            f"{name} calibration was not tried {where}, which takes little time",
            calibration=name,
            race=f"calibrations {where}",
        )


def _pull_each(on: SearchState, state: SearchState, levers: tuple[str, ...]) -> Iterator[_Step]:
    """Yield each lever that was never tried and that applies to the best of ``on``."""
    for name in levers:
        lever = LEVERS[name]
        if _is_left(name, state) and (judgement := judge_lever(lever, on)).applies:
            setting = pull(lever, on)
            yield _Step(
                on.best,
                setting,
                Phase.RESIDUAL,
                name,
                judgement.reason,
                lever=name,
                race=f"levers {' and '.join(levers)}",
            )


def _is_left(lever: str, state: SearchState) -> bool:
    return not is_tried(LEVERS[lever], state.history)


def _train_finalists(cheap: SearchState) -> Iterator[_Step]:
    """Train the best of the untrained for a short time, and those that come near it."""
    if cheap.best is None:
        return
    pattern = "trained for a short time"
    reason = f"{cheap.base_name} is the best without training"
    yield _train(cheap.best, SHORT_TQT, pattern, reason, race="finalists")
    for rival in _rivals(cheap):
        reason = f"{rival.name} comes near {cheap.base_name}, and training may turn the two"
        yield _train(rival, SHORT_TQT, pattern, reason, race="finalists")


def _train_gently(state: SearchState) -> Iterator[_Step]:
    """Train at the default rate what the higher one of the short training has not made better."""
    if state.best is not None and state.has_base and not _trains(state.base):
        reason = f"no short training made {state.base_name} better, and the float model is ahead"
        yield _train(state.best, DEFAULT_TQT, "trained by the default schedule", reason)


def _train_longer(state: SearchState) -> Iterator[_Step]:
    """Train the best for longer as long as that gains."""
    if state.best is None or not state.has_base:
        return
    if _has(state.base, SHORT_TQT):
        reason = f"{state.base_name} gained by a short training"
        yield _train(state.best, LONG_TQT, "trained for long", reason)
    elif _has(state.base, LONG_TQT) and _has_gap(state):
        reason = f"{state.base_name} gained by a long training, and the float model is still ahead"
        yield _train(state.best, LONGEST_TQT, "trained for longest", reason)


def _train(
    base: Iteration, schedule: TqtOptimization, pattern: str, reason: str, race: str = ""
) -> _Step:
    assert base.setting is not None
    setting = _trained(base.setting, schedule)
    name = calibration(setting)
    pattern = f"{name}, {pattern}"
    return _Step(base, setting, Phase.RESIDUAL, pattern, reason, calibration=name, race=race)


def _trained(setting: Setting, schedule: TqtOptimization) -> Setting:
    """Return a setting with a schedule; what its training leaves out stays left out."""
    section = setting.tqt_optimization
    if section is not None and section.enabled:
        schedule = section.model_copy(update={"steps": schedule.steps, "lr": schedule.lr})
    return setting.model_copy(update={"tqt_optimization": schedule})


def _has(setting: Setting, schedule: TqtOptimization) -> bool:
    section = setting.tqt_optimization
    if section is None or not section.enabled:
        return False
    return (section.steps, section.lr) == (schedule.steps, schedule.lr)


def _rivals(cheap: SearchState) -> list[Iteration]:
    """Return what differs from the best in its calibration alone and is little noisier."""
    best, limits = cheap.best, cheap.options.thresholds
    if best is None or best.setting is None:
        return []
    stack = _without_calibration(best.setting)
    rivals = [
        iteration
        for iteration in cheap.history.scored
        if iteration is not best
        and iteration.setting is not None
        and _without_calibration(iteration.setting) == stack
        and _is_near(cheap, iteration, best)
    ]
    rivals.sort(key=lambda item: (_noise(item) or 0.0, -cheap.ranking.height(item), item.id))
    return rivals[: limits.swift_rivals]


def _is_near(cheap: SearchState, iteration: Iteration, best: Iteration) -> bool:
    mine, others = _noise(iteration), _noise(best)
    if mine is not None and others is not None:
        return mine <= others * cheap.options.thresholds.swift_rival_noise
    return cheap.ranking.is_chance(iteration, best)


def _without_calibration(setting: Setting) -> dict[str, object]:
    form = canonical(setting)
    del form["calib_algorithm"]
    return form


def _noise(iteration: Iteration) -> float | None:
    signals = signals_that_count(iteration)
    return None if signals is None else signals.noise_signal


def _untrained(state: SearchState) -> SearchState:
    """Return the state of the iterations without training alone."""
    untrained = tuple(
        iteration
        for iteration in state.history.iterations
        if iteration.setting is None or not _trains(iteration.setting)
    )
    return replace(_borrowing(state), history=replace(state.history, iterations=untrained))


def _borrowing(state: SearchState) -> SearchState:
    """Return the state in which an iteration that was not analysed has the baseline's evidence."""
    return replace(state, evidence=_Borrowing(state.evidence, state.history.baseline))


def _trains(setting: Setting) -> bool:
    return any(spec.field in TRAINING_PASSES for spec, _ in enabled_passes(setting))


def _has_gap(state: SearchState) -> bool:
    """Tell whether best is behind the float model by more than chance, as far as it is known."""
    history, best = state.history, state.best
    if best is None:
        return False
    reference = history.float_value(best)
    if reference is None:
        return True
    return history.gap_to(best, reference) > 0 and not history.noise.is_chance_drop(best, reference)


def _through(state: SearchState) -> Stop | None:
    """End the search with the program, where nobody has given it more time."""
    if state.best is None:
        return None
    score = describe_score(state.ranking, state.best)
    return Stop(
        category="coverage_exhausted",
        detail=f"every step of the strategy swift was run; {score}",
        notes=tuple(crash_notes(state)),
    )


def _flat(state: SearchState) -> Stop | None:
    """End open exploration where it moves nothing any more."""
    ended, window = program_ended_after(state), state.options.thresholds.plateau_window
    if ended is None or len(state.history.iterations) < ended + window:
        return None
    last = plateau(state.ranking, state.options.thresholds)
    if not last:
        return None
    names = ", ".join(iteration.name for iteration in last)
    return Stop(
        category="plateau",
        detail=f"{names} came after all steps of the strategy and are flat against best",
        notes=tuple(crash_notes(state)),
    )


def _proposal(state: SearchState, step: _Step) -> Proposal:
    """Put a candidate into a setting and into words."""
    number, base = state.history.next_id, step.base
    change = describe_setting(step.setting)
    numbers = ""
    if base is not None:
        evidence = state.evidence.get(base.id)
        change = f"{describe_changes(base.setting, step.setting)} on {base.name}"
        numbers = "" if evidence is None else f" {cite(state.ranking, base, evidence)}."
    rationale = f"Swift: {change}. {step.reason}.{numbers}"
    return Proposal(
        setting=step.setting.model_copy(update={"iteration_id": number, "rationale": rationale}),
        phase=step.phase,
        pattern=step.pattern,
        reason=step.reason,
        advice=f"Run iter_{number}: {change}: {step.reason}.",
        lever=step.lever,
        calibration=step.calibration,
        citations=() if base is None else (base.id,),
        notes=tuple(crash_notes(state)),
        is_lean=not step.is_trained,
        race=step.race,
    )
