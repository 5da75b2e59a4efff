"""R6, R7, R9 and R10: what the error of whole layers says."""

from __future__ import annotations

from statistics import median

from espdl_quantize.record import Evidence
from espdl_quantize.search._describe import ratio
from espdl_quantize.search._thresholds import Thresholds
from espdl_quantize.search.triggers._finding import Finding

_SENSITIVE = frozenset({"GRU", "LSTM", "Softmax", "LayerNorm", "LayerNormalization"})


def outliers(evidence: Evidence, limits: Thresholds) -> tuple[list[tuple[str, float]], float]:
    """Return the worst layers above a multiple of the median of the worst, and that median."""
    worst = evidence.worst(limits.worst_layers)
    if not worst:
        return [], 0.0
    middle = median(snr for _, snr in worst)
    return [row for row in worst if row[1] > limits.int16_median_factor * middle], middle


def r6_single_layer(evidence: Evidence, limits: Thresholds) -> Finding | None:
    """One layer is far worse than the rest."""
    worst = evidence.worst(limits.worst_layers)
    if not worst:
        return None
    middle = median(snr for _, snr in worst)
    op, snr = worst[0]
    if snr <= limits.r6_median_factor * middle:
        return None
    told = f"{op} has SNR {ratio(snr)}, the median of the worst {len(worst)} is {ratio(middle)}"
    return Finding("R6", "int16 on the one to three worst layers", told, (op,))


def r7_spread_out(evidence: Evidence, limits: Thresholds) -> Finding | None:
    """The error is everywhere alike, so that no single layer can be fixed."""
    worst = evidence.worst(limits.worst_layers)
    snrs = [snr for _, snr in worst]
    if len(snrs) < limits.worst_layers or min(snrs) <= 0:
        return None
    mean = sum(snrs) / len(snrs)
    if max(snrs) > limits.r7_spread * min(snrs) or mean <= limits.layer_snr:
        return None
    told = f"the worst {len(snrs)} layers lie between {ratio(min(snrs))} and {ratio(max(snrs))}"
    return Finding("R7", "TQT on all layers", told, tuple(op for op, _ in worst))


def r9_sensitive_type(evidence: Evidence, limits: Thresholds) -> Finding | None:
    """An op type that 8 bits serve badly has a large error."""
    types = {op.name: op.op_type for op in evidence.ops}
    rows = [(op, types.get(op, ""), snr) for op, snr in evidence.worst(limits.rule_layers)]
    rows += [(op.op, op.op_type, op.max_snr) for op in evidence.hot_ops]
    for op, op_type, snr in sorted(rows, key=lambda row: -row[2]):
        if op_type in _SENSITIVE and snr > limits.layer_snr:
            told = f"{op_type} {op} has SNR {ratio(snr)}"
            return Finding("R9", "int16 on the worst one to three, then TQT", told, (op,))
    return None


def r9_nothing_matched(evidence: Evidence, limits: Thresholds) -> Finding | None:
    """No other trigger matched, though a layer needs work."""
    worst = evidence.worst(1)
    if not worst or worst[0][1] <= limits.layer_snr:
        return None
    told = f"no pattern matched; the worst layer is {worst[0][0]} with SNR {ratio(worst[0][1])}"
    return Finding("R9", "int16 on the worst one to three, then TQT", told, (worst[0][0],))


def r10_large_gap(all_tried: bool, points: float | None, limits: Thresholds) -> Finding | None:
    """Everything else was tried and the target is far."""
    if not all_tried or points is None or points <= limits.r10_gap_points:
        return None
    return Finding("R10", "blockwise_reconstruction", f"{points:.3g} points below the target")


def gap_points(value: float, target: float) -> float:
    """Return the distance to the target in points: of a metric in 0..1, hundredths."""
    scale = 100.0 if max(abs(value), abs(target)) <= 1 else 1.0
    return abs(target - value) * scale
