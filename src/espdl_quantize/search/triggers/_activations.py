"""R1, R2 and R5: what the distributions of activations say."""

from __future__ import annotations

from espdl_quantize.record import Evidence, VariableStats
from espdl_quantize.search._describe import ratio
from espdl_quantize.search._thresholds import Thresholds
from espdl_quantize.search.triggers._finding import Finding, has_bias, max_over_std, worst_ops


def r1_heavy_tail(evidence: Evidence, limits: Thresholds) -> Finding | None:
    """An input of a bad layer has a long tail, so that its scale wastes most codes on it."""
    for op in worst_ops(evidence, limits):
        for row in _inputs(evidence, op):
            signs = []
            peak, tail = max_over_std(row), tail_mass(row, limits.r1_tail_stds)
            if row.float_kurtosis is not None and row.float_kurtosis > limits.r1_kurtosis:
                signs.append(f"kurtosis {ratio(row.float_kurtosis)}")
            if peak is not None and peak > limits.r1_max_over_std:
                signs.append(f"max/std {ratio(peak)}")
            if tail > limits.r1_tail_mass:
                signs.append(f"{tail:.2%} beyond mean + {limits.r1_tail_stds:g} std")
            if signs:
                told = f"input {row.variable} of {op}: {', '.join(signs)}"
                return Finding("R1", "percentile calibration, else int16; no minmax", told, (op,))
    return None


def r2_several_peaks(evidence: Evidence, limits: Thresholds) -> Finding | None:
    """An input of a bad layer has its mass in separate places."""
    for op in worst_ops(evidence, limits):
        for row in _inputs(evidence, op):
            told = _peaks(row, limits)
            if told:
                told = f"input {row.variable} of {op}: {told}"
                return Finding("R2", "mse calibration, else int16", told, (op,))
    return None


def r5_mean_shift(evidence: Evidence, limits: Thresholds) -> Finding | None:
    """Quantizing shifts the mean of a layer's output, which its bias can take back."""
    for op in worst_ops(evidence, limits):
        if not has_bias(evidence, op):
            continue
        for row in evidence.rows(op):
            mean, std = row.noise_mean, row.noise_std
            if not row.is_output or row.is_parameter or mean is None or std is None:
                continue
            if std > 0 and abs(mean) > limits.r5_mean_over_std * std:
                told = (
                    f"output {row.variable} of {op}: noise mean {ratio(mean)} against noise std "
                    f"{ratio(std)}"
                )
                return Finding("R5", "bias_correct", told, (op,))
    return None


def tail_mass(row: VariableStats, stds: float) -> float:
    """Return the share of the histogram in bins that begin beyond mean + ``stds`` deviations."""
    hist, total = row.float_hist, sum(row.float_hist)
    if total <= 0 or None in (row.float_mean, row.float_std, row.float_max, row.float_min):
        return 0.0
    assert row.float_mean is not None and row.float_std is not None
    assert row.float_max is not None and row.float_min is not None
    edge, width = row.float_mean + stds * row.float_std, row.float_max - row.float_min
    starts = (row.float_min + width * index / len(hist) for index in range(len(hist)))
    return sum(count for count, start in zip(hist, starts, strict=True) if start > edge) / total


def _inputs(evidence: Evidence, op: str) -> list[VariableStats]:
    return [row for row in evidence.rows(op) if row.is_input and not row.is_parameter]


def _peaks(row: VariableStats, limits: Thresholds) -> str:
    hist = row.float_hist
    if len(hist) < 3 or max(hist) <= 0:
        return ""
    valley = _deepest_valley(hist, limits.r2_peak * max(hist))
    if valley < limits.r2_valley:
        return f"separate peaks, the valley between them at {valley:.0%} of the lower one"
    skewness, mean = row.float_skewness, row.float_mean
    low, high = row.float_min, row.float_max
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
