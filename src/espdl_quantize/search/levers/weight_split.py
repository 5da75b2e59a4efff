"""3f: splitting one convolution whose weights have outliers."""

from __future__ import annotations

from typing import TYPE_CHECKING

from espdl_quantize.search._describe import ratio
from espdl_quantize.search.levers._base import Judgement, Lever
from espdl_quantize.search.triggers import is_surely_below, weight_stats
from espdl_quantize.setting import Setting, WeightSplit

if TYPE_CHECKING:
    from espdl_quantize.search._state import SearchState

_THRESHOLD = 1.5
"""Weights of a larger magnitude are split; esp-ppq leaves a layer without one as it is."""


class SplitOutliers(Lever):
    """Halves outlying weights of one Conv into two parallel ones, at one more Add on the chip."""

    id = "3f"
    name = "split outlier weights"
    tier = "B"
    cost = "+"
    title = "weight_split on one Conv, value_threshold 1.5"

    def marks(self, setting: Setting) -> bool:
        """Recognised by the pass being on."""
        return setting.weight_split is not None and setting.weight_split.enabled

    def applies(self, state: SearchState) -> Judgement:
        """Needs a Conv with weights of high kurtosis."""
        chosen = choose_split(state)
        if chosen is None:
            return Judgement(
                False,
                f"no Conv of {state.base_name} has weight kurtosis > "
                f"{state.options.thresholds.split_kurtosis:g} and a weight above {_THRESHOLD:g}: "
                "smaller ones are not split",
            )
        return Judgement(True, f"R4: weight of {chosen[0]} has kurtosis {ratio(chosen[1])}")

    def change(self, state: SearchState) -> Setting:
        """Turn the pass on for the chosen layer."""
        chosen = choose_split(state)
        if chosen is None:
            raise ValueError("lever 3f does not apply: no layer qualifies")
        section = WeightSplit(
            enabled=True,
            interested_layers=[chosen[0]],
            value_threshold=_THRESHOLD,
            method="balance",
        )
        return state.base.model_copy(update={"weight_split": section})


def choose_split(state: SearchState) -> tuple[str, float] | None:
    """Choose the worst Conv of the layerwise list that qualifies, with its kurtosis.

    Among layers without a layerwise error, the highest kurtosis wins.
    """
    evidence = state.best_evidence
    convs = dict.fromkeys(stats.op for stats in evidence.stats if stats.op_type == "Conv")
    outlying = []
    errors = dict(evidence.worst(len(evidence.layerwise)))
    for op in convs:
        weight = weight_stats(evidence, op)
        kurtosis = weight.float_kurtosis if weight else None
        if (
            kurtosis is not None
            and kurtosis > state.options.thresholds.split_kurtosis
            and not is_surely_below(evidence, op, _THRESHOLD)
        ):
            outlying.append((op, kurtosis))
    return max(outlying, key=lambda item: (errors.get(item[0], -1.0), item[1]), default=None)
