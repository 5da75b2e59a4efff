"""What a change is expected to gain: the record of its kind, shrunk to a prior."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from espdl_quantize.record import Iteration
from espdl_quantize.search.phase5 import lever_stack
from espdl_quantize.search.policies._parameters import PolicyParameters
from espdl_quantize.setting import PASSES, Change, Setting, diff, int16_ops, split_layers

if TYPE_CHECKING:
    from espdl_quantize.search._state import SearchState

_SWITCHES = (*PASSES, "fusion_alignment", "extra")

_ASKS_FOR = {
    "R1": "calib percentile",
    "R2": "calib mse",
    "R8": "fusion_alignment",
    **{spec.trigger: name for name, spec in PASSES.items() if spec.trigger},
}
"""The change that each trigger of the playbook speaks for."""


_OPS = ("int16", "split")
"""Families whose members are alike: what helped one op may help another."""


@dataclass(frozen=True)
class Feature:
    """One kind of change.

    Attributes:
        family: what it has in common with others, such as "int16".
        name: exactly what it is, such as "int16 /conv1".
        sign: 1 for on, added or more; -1 for the way back.
    """

    family: str
    name: str
    sign: int = 1


@dataclass(frozen=True)
class Observation:
    """What one iteration says of one kind of change."""

    iteration: Iteration
    feature: Feature
    credit: float
    weight: float


@dataclass(frozen=True)
class Expectation:
    """A gain as a normal distribution, and what it rests on, the weightiest first."""

    mean: float
    deviation: float
    sources: tuple[Observation, ...] = ()

    @property
    def improvement(self) -> float:
        """The expected improvement over best: the mean of the positive part."""
        if self.deviation <= 0:
            return max(self.mean, 0.0)
        z = self.mean / self.deviation
        density = math.exp(-z * z / 2) / math.sqrt(2 * math.pi)
        return self.mean * (1 + math.erf(z / math.sqrt(2))) / 2 + self.deviation * density


class EffectModel:
    """See :class:`PolicyParameters` for the formula."""

    def __init__(self, state: SearchState, parameters: PolicyParameters) -> None:
        self._parameters = parameters
        self.gap = open_gap(state)
        self._base = state.base
        self._triggered = {
            _ASKS_FOR[finding.rule] for finding in state.findings if finding.rule in _ASKS_FOR
        }
        self._unjudged = {f"calib {name}" for name in state.signals.untried_calib_swaps}
        errors = state.best_evidence.worst(len(state.best_evidence.layerwise))
        total = sum(snr for _, snr in errors)
        self._shares = {op: snr / total for op, snr in errors} if total > 0 else {}
        self._observations = self._observe(state)

    def expect(self, setting: Setting) -> Expectation:
        """Return what changing best's setting into ``setting`` is expected to gain."""
        parts = [self._expect(feature) for feature in features(self._base, setting)]
        mean = sum(part.mean for part in parts)
        if mean > 0:
            families = {feature.family for feature in features(self._base, setting)}
            mean *= self._parameters.stacking ** (len(families) - 1)
        deviation = math.sqrt(sum(part.deviation**2 for part in parts))
        sources = [source for part in parts for source in part.sources]
        sources.sort(key=lambda source: (-source.weight, -source.iteration.id))
        return Expectation(mean, deviation, tuple(sources))

    def _expect(self, feature: Feature) -> Expectation:
        limits = self._parameters
        prior, deviation = limits.priors.get(feature.family, limits.knob_prior)
        prior += self._evidence_for(feature)
        weighed = []
        for seen in self._observations:
            if seen.feature.family != feature.family:
                continue
            alike = 1.0 if seen.feature.name == feature.name else limits.family_weight
            if alike < 1.0 and feature.family not in _OPS:
                continue
            weighed.append(
                Observation(
                    seen.iteration, seen.feature, seen.credit * feature.sign, seen.weight * alike
                )
            )
        strength = limits.prior_strength + sum(seen.weight for seen in weighed)
        total = limits.prior_strength * prior * feature.sign * self.gap
        total += sum(seen.weight * seen.credit for seen in weighed)
        return Expectation(
            total / strength, deviation * self.gap / math.sqrt(strength), tuple(weighed)
        )

    def _evidence_for(self, feature: Feature) -> float:
        bonus = self._parameters.trigger_bonus if feature.name in self._triggered else 0.0
        if feature.name in self._unjudged and feature.sign > 0:
            bonus += self._parameters.swap_bonus
        if feature.family == "int16":
            op = feature.name.removeprefix("int16 ")
            bonus += self._parameters.int16_recovery * self._shares.get(op, 0.0)
        return bonus

    def _observe(self, state: SearchState) -> list[Observation]:
        limits, history = self._parameters, state.ranking
        today = lever_stack(self._base)
        seen = []
        for iteration in history.iterations:
            prior = history.prior_best[iteration.id]
            if iteration.setting is None or prior is None or prior.setting is None:
                continue
            parts = features(prior.setting, iteration.setting)
            gain = history.gain(iteration)
            if gain is None:
                gain = -limits.failure_loss * self.gap
            most = limits.credit_limit * self.gap
            gain = max(-most, min(gain, most))
            weight = limits.stack_decay ** len(lever_stack(prior.setting) ^ today)
            for part in parts:
                credit = part.sign * gain / len(parts)
                seen.append(Observation(iteration, part, credit, weight))
        return seen


def open_gap(state: SearchState) -> float:
    """Return what is missing to the float model; where that is not known, a quarter of the range.

    It is never less than what counts as flat.
    """
    history = state.ranking
    best = history.best
    if best is None:
        return 1.0
    flat = state.options.thresholds.plateau_relative * abs(history.height(best))
    reference = history.float_value(best)
    if reference is None:
        heights = [history.height(iteration) for iteration in history.scored]
        gap = (max(heights) - min(heights)) / 4
    else:
        gap = history.gap_to(best, reference)
    return max(gap, flat, 1e-9)


def features(before: Setting, after: Setting) -> tuple[Feature, ...]:
    """Take the step from ``before`` to ``after`` apart."""
    parts: list[Feature] = []
    for change in diff(before, after):
        if change.path == "dispatching_table":
            parts += _ops("int16", int16_ops(before), int16_ops(after)) or [Feature("int16", "8")]
        elif change.path == "calib_algorithm":
            parts.append(Feature("calib", f"calib {change.after}"))
            parts.append(Feature("calib", f"calib {change.before}", -1))
        elif change.path == PASSES["weight_split"].layers_field:
            parts += _ops("split", split_layers(before), split_layers(after))
        else:
            parts.append(_feature(change))
    return tuple(parts)


def _feature(change: Change) -> Feature:
    path, before, after = change.path, change.before, change.after
    if path in _SWITCHES and (before is None or after is None):
        return Feature(path, path, -1 if after is None else 1)
    if _is_number(before) and _is_number(after):
        return Feature(path, path, 1 if after > before else -1)
    return Feature(path, f"{path} {after}")


def _ops(family: str, before: tuple[str, ...], after: tuple[str, ...]) -> list[Feature]:
    added = [Feature(family, f"{family} {op}") for op in after if op not in before]
    return added + [Feature(family, f"{family} {op}", -1) for op in before if op not in after]


def _is_number(value: Any) -> bool:
    return isinstance(value, (int, float)) and not isinstance(value, bool)
