"""R1 to R5: what the distributions of activations and weights say."""

from __future__ import annotations

from espdl_quantize.record import Evidence, VariableStats
from espdl_quantize.search._describe import ratio
from espdl_quantize.search._thresholds import Thresholds
from espdl_quantize.search.triggers._finding import (
    Finding,
    has_bias,
    max_over_std,
    weight_stats,
    worst_ops,
)

_CONVS = frozenset({"Conv", "ConvTranspose"})
ACTIVATIONS = frozenset({"Relu", "Clip", "PRelu", "LeakyRelu", "Swish", "Sigmoid", "HardSwish"})


def r1_heavy_tail(evidence: Evidence, limits: Thresholds) -> Finding | None:
    """An input of a bad layer has a long tail, so that its scale wastes most codes on it."""
    for op in worst_ops(evidence, limits):
        for stats in _inputs(evidence, op):
            signs = []
            peak, tail = max_over_std(stats), tail_mass(stats, limits.r1_tail_stds)
            if stats.float_kurtosis is not None and stats.float_kurtosis > limits.r1_kurtosis:
                signs.append(f"kurtosis {ratio(stats.float_kurtosis)}")
            if peak is not None and peak > limits.r1_max_over_std:
                signs.append(f"max/std {ratio(peak)}")
            if tail > limits.r1_tail_mass:
                signs.append(f"{tail:.2%} beyond mean + {limits.r1_tail_stds:g} std")
            if signs:
                text = f"input {stats.variable} of {op}: {', '.join(signs)}"
                return Finding("R1", "percentile calibration, else int16; no minmax", text, (op,))
    return None


def r2_several_peaks(evidence: Evidence, limits: Thresholds) -> Finding | None:
    """An input of a bad layer has its mass in separate places."""
    for op in worst_ops(evidence, limits):
        for stats in _inputs(evidence, op):
            peaks = _peaks(stats, limits)
            if peaks:
                text = f"input {stats.variable} of {op}: {peaks}"
                return Finding("R2", "mse calibration, else int16", text, (op,))
    return None


def r3_uneven_channels(evidence: Evidence, limits: Thresholds) -> Finding | None:
    """Channels of very different size in a convolution whose factor the next one could take.

    The artifacts hold no per-channel maxima; a high kurtosis stands for them.
    """
    for op in worst_ops(evidence, limits):
        weight = weight_stats(evidence, op)
        kurtosis = weight.float_kurtosis if weight else None
        if kurtosis is None or kurtosis <= limits.r3_kurtosis:
            continue
        partner = next_conv(evidence, op)
        if partner:
            text = f"weight of {op}: kurtosis {ratio(kurtosis)}, followed by {partner}"
            return Finding("R3", "equalization", text, (op, partner))
    return None


def r4_weight_outliers(
    evidence: Evidence, limits: Thresholds, *, equalization_failed: bool = True
) -> Finding | None:
    """Single huge weights that equalization could not even out."""
    if not equalization_failed:
        return None
    for op in worst_ops(evidence, limits):
        weight = weight_stats(evidence, op)
        if weight is None or weight.float_kurtosis is None:
            continue
        peak = max_over_std(weight)
        if weight.float_kurtosis > limits.r4_kurtosis and (peak or 0) > limits.r4_max_over_std:
            text = f"weight of {op}: kurtosis {ratio(weight.float_kurtosis)}, max/std {ratio(peak)}"
            return Finding("R4", "weight_split on at most 3 layers", text, (op,))
    return None


def r5_mean_shift(evidence: Evidence, limits: Thresholds) -> Finding | None:
    """Quantizing shifts the mean of a layer's output, which its bias can take back."""
    for op in worst_ops(evidence, limits):
        if not has_bias(evidence, op):
            continue
        for stats in evidence.rows(op):
            mean, std = stats.noise_mean, stats.noise_std
            if not stats.is_output or stats.is_parameter or mean is None or std is None:
                continue
            if std > 0 and abs(mean) > limits.r5_mean_over_std * std:
                text = (
                    f"output {stats.variable} of {op}: noise mean {ratio(mean)} against noise std "
                    f"{ratio(std)}"
                )
                return Finding("R5", "bias_correct", text, (op,))
    return None


def tail_mass(stats: VariableStats, stds: float) -> float:
    """Return the share of the histogram in bins that begin beyond mean + ``stds`` deviations."""
    hist, total = stats.float_hist, sum(stats.float_hist)
    if total <= 0 or None in (stats.float_mean, stats.float_std, stats.float_max, stats.float_min):
        return 0.0
    assert stats.float_mean is not None and stats.float_std is not None
    assert stats.float_max is not None and stats.float_min is not None
    edge, width = stats.float_mean + stds * stats.float_std, stats.float_max - stats.float_min
    starts = (stats.float_min + width * index / len(hist) for index in range(len(hist)))
    return sum(count for count, start in zip(hist, starts, strict=True) if start > edge) / total


def _inputs(evidence: Evidence, op: str) -> list[VariableStats]:
    return [stats for stats in evidence.rows(op) if stats.is_input and not stats.is_parameter]


def _peaks(stats: VariableStats, limits: Thresholds) -> str:
    hist = stats.float_hist
    if len(hist) < 3 or max(hist) <= 0:
        return ""
    valley = _deepest_valley(hist, limits.r2_peak * max(hist))
    if valley < limits.r2_valley:
        return f"separate peaks, the valley between them at {valley:.0%} of the lower one"
    skewness, mean = stats.float_skewness, stats.float_mean
    low, high = stats.float_min, stats.float_max
    if skewness is None or mean is None or low is None or high is None or high <= low:
        return ""
    centre = min(int((mean - low) / (high - low) * len(hist)), len(hist) - 1)
    left, right = max(hist[:centre], default=0.0), max(hist[centre + 1 :], default=0.0)
    if abs(skewness) < limits.r2_skewness and hist[centre] < limits.r2_valley * min(left, right):
        return f"skewness {ratio(skewness)} with a valley at the mean {ratio(mean)}"
    return ""


def _deepest_valley(hist: tuple[float, ...], least_peak: float) -> float:
    """Return the lowest bin between two peaks over the lower of them; 1 where there is none."""
    deepest = 1.0
    for index in range(1, len(hist) - 1):
        lower = min(max(hist[:index]), max(hist[index + 1 :]))
        if lower >= least_peak and lower > 0:
            deepest = min(deepest, hist[index] / lower)
    return deepest


def next_conv(evidence: Evidence, op: str) -> str | None:
    """Return the convolution that follows ``op`` directly or behind one activation."""
    node = evidence.op(op)
    if node is None or node.op_type not in _CONVS:
        return None
    for _ in range(2):
        readers = (reader for name in node.outputs for reader in evidence.readers(name))
        followers = list(dict.fromkeys(readers))
        if len(followers) != 1:
            return None
        node = followers[0]
        if node.op_type in _CONVS:
            return node.name
        if node.op_type not in ACTIVATIONS:
            return None
    return None
