"""The triggers R1 to R10: signs in an iteration's artifacts that speak for a method.

Each is a pure function of the evidence that tolerates missing numbers.
"""

from __future__ import annotations

from espdl_quantize.record import Evidence
from espdl_quantize.search._thresholds import DEFAULT_THRESHOLDS, Thresholds
from espdl_quantize.search.triggers._distributions import (
    next_conv,
    r1_heavy_tail,
    r2_several_peaks,
    r3_uneven_channels,
    r4_weight_outliers,
    r5_mean_shift,
)
from espdl_quantize.search.triggers._finding import Finding, has_bias, weight_stats, worst_ops
from espdl_quantize.search.triggers._idle import (
    idle_bias_correction,
    idle_equalization,
    is_surely_below,
    largest_weight,
    layers_followed,
)
from espdl_quantize.search.triggers._layers import (
    R8Verdict,
    gap_points,
    judge_r8,
    outliers,
    r6_single_layer,
    r7_spread_out,
    r8_multi_input,
    r9_nothing_matched,
    r9_sensitive_type,
    r10_large_gap,
)


def find_triggers(
    evidence: Evidence,
    limits: Thresholds = DEFAULT_THRESHOLDS,
    *,
    equalization_failed: bool = False,
    all_tried: bool = False,
    points_to_target: float | None = None,
) -> list[Finding]:
    """List every trigger that matches.

    Args:
        evidence: the artifacts of one iteration.
        limits: the thresholds.
        equalization_failed: equalization was tried and did not help, which R4 asks for.
        all_tried: no lever is left, which R10 asks for.
        points_to_target: distance to the target, see :func:`gap_points`.
    """
    findings = [
        r1_heavy_tail(evidence, limits),
        r2_several_peaks(evidence, limits),
        r3_uneven_channels(evidence, limits),
        r4_weight_outliers(evidence, limits, equalization_failed=equalization_failed),
        r5_mean_shift(evidence, limits),
        r6_single_layer(evidence, limits),
        r7_spread_out(evidence, limits),
        r8_multi_input(evidence, limits),
        r9_sensitive_type(evidence, limits),
        r10_large_gap(points_to_target, limits, all_tried=all_tried),
    ]
    matched = [finding for finding in findings if finding is not None]
    if not matched:
        last = r9_nothing_matched(evidence, limits)
        return [last] if last is not None else []
    # Evidence for an op's own trouble (R8, R9) outranks "it is the worst" (R6) on the same op.
    explained = {op for finding in matched if finding.rule in ("R8", "R9") for op in finding.ops}
    return [
        finding
        for finding in matched
        if finding.rule != "R6" or not explained.intersection(finding.ops)
    ]


__all__ = [
    "Finding",
    "R8Verdict",
    "find_triggers",
    "gap_points",
    "has_bias",
    "idle_bias_correction",
    "idle_equalization",
    "is_surely_below",
    "judge_r8",
    "largest_weight",
    "layers_followed",
    "next_conv",
    "outliers",
    "r1_heavy_tail",
    "r2_several_peaks",
    "r3_uneven_channels",
    "r4_weight_outliers",
    "r5_mean_shift",
    "r6_single_layer",
    "r7_spread_out",
    "r8_multi_input",
    "r9_nothing_matched",
    "r9_sensitive_type",
    "r10_large_gap",
    "weight_stats",
    "worst_ops",
]
