"""The default policy: what coverage owes first, then the largest expected gain."""

from __future__ import annotations

import math
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING

from espdl_quantize.core import Phase, Priority
from espdl_quantize.record import Cost
from espdl_quantize.search._decisions import Proposal
from espdl_quantize.search._describe import describe_changes
from espdl_quantize.search.phase5 import covers
from espdl_quantize.search.policies._base import Policy
from espdl_quantize.search.policies._effects import EffectModel, Expectation
from espdl_quantize.search.policies._parameters import DEFAULT_PARAMETERS, PolicyParameters
from espdl_quantize.search.policies._rationale import complete
from espdl_quantize.search.policies.generators import (
    GENERATORS,
    Generator,
    changed_fields,
    transplant,
)
from espdl_quantize.setting import Setting, runtime_cost, setting_key

if TYPE_CHECKING:
    from espdl_quantize.search._state import SearchState

_RECORDED = "a recorded setting"


@dataclass(frozen=True)
class _Weighed:
    """A proposal with what its place in the order goes by."""

    proposal: Proposal
    key: str
    expected: Expectation
    utility: float
    seconds: float

    @property
    def is_owed(self) -> bool:
        return bool(self.proposal.covers)

    @property
    def order(self) -> tuple[bool, float, str]:
        return (not self.is_owed, -self.utility, self.key)


class EvidencePolicy(Policy):
    """Changes best by what its artifacts and the record of earlier changes speak for.

    Candidates that cover something that coverage still owes come first. Within each group the
    expected improvement less the cost on the chip decides; :class:`PolicyParameters` has the
    formula. What takes longer than all iterations so far goes last. Under a budget of time,
    candidates that do not fit go last and the quickest of equals is taken.
    """

    name = "evidence"

    def __init__(
        self,
        parameters: PolicyParameters = DEFAULT_PARAMETERS,
        generators: Sequence[Generator] = GENERATORS,
    ) -> None:
        self._parameters = parameters
        self._generators = tuple(generators)

    def propose(self, state: SearchState) -> Proposal | None:
        """Return the first candidate in order that keeps the discipline.

        Two changes at once are proposed where both are expected to gain, or where no single one is
        left.
        """
        model = EffectModel(state, self._parameters)
        singles = self._weigh(state, model, self._singles(state))
        new = [item for item in singles if state.is_new(item.proposal.setting)]
        hopeful = [item for item in new if item.expected.mean > 0]
        pairs = self._weigh(state, model, _pairs(state, hopeful, self._parameters.pairs_of))
        proposal = self._first_clean(state, [*new, *pairs])
        if proposal is None:
            pairs = self._weigh(state, model, _pairs(state, singles, None))
            proposal = self._first_clean(state, pairs)
        return proposal

    def _first_clean(self, state: SearchState, weighed: Sequence[_Weighed]) -> Proposal | None:
        new = [item for item in weighed if state.is_new(item.proposal.setting)]
        for chosen in self._in_order(state, new):
            expected = chosen.expected
            proposal = complete(
                state, chosen.proposal, sources=expected.sources, expected_gain=expected.mean
            )
            if state.is_clean(proposal.setting):
                return proposal
        return None

    def _singles(self, state: SearchState) -> list[Proposal]:
        proposals = [
            replace(proposal, setting=state.without_crashed_layers(proposal.setting))
            for generator in self._generators
            for proposal in generator.candidates(state, self._parameters)
        ]
        for setting in state.options.pool or ():
            reason = f"recorded: {describe_changes(state.base, setting)}"
            proposals.append(
                Proposal(setting=setting, phase=Phase.OPEN, pattern=_RECORDED, reason=reason)
            )
        return proposals

    def _weigh(
        self, state: SearchState, model: EffectModel, proposals: Iterable[Proposal]
    ) -> list[_Weighed]:
        """Judge each setting once, by the first proposal of it."""
        seen: dict[str, _Weighed] = {}
        for proposal in proposals:
            setting = proposal.setting
            key = setting_key(setting)
            if key in seen:
                continue
            expected, estimate = model.expect(setting), state.times.estimate(setting)
            seen[key] = _Weighed(
                replace(proposal, covers=covers(state.signals, state.base, setting)),
                key,
                expected,
                expected.improvement - self.cost(state, setting) * model.gap,
                0.0 if estimate is None else estimate.seconds,
            )
        return list(seen.values())

    def cost(self, state: SearchState, setting: Setting) -> float:
        """Return what the setting costs the chip more than best, as a share of the gap.

        Time is weighed where it is known what each layer takes, else the number of slower ops.
        """
        is_speed = state.priority == Priority.SPEED
        more = more_time(state, setting)
        if more is not None:
            parameters = self._parameters
            return 100 * more * (parameters.time_cost_speed if is_speed else parameters.time_cost)
        price = self._parameters.op_cost_speed if is_speed else self._parameters.op_cost
        return price * (_slow_ops(setting) - _slow_ops(state.base))

    def _in_order(self, state: SearchState, weighed: Sequence[_Weighed]) -> list[_Weighed]:
        spent = sum(item.elapsed_seconds or 0.0 for item in state.history.iterations)
        limit = self._parameters.patience * spent if spent else math.inf
        ordered = sorted(weighed, key=lambda item: (item.seconds > limit, *item.order))
        left = state.options.seconds_left
        if left is None or not ordered:
            return ordered
        fitting = [item for item in ordered if item.seconds <= left]
        if not fitting:
            return ordered
        first = fitting[0]
        least = first.utility - self._parameters.tie * abs(first.utility)
        equals = [
            item for item in fitting if item.is_owed == first.is_owed and item.utility >= least
        ]
        equals.sort(key=lambda item: (item.seconds, *item.order))
        taken = {item.key for item in equals}
        return equals + [item for item in ordered if item.key not in taken]


def _pairs(state: SearchState, singles: Sequence[_Weighed], most: int | None) -> list[Proposal]:
    """Combine the most promising single changes that touch different fields."""
    base, pairs = state.base, []
    promising = [item for item in singles if item.proposal.pattern != _RECORDED]
    promising.sort(key=lambda item: (-item.utility, item.key))
    promising = promising[:most]
    for index, left in enumerate(promising):
        for right in promising[index + 1 :]:
            first, second = left.proposal, right.proposal
            if changed_fields(base, first.setting) & changed_fields(base, second.setting):
                continue
            pairs.append(
                Proposal(
                    setting=transplant(base, second.setting, first.setting),
                    phase=Phase.OPEN,
                    pattern="stack two",
                    reason=f"{first.reason}; {second.reason}",
                )
            )
    return pairs


def more_time(state: SearchState, setting: Setting) -> float | None:
    """Return how much longer a setting's model takes than best's, as a share of the plain model's.

    It is added up from the layers of the plain model's file: with 16 bits where the setting says
    so, once more where it splits a layer. None where that file was not looked at.
    """
    plain = state.history.baseline
    cost = None if plain is None else plain.cost
    if cost is None or not cost.time:
        return None
    times = [_time(cost, each) for each in (setting, state.base)]
    return None if None in times else ((times[0] or 0.0) - (times[1] or 0.0)) / cost.time


def _time(cost: Cost, setting: Setting) -> float | None:
    price = runtime_cost(setting)
    whole = cost.with_wide({*price.int16_ops, *cost.wide_ops})
    if whole is None:
        return None
    taken = {layer.name: layer.time or 0.0 for layer in cost.layers}
    return whole + sum(taken.get(op, 0.0) for _, layers in price.added for op in layers)


def _slow_ops(setting: Setting) -> int:
    return runtime_cost(setting).slower_ops
