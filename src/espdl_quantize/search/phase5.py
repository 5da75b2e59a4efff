"""Phase 5, open exploration: what was covered, what helped, what is left."""

from __future__ import annotations

from dataclasses import asdict, dataclass
from typing import Any

from espdl_quantize.record import Evidence, History, Iteration
from espdl_quantize.search._describe import describe_changes
from espdl_quantize.search._sweep import SWEEP
from espdl_quantize.search.levers import LEVERS
from espdl_quantize.setting import (
    PASSES,
    Setting,
    canonical,
    enabled_passes,
    int16_ops,
    split_layers,
)

Stack = frozenset[str]

_ALIGNMENT = "fusion_alignment"


def passes_on(setting: Setting) -> frozenset[str]:
    """Return the passes that run, fusion alignment among them."""
    return frozenset(canonical(setting)) & {*PASSES, _ALIGNMENT}


def lever_stack(setting: Setting) -> Stack:
    """Return the passes that run and the ops with 16 bits or a split, each as one member.

    Stacks are compared as sets: one is deeper than another only where it holds all of it.
    """
    ops = {f"int16 {op}" for op in int16_ops(setting)}
    layers = {f"split {layer}" for layer in split_layers(setting)}
    return passes_on(setting) | ops | layers


def calibration(setting: Setting) -> str:
    """Return the calibration that runs."""
    return str(canonical(setting)["calib_algorithm"])


PATTERNS = ("5alpha", "5beta", "5gamma", "5delta")
"""5alpha: a pass or int16 turned on. 5beta: another calibration. 5gamma: a pass or int16 turned
off. 5delta: another choice of int16 or split ops, with some on both sides."""


def classify(before: Setting, after: Setting) -> frozenset[str]:
    """Return the patterns of one step; none where nothing of these changed."""
    old, new = set(passes_on(before)), set(passes_on(after))
    choices = []
    for name, ops in (("int16", int16_ops), ("split", split_layers)):
        left, right = set(ops(before)), set(ops(after))
        old |= {name} if left else set()
        new |= {name} if right else set()
        choices.append(bool(left and right and left != right))
    patterns = set()
    if new - old:
        patterns.add("5alpha")
    if calibration(before) != calibration(after):
        patterns.add("5beta")
    if old - new:
        patterns.add("5gamma")
    if any(choices):
        patterns.add("5delta")
    return frozenset(patterns)


def patterns_by_iteration(history: History, after_id: int) -> dict[int, frozenset[str]]:
    """Classify every iteration beyond ``after_id`` against the best before it."""
    classified = {}
    for iteration in history.iterations:
        prior = history.prior_best[iteration.id]
        if (
            iteration.id <= after_id
            or iteration.setting is None
            or prior is None
            or prior.setting is None
        ):
            continue
        classified[iteration.id] = classify(prior.setting, iteration.setting)
    return classified


def pattern_coverage(history: History, cutoff: int) -> dict[str, tuple[int, ...]]:
    """Return, per pattern, the iterations of phase 5 that made such a move.

    Args:
        history: all iterations.
        cutoff: the last iteration before phase 5 began; -1 if it never did.
    """
    if cutoff < 0:
        return dict.fromkeys(PATTERNS, ())
    classified = patterns_by_iteration(history, cutoff)
    return {
        pattern: tuple(number for number, patterns in classified.items() if pattern in patterns)
        for pattern in PATTERNS
    }


def calibrations_to_reapply(history: History, cutoff: int) -> tuple[str, ...]:
    """Return the calibrations whose verdict came from a shallower stack than best has today.

    Those of the sweep count from phase 2 on: each that has a score, until an iteration has had it
    on best's whole stack. Another one counts where a 5beta move of phase 5 went to it on a strict
    subset of best's stack; a stack that is neither within best's nor around it says nothing there.
    """
    best = history.best
    if best is None or best.setting is None or cutoff < 0:
        return ()
    deepest = lever_stack(best.setting)
    covered = pattern_coverage(history, cutoff)["5beta"]
    shallow, tested = set(), set()
    for iteration in history.iterations:
        if iteration.setting is None:
            continue
        stack = lever_stack(iteration.setting)
        name = calibration(iteration.setting)
        if stack >= deepest:
            tested.add(name)
        elif (name in SWEEP and iteration.value is not None) or (
            iteration.id in covered and stack < deepest
        ):
            shallow.add(name)
    return tuple(sorted(shallow - tested))


def untried_patterns(
    coverage: dict[str, tuple[int, ...]], reapply: tuple[str, ...]
) -> tuple[str, ...]:
    """Return the patterns without an iteration; 5beta also while a calibration is owed."""
    return tuple(
        pattern for pattern in PATTERNS if not coverage[pattern] or (pattern == "5beta" and reapply)
    )


def untried_calib_swaps(history: History) -> tuple[str, ...]:
    """Return the calibrations of the sweep that no iteration has had on best's stack."""
    best = history.best
    if best is None or best.setting is None:
        return ()
    deepest = lever_stack(best.setting)
    tested = {
        calibration(iteration.setting)
        for iteration in history.iterations
        if iteration.setting is not None and lever_stack(iteration.setting) >= deepest
    }
    return tuple(name for name in SWEEP if name not in tested)


@dataclass(frozen=True)
class Tunable:
    """One parameter: where it is, what best has, and what is common."""

    path: str
    current: Any
    common: str


def tunables(setting: Setting) -> tuple[Tunable, ...]:
    """List the parameters of every pass that is on."""
    form = canonical(setting)
    parameters = [
        Tunable(f"{spec.field}.{knob.field}", form[spec.field][knob.field], knob.advice)
        for spec, _ in enabled_passes(setting)
        for knob in spec.knobs
    ]
    for key, value in form.get("fusion_alignment", {}).items():
        if key != "force_alignment_overlap":
            single = key in ("align_resize_to", "align_avgpooling_to")
            choice = "Align to Input" if single else "Align to Large"
            common = f"None, {choice}, Align to Output"
            if key == "align_elementwise_to":
                common = "Align to Output alone: the chip adds raw integers"
            parameters.append(Tunable(f"fusion_alignment.{key}", value, common))
    if form["calib_algorithm"] == "percentile":
        parameters.append(
            Tunable("percentile", 0.9999, "0.999 to 0.99999; esp-ppq's observer, no setting field")
        )
    return tuple(parameters)


@dataclass(frozen=True)
class LeverEffect:
    """What one iteration did to the best before it.

    Attributes:
        iter: its id.
        delta_vs_prior_best: positive = better, whichever way the metric goes.
        added_pass: the passes it turned on, or else everything it changed, in words.
    """

    iter: int
    delta_vs_prior_best: float
    added_pass: str


@dataclass(frozen=True)
class Phase5Signals:
    """A summary of data; it prescribes nothing."""

    best_setting_summary: dict[str, Any]
    iteration_count_total: int
    phase5_iteration_count: int
    phase5_cutoff_iter_id: int
    phase5_pattern_coverage: dict[str, tuple[int, ...]]
    untried_phase5_patterns: tuple[str, ...]
    untried_phase3_levers: tuple[str, ...]
    untried_5beta_reapply: tuple[str, ...]
    improving_levers: tuple[LeverEffect, ...]
    regressing_levers: tuple[LeverEffect, ...]
    untried_calib_swaps: tuple[str, ...]
    top_error_layers: tuple[dict[str, Any], ...]
    non_computing_hot_ops_top3: tuple[dict[str, Any], ...]
    graphwise_jumps_top3: tuple[dict[str, Any], ...]
    artifacts_to_read: tuple[str, ...]
    tunable_parameters: tuple[Tunable, ...]

    @property
    def is_covered(self) -> bool:
        """Return whether nothing is left that coverage asks for."""
        return not (
            self.untried_phase5_patterns or self.untried_phase3_levers or self.untried_5beta_reapply
        )

    def to_json(self) -> dict[str, Any]:
        """Return plain data."""
        return asdict(self)


def gather_signals(
    history: History, evidence: Evidence, cutoff: int, untried_levers: tuple[str, ...]
) -> Phase5Signals:
    """Summarise the history.

    Args:
        history: all iterations.
        evidence: best's artifacts.
        cutoff: the last iteration before phase 5 began.
        untried_levers: levers of the linear order that apply and have not been tried.
    """
    coverage = pattern_coverage(history, cutoff)
    reapply = calibrations_to_reapply(history, cutoff)
    effects = lever_effects(history)
    best = history.best
    return Phase5Signals(
        best_setting_summary=_summary(best),
        iteration_count_total=len(history.iterations),
        phase5_iteration_count=sum(0 <= cutoff < iteration.id for iteration in history.iterations),
        phase5_cutoff_iter_id=cutoff,
        phase5_pattern_coverage=coverage,
        untried_phase5_patterns=untried_patterns(coverage, reapply),
        untried_phase3_levers=untried_levers,
        untried_5beta_reapply=reapply,
        improving_levers=tuple(effect for effect in effects if effect.delta_vs_prior_best > 0),
        regressing_levers=tuple(effect for effect in effects if effect.delta_vs_prior_best < 0),
        untried_calib_swaps=untried_calib_swaps(history),
        top_error_layers=tuple({"op": op, "snr": snr} for op, snr in evidence.worst(5)),
        non_computing_hot_ops_top3=tuple(asdict(op) for op in evidence.hot_ops[:3]),
        graphwise_jumps_top3=tuple(asdict(jump) for jump in evidence.jumps[:3]),
        artifacts_to_read=() if best is None else _artifacts(best),
        tunable_parameters=() if best is None or best.setting is None else tunables(best.setting),
    )


def lever_effects(history: History) -> tuple[LeverEffect, ...]:
    """Return what each scored iteration did to the best before it."""
    effects = []
    for iteration in history.iterations:
        gain, prior = history.gain(iteration), history.prior_best[iteration.id]
        if gain is None or prior is None:
            continue
        if iteration.setting is not None and prior.setting is not None:
            added = sorted(passes_on(iteration.setting) - passes_on(prior.setting))
            change = ", ".join(added) or describe_changes(prior.setting, iteration.setting)
        else:
            change = describe_changes(None, iteration.setting)
        effects.append(LeverEffect(iteration.id, gain, change))
    return tuple(effects)


def _summary(best: Iteration | None) -> dict[str, Any]:
    if best is None or best.setting is None:
        return {}
    return {"iteration_id": best.id, **canonical(best.setting)}


def _artifacts(best: Iteration) -> tuple[str, ...]:
    names = ("layerwise_error", "layer_stats_full", "non_computing_hot_ops", "graphwise_jumps")
    return tuple(f"{best.name}/{name}.json" for name in names)


def covers(signals: Phase5Signals, base: Setting, setting: Setting) -> tuple[str, ...]:
    """Name the untried levers, patterns and calibrations that running ``setting`` would cover."""
    covered = [name for name in signals.untried_phase3_levers if LEVERS[name].marks(setting)]
    owed = signals.untried_5beta_reapply
    reapplied = calibration(setting) in owed and lever_stack(setting) >= lever_stack(base)
    for pattern in signals.untried_phase5_patterns:
        # While a calibration is owed, any other swap leaves 5beta as it is.
        is_met = reapplied if pattern == "5beta" and owed else True
        if is_met and pattern in classify(base, setting):
            covered.append(pattern)
    if reapplied:
        covered.append(f"reapply {calibration(setting)}")
    return tuple(covered)
