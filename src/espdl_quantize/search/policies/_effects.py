"""What a change is expected to gain: the record of its kind, shrunk to a prior."""

from __future__ import annotations

import math
from dataclasses import dataclass

from espdl_quantize.record import Iteration
from espdl_quantize.search._advice import findings
from espdl_quantize.search.phase5 import lever_stack
from espdl_quantize.search.policies._base import PolicyContext
from espdl_quantize.search.policies._features import Feature, features
from espdl_quantize.search.policies._parameters import PolicyParameters
from espdl_quantize.setting import PASSES, Setting

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
class Observation:
    """What one iteration says of one kind of change."""

    row: Iteration
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

    def __init__(self, context: PolicyContext, parameters: PolicyParameters) -> None:
        self._parameters = parameters
        self.gap = open_gap(context)
        self._base = context.base
        self._triggered = {
            _ASKS_FOR[finding.rule]
            for finding in findings(context.situation)
            if finding.rule in _ASKS_FOR
        }
        self._unjudged = {f"calib {name}" for name in context.signals.untried_calib_swaps}
        errors = context.evidence.worst(len(context.evidence.layerwise))
        total = sum(snr for _, snr in errors)
        self._shares = {op: snr / total for op, snr in errors} if total > 0 else {}
        self._observations = self._observe(context)

    def expect(self, setting: Setting) -> Expectation:
        """Return what changing best's setting into ``setting`` is expected to gain."""
        parts = [self._expect(feature) for feature in features(self._base, setting)]
        mean = sum(part.mean for part in parts)
        if mean > 0:
            families = {feature.family for feature in features(self._base, setting)}
            mean *= self._parameters.stacking ** (len(families) - 1)
        deviation = math.sqrt(sum(part.deviation**2 for part in parts))
        sources = [source for part in parts for source in part.sources]
        sources.sort(key=lambda source: (-source.weight, -source.row.id))
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
                Observation(seen.row, seen.feature, seen.credit * feature.sign, seen.weight * alike)
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

    def _observe(self, context: PolicyContext) -> list[Observation]:
        limits, history = self._parameters, context.history
        today = lever_stack(self._base)
        seen = []
        for row in history.iterations:
            prior = history.prior_best[row.id]
            if row.setting is None or prior is None or prior.setting is None:
                continue
            parts = features(prior.setting, row.setting)
            gain = history.gain(row)
            if gain is None:
                gain = -limits.failure_loss * self.gap
            most = limits.credit_limit * self.gap
            gain = max(-most, min(gain, most))
            weight = limits.stack_decay ** len(lever_stack(prior.setting) ^ today)
            for part in parts:
                credit = part.sign * gain / len(parts)
                seen.append(Observation(row, part, credit, weight))
        return seen


def open_gap(context: PolicyContext) -> float:
    """Return what is missing to the float model; where that is not known, a quarter of the range.

    It is never less than what counts as flat.
    """
    history = context.history
    best = history.best
    if best is None or best.value is None:
        return 1.0
    flat = context.situation.options.thresholds.plateau_relative * abs(best.value)
    reference = history.float_value(best)
    if reference is None:
        heights = [history.height(row) for row in history.scored]
        gap = (max(heights) - min(heights)) / 4
    else:
        gap = reference - best.value if history.direction == "max" else best.value - reference
    return max(gap, flat, 1e-9)
