"""Changes that are known, made to best: levers, calibrations and what earlier iterations did."""

from __future__ import annotations

from collections.abc import Iterator
from typing import TYPE_CHECKING, Any

from espdl_quantize.search._decisions import Proposal
from espdl_quantize.search._describe import describe_changes
from espdl_quantize.search._sweep import DEFAULT_TQT, SWEEP
from espdl_quantize.search.levers import LEVERS
from espdl_quantize.search.phase5 import calibration
from espdl_quantize.search.policies._parameters import PolicyParameters
from espdl_quantize.search.policies.generators._base import Generator
from espdl_quantize.search.triggers import r1_heavy_tail
from espdl_quantize.setting import Setting, canonical

if TYPE_CHECKING:
    from espdl_quantize.search._state import SearchState


class StackLevers(Generator):
    """Every lever that best does not have and that its artifacts allow."""

    pattern = "stack a lever"

    def candidates(self, state: SearchState, parameters: PolicyParameters) -> Iterator[Proposal]:
        """Yield one proposal per lever."""
        for lever in LEVERS.values() if state.has_base else ():
            if lever.marks(state.base):
                continue
            judgement = lever.applies(state)
            if judgement.applies:
                reason = f"lever {lever.id} ({lever.title}): {judgement.reason}"
                yield self._proposal(lever.change(state), reason)


class SwapCalibration(Generator):
    """Each other calibration, best's levers staying on."""

    pattern = "swap the calibration"

    def candidates(self, state: SearchState, parameters: PolicyParameters) -> Iterator[Proposal]:
        """Yield one candidate per calibration; minmax only where no input has a heavy tail."""
        signals = state.signals
        tail = r1_heavy_tail(state.best_evidence, state.options.thresholds)
        for name in (*SWEEP, "minmax"):
            if name == calibration(state.base) or (name == "minmax" and tail is not None):
                continue
            if name in signals.untried_5beta_reapply:
                reason = f"{name} was judged on a shallower stack than {state.base_name} has"
            elif name in signals.untried_calib_swaps:
                reason = f"no iteration has {name} on the levers of {state.base_name}"
            else:
                reason = f"{name} calibration under the same levers"
            update: dict[str, Any] = {"calib_algorithm": name}
            tqt = state.base.tqt_optimization
            if tqt is None or not tqt.enabled:
                # A calibration is judged together with training, never alone.
                trained = {**update, "tqt_optimization": DEFAULT_TQT}
                yield self._proposal(state.base.model_copy(update=trained), reason)
            yield self._proposal(state.base.model_copy(update=update), reason)


class ReapplyChanges(Generator):
    """What an earlier iteration changed, made to best: a verdict can flip on a deeper stack."""

    pattern = "re-apply a change"

    def candidates(self, state: SearchState, parameters: PolicyParameters) -> Iterator[Proposal]:
        """Yield one proposal per iteration, the best gain first."""
        history = state.ranking
        gains = {item.id: history.gain(item) for item in history.scored}
        known = [item for item in history.scored if gains[item.id] is not None]
        for iteration in sorted(known, key=lambda item: (-(gains[item.id] or 0.0), item.id)):
            prior = history.prior_best[iteration.id]
            if iteration.setting is None or prior is None or prior.setting is None:
                continue
            changes = describe_changes(prior.setting, iteration.setting)
            gain = gains[iteration.id]
            reason = f"{iteration.name} changed {prior.name} by {changes} for {gain:+.4g}"
            yield self._proposal(transplant(prior.setting, iteration.setting, state.base), reason)


def changed_fields(before: Setting, after: Setting) -> frozenset[str]:
    """Return the top-level fields that differ in meaning."""
    old, new = canonical(before), canonical(after)
    return frozenset(name for name in {*old, *new} if old.get(name) != new.get(name))


def transplant(before: Setting, after: Setting, onto: Setting) -> Setting:
    """Return ``onto`` with the fields that differ between ``before`` and ``after`` as there."""
    fields = sorted(changed_fields(before, after))
    return onto.model_copy(update={name: getattr(after, name) for name in fields})
