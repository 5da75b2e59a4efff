"""What the history offers to whoever writes the next setting in phase 5."""

from __future__ import annotations

from dataclasses import asdict, dataclass
from typing import Any

from espdl_quantize.record import Evidence, History, Iteration
from espdl_quantize.search._describe import describe_changes
from espdl_quantize.search.phase5._coverage import (
    calibrations_to_reapply,
    pattern_coverage,
    untried_calib_swaps,
    untried_patterns,
)
from espdl_quantize.search.phase5._stack import passes_on
from espdl_quantize.search.phase5._tunables import Tunable, tunables
from espdl_quantize.setting import canonical


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
        phase5_iteration_count=sum(0 <= cutoff < row.id for row in history.iterations),
        phase5_cutoff_iter_id=cutoff,
        phase5_pattern_coverage=coverage,
        untried_phase5_patterns=untried_patterns(coverage, reapply),
        untried_phase3_levers=untried_levers,
        untried_5beta_reapply=reapply,
        improving_levers=tuple(row for row in effects if row.delta_vs_prior_best > 0),
        regressing_levers=tuple(row for row in effects if row.delta_vs_prior_best < 0),
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
    for row in history.iterations:
        gain, prior = history.gain(row), history.prior_best[row.id]
        if gain is None or prior is None:
            continue
        if row.setting is not None and prior.setting is not None:
            added = sorted(passes_on(row.setting) - passes_on(prior.setting))
            told = ", ".join(added) or describe_changes(prior.setting, row.setting)
        else:
            told = describe_changes(None, row.setting)
        effects.append(LeverEffect(row.id, gain, told))
    return tuple(effects)


def _summary(best: Iteration | None) -> dict[str, Any]:
    if best is None or best.setting is None:
        return {}
    return {"iteration_id": best.id, **canonical(best.setting)}


def _artifacts(best: Iteration) -> tuple[str, ...]:
    names = ("layerwise_error", "layer_stats_full", "non_computing_hot_ops", "graphwise_jumps")
    return tuple(f"{best.name}/{name}.json" for name in names)
