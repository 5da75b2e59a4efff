"""Swaps the calibration under best's stack."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

from espdl_quantize.search._legs import DEFAULT_TQT, LEGS
from espdl_quantize.search.phase5 import calibration
from espdl_quantize.search.policies._base import PolicyContext
from espdl_quantize.search.policies._parameters import PolicyParameters
from espdl_quantize.search.policies.generators._base import Candidate, Generator
from espdl_quantize.search.triggers import r1_heavy_tail


class SwapCalibration(Generator):
    """Each other calibration, best's levers staying on."""

    pattern = "swap the calibration"

    def candidates(
        self, context: PolicyContext, parameters: PolicyParameters
    ) -> Iterator[Candidate]:
        """Yield one candidate per calibration; minmax only where no input has a heavy tail."""
        signals = context.signals
        tail = r1_heavy_tail(context.evidence, context.situation.options.thresholds)
        for name in (*LEGS, "minmax"):
            if name == calibration(context.base) or (name == "minmax" and tail is not None):
                continue
            if name in signals.untried_5beta_reapply:
                reason = f"{name} was judged on a shallower stack than {context.base_name} has"
            elif name in signals.untried_calib_swaps:
                reason = f"no iteration has {name} on the levers of {context.base_name}"
            else:
                reason = f"{name} calibration under the same levers"
            update: dict[str, Any] = {"calib_algorithm": name}
            tqt = context.base.tqt_optimization
            if tqt is None or not tqt.enabled:
                # A calibration is judged together with training, never alone.
                trained = {**update, "tqt_optimization": DEFAULT_TQT}
                yield self._candidate(context.base.model_copy(update=trained), reason)
            yield self._candidate(context.base.model_copy(update=update), reason)
