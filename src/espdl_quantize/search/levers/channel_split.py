"""3h: doubling the outlying channels of one pair of convolutions. Not in the linear order."""

from __future__ import annotations

from typing import TYPE_CHECKING, Literal

from espdl_quantize.search._describe import ratio
from espdl_quantize.search.levers._base import Judgement, Lever
from espdl_quantize.search.triggers import (
    largest_weight,
    layers_followed,
    next_conv,
    weight_stats,
)
from espdl_quantize.setting import ChannelSplit, Setting

if TYPE_CHECKING:
    from espdl_quantize.search._state import SearchState

_SHARE = 0.5
"""A channel is split from this share of the pair's largest weight on: half of it fits the range
that the others then have."""

_OPT_LEVEL: Literal[2] = 2
"""The pass crosses Add and Sub, too."""


class SplitChannels(Lever):
    """Replaces an outlying channel by two of half its size; the chip computes more channels.

    The seed's order of levers does not have it: open exploration takes it up where it applies.
    """

    id = "3h"
    name = "split channels"
    tier = "B"
    cost = "+"
    title = "channel_split on one pair of Convs, iterations 1"

    def marks(self, setting: Setting) -> bool:
        """Recognised by the pass being on."""
        return setting.channel_split is not None and setting.channel_split.enabled

    def applies(self, state: SearchState) -> Judgement:
        """Needs a Conv with weights of high kurtosis whose channels only the next Conv reads."""
        pair = _choose(state)
        if pair is None:
            limit = state.options.thresholds.split_kurtosis
            return Judgement(
                False,
                f"no Conv of {state.base_name} that leads to another one alone has weight "
                f"kurtosis > {limit:g}",
            )
        first, second, kurtosis, _ = pair
        return Judgement(True, f"R4: weight of {first}, read by {second}, has kurtosis {kurtosis}")

    def change(self, state: SearchState) -> Setting:
        """Turn the pass on for the chosen pair, once over."""
        pair = _choose(state)
        if pair is None:
            raise ValueError("lever 3h does not apply: no pair of layers qualifies")
        first, second, _, threshold = pair
        section = ChannelSplit(
            enabled=True,
            iterations=1,
            value_threshold=threshold,
            opt_level=_OPT_LEVEL,
            interested_layers=[first, second],
        )
        return state.base.model_copy(update={"channel_split": section})


def _choose(state: SearchState) -> tuple[str, str, str, float] | None:
    """Return the pair of highest kurtosis, that kurtosis in words, and the threshold."""
    evidence = state.best_evidence
    followed = layers_followed(evidence, _OPT_LEVEL)
    pairs = []
    for op in dict.fromkeys(stats.op for stats in evidence.stats if stats.op_type == "Conv"):
        weight, partner = weight_stats(evidence, op), next_conv(evidence, op)
        kurtosis = weight.float_kurtosis if weight else None
        if (
            partner is None
            or op not in followed
            or kurtosis is None
            or kurtosis <= state.options.thresholds.split_kurtosis
        ):
            continue
        peaks = (largest_weight(evidence, op), largest_weight(evidence, partner))
        if all(peaks):
            threshold = _SHARE * min(peak for peak in peaks if peak is not None)
            pairs.append((kurtosis, op, partner, float(f"{threshold:.3g}")))
    if not pairs:
        return None
    kurtosis, op, partner, threshold = max(pairs)
    return op, partner, ratio(kurtosis), threshold
