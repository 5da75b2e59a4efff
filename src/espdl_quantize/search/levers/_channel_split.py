"""3h: doubling the outlying channels of one pair of convolutions. Not in the linear order."""

from __future__ import annotations

from espdl_quantize.record import Evidence
from espdl_quantize.search._describe import ratio
from espdl_quantize.search.levers._base import Lever, LeverContext, Verdict
from espdl_quantize.search.triggers import next_conv, weight_row
from espdl_quantize.setting import ChannelSplit, Setting

_SHARE = 0.5
"""A channel is split from this share of the pair's largest weight on: half of it fits the range
that the others then have."""


class SplitChannels(Lever):
    """Replaces an outlying channel by two of half its size; the chip computes more channels.

    The seed's order of levers does not have it: open exploration takes it up where it applies.
    """

    id = "3h"
    tier = "B"
    cost = "+"
    title = "channel_split on one pair of Convs, iterations 1"

    def marks(self, setting: Setting) -> bool:
        """Recognised by the pass being on."""
        return setting.channel_split is not None and setting.channel_split.enabled

    def applies(self, context: LeverContext) -> Verdict:
        """Needs a Conv with weights of high kurtosis whose channels only the next Conv reads."""
        pair = _choose(context)
        if pair is None:
            limit = context.thresholds.split_kurtosis
            return Verdict(
                False,
                f"no Conv of {context.best.name} that leads to another one alone has weight "
                f"kurtosis > {limit:g}",
            )
        first, second, kurtosis, _ = pair
        return Verdict(True, f"R4: weight of {first}, read by {second}, has kurtosis {kurtosis}")

    def change(self, context: LeverContext) -> Setting:
        """Turn the pass on for the chosen pair, once over."""
        pair = _choose(context)
        if pair is None:
            raise ValueError("lever 3h does not apply: no pair of layers qualifies")
        first, second, _, threshold = pair
        section = ChannelSplit(
            enabled=True,
            iterations=1,
            value_threshold=threshold,
            opt_level=2,
            interested_layers=[first, second],
        )
        return context.base.model_copy(update={"channel_split": section})


def _choose(context: LeverContext) -> tuple[str, str, str, float] | None:
    """Return the pair of highest kurtosis, that kurtosis in words, and the threshold."""
    evidence = context.evidence
    pairs = []
    for op in dict.fromkeys(row.op for row in evidence.stats if row.op_type == "Conv"):
        weight, partner = weight_row(evidence, op), next_conv(evidence, op)
        kurtosis = weight.float_kurtosis if weight else None
        if partner is None or kurtosis is None or kurtosis <= context.thresholds.split_kurtosis:
            continue
        peaks = (_peak(evidence, op), _peak(evidence, partner))
        if None not in peaks:
            threshold = _SHARE * min(peak for peak in peaks if peak is not None)
            pairs.append((kurtosis, op, partner, float(f"{threshold:.3g}")))
    if not pairs:
        return None
    kurtosis, op, partner, threshold = max(pairs)
    return op, partner, ratio(kurtosis), threshold


def _peak(evidence: Evidence, op: str) -> float | None:
    """Return the largest magnitude among an op's weights, where the artifacts have it."""
    weight = weight_row(evidence, op)
    if weight is None or weight.float_max is None or weight.float_min is None:
        return None
    return max(abs(weight.float_max), abs(weight.float_min)) or None
