"""The default policy: what coverage owes first, then the largest expected gain."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass, replace

from espdl_quantize.search._describe import describe_changes
from espdl_quantize.search._seconds import TimeModel
from espdl_quantize.search.policies._base import Policy, PolicyContext, Proposal
from espdl_quantize.search.policies._coverage import covers
from espdl_quantize.search.policies._effects import EffectModel, Expectation
from espdl_quantize.search.policies._parameters import DEFAULT_PARAMETERS, PolicyParameters
from espdl_quantize.search.policies._rationale import proposal
from espdl_quantize.search.policies.generators import (
    GENERATORS,
    Candidate,
    Generator,
    changed_fields,
    transplant,
)
from espdl_quantize.setting import Setting, runtime_cost, setting_key

_RECORDED = "a recorded setting"


@dataclass(frozen=True)
class _Ranked:
    candidate: Candidate
    key: str
    expected: Expectation
    utility: float
    owed: bool
    seconds: float

    @property
    def order(self) -> tuple[bool, float, str]:
        return (not self.owed, -self.utility, self.key)


class EvidencePolicy(Policy):
    """Changes best by what its artifacts and the record of earlier changes speak for.

    Candidates that cover something that coverage still owes come first. Within each group the
    expected improvement less the cost on the chip decides; :class:`PolicyParameters` has the
    formula. Under a budget of time, candidates that do not fit go last and the quickest of equals
    is taken.
    """

    name = "evidence"

    def __init__(
        self,
        parameters: PolicyParameters = DEFAULT_PARAMETERS,
        generators: Sequence[Generator] = GENERATORS,
    ) -> None:
        self._parameters = parameters
        self._generators = tuple(generators)

    def propose(self, context: PolicyContext) -> Proposal | None:
        """Return the first candidate in order that keeps the discipline.

        Two changes at once are proposed where both are expected to gain, or where no single one is
        left.
        """
        model = EffectModel(context, self._parameters)
        singles = self._rank(context, model, self._singles(context))
        new = [one for one in singles if context.is_new(one.candidate.setting)]
        hopeful = [one for one in new if one.expected.mean > 0]
        pairs = self._rank(context, model, self._pairs(context, hopeful, self._parameters.pairs_of))
        found = self._first_clean(context, [*new, *pairs])
        if found is None:
            pairs = self._rank(context, model, self._pairs(context, singles, None))
            found = self._first_clean(context, pairs)
        return found

    def _first_clean(self, context: PolicyContext, ranked: Sequence[_Ranked]) -> Proposal | None:
        new = [one for one in ranked if context.is_new(one.candidate.setting)]
        for chosen in self._in_order(context, new):
            candidate, expected = chosen.candidate, chosen.expected
            made = proposal(
                context,
                candidate.setting,
                candidate.pattern,
                candidate.reason,
                expected.sources,
                expected.mean,
            )
            if context.is_clean(made.setting):
                return made
        return None

    def _singles(self, context: PolicyContext) -> list[Candidate]:
        found = [
            candidate
            for generator in self._generators
            for candidate in generator.candidates(context, self._parameters)
        ]
        found = [
            replace(candidate, setting=context.without_crashed_layers(candidate.setting))
            for candidate in found
        ]
        for setting in context.pool or ():
            told = f"recorded: {describe_changes(context.base, setting)}"
            found.append(Candidate(setting, _RECORDED, told))
        return found

    def _pairs(
        self, context: PolicyContext, singles: Sequence[_Ranked], most: int | None
    ) -> list[Candidate]:
        """Combine the most promising single changes that touch different fields."""
        base, found = context.base, []
        promising = [one for one in singles if one.candidate.pattern != _RECORDED]
        promising.sort(key=lambda one: (-one.utility, one.key))
        promising = promising[:most]
        for index, first in enumerate(promising):
            for second in promising[index + 1 :]:
                one, other = first.candidate, second.candidate
                if changed_fields(base, one.setting) & changed_fields(base, other.setting):
                    continue
                merged = transplant(base, other.setting, one.setting)
                found.append(Candidate(merged, "stack two", f"{one.reason}; {other.reason}"))
        return found

    def _rank(
        self, context: PolicyContext, model: EffectModel, candidates: Iterable[Candidate]
    ) -> list[_Ranked]:
        seen: dict[str, _Ranked] = {}
        times = TimeModel(context.history)
        for candidate in candidates:
            key = setting_key(candidate.setting)
            if key in seen:
                continue
            expected = model.expect(candidate.setting)
            estimate = times.estimate(candidate.setting)
            seen[key] = _Ranked(
                candidate,
                key,
                expected,
                expected.improvement - self._cost(context, candidate.setting) * model.gap,
                bool(covers(context.signals, context.base, candidate.setting)),
                0.0 if estimate is None else estimate.seconds,
            )
        return list(seen.values())

    def _cost(self, context: PolicyContext, setting: Setting) -> float:
        """Return what the setting costs the chip more than best, as a share of the gap."""
        speed = context.situation.options.priority == "speed"
        price = self._parameters.op_cost_speed if speed else self._parameters.op_cost
        return price * (_slow_ops(setting) - _slow_ops(context.base))

    def _in_order(self, context: PolicyContext, ranked: Sequence[_Ranked]) -> list[_Ranked]:
        ordered = sorted(ranked, key=lambda one: one.order)
        left = context.seconds_left
        if left is None or not ordered:
            return ordered
        fitting = [one for one in ordered if one.seconds <= left]
        if not fitting:
            return ordered
        first = fitting[0]
        least = first.utility - self._parameters.tie * abs(first.utility)
        equals = [one for one in fitting if one.owed == first.owed and one.utility >= least]
        equals.sort(key=lambda one: (one.seconds, *one.order))
        taken = {one.key for one in equals}
        return equals + [one for one in ordered if one.key not in taken]


def _slow_ops(setting: Setting) -> int:
    return runtime_cost(setting).slower_ops
