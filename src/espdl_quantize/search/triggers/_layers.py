"""R6 to R10: what the error of whole layers and of ops that join branches says."""

from __future__ import annotations

from dataclasses import dataclass
from statistics import median

from espdl_quantize.record import Evidence, HotOp
from espdl_quantize.search._describe import ratio
from espdl_quantize.search._thresholds import Thresholds
from espdl_quantize.search.triggers._finding import Finding
from espdl_quantize.setting import ONE_EXPONENT_OPS

_SENSITIVE = frozenset({"GRU", "LSTM", "Softmax", "LayerNorm", "LayerNormalization"})
CANDIDATES = frozenset({"Concat", "Add", "Sub", "Mul", "Resize", "AveragePool"})
_VETOERS = frozenset({"Relu", "Clip", "Swish", "Sigmoid", "HardSwish"})
"""Activations whose own error an alignment cannot fix; Clip is how ONNX writes ReLU6."""

UNALIGNABLE = frozenset({*ONE_EXPONENT_OPS, "Mul"})
"""Candidates without an alignment to choose: the exponents of Add and Sub must be one, and esp-ppq
aligns no Mul."""


@dataclass(frozen=True)
class R8Verdict:
    """Whether R8 fires, on which op, and why or why not."""

    fires: bool
    reason: str
    candidate: HotOp | None = None


def outliers(evidence: Evidence, limits: Thresholds) -> tuple[list[tuple[str, float]], float]:
    """Return the worst layers above a multiple of the median of the worst, and that median."""
    worst = evidence.worst(limits.worst_layers)
    if not worst:
        return [], 0.0
    middle = median(snr for _, snr in worst)
    least = limits.int16_median_factor * middle
    return [(op, snr) for op, snr in worst if snr > least], middle


def r6_single_layer(evidence: Evidence, limits: Thresholds) -> Finding | None:
    """One layer is far worse than the rest."""
    worst = evidence.worst(limits.worst_layers)
    if not worst:
        return None
    middle = median(snr for _, snr in worst)
    op, snr = worst[0]
    if snr <= limits.r6_median_factor * middle:
        return None
    text = f"{op} has SNR {ratio(snr)}, the median of the worst {len(worst)} is {ratio(middle)}"
    return Finding("R6", "int16 on the one to three worst layers", text, (op,))


def r7_spread_out(evidence: Evidence, limits: Thresholds) -> Finding | None:
    """The error is everywhere alike, so that no single layer can be fixed."""
    worst = evidence.worst(limits.worst_layers)
    snrs = [snr for _, snr in worst]
    if len(snrs) < limits.worst_layers or min(snrs) <= 0:
        return None
    mean = sum(snrs) / len(snrs)
    if max(snrs) > limits.r7_spread * min(snrs) or mean <= limits.layer_snr:
        return None
    text = f"the worst {len(snrs)} layers lie between {ratio(min(snrs))} and {ratio(max(snrs))}"
    return Finding("R7", "TQT on all layers", text, tuple(op for op, _ in worst))


def judge_r8(evidence: Evidence, limits: Thresholds) -> R8Verdict:
    """Judge the worst op among those that fusion alignment can reach."""
    candidates = [op for op in evidence.hot_ops if op.op_type in CANDIDATES]
    candidate = max(candidates, key=lambda op: op.max_snr, default=None)
    if candidate is None:
        return R8Verdict(False, f"no {'/'.join(sorted(CANDIDATES))} among the hot ops")
    snr, spread = candidate.max_snr, candidate.inputs_float_std_ratio
    named = f"{candidate.op_type} {candidate.op} has max SNR {ratio(snr)}"
    for op in sorted(evidence.hot_ops, key=lambda op: -op.max_snr)[: limits.r8_veto_top]:
        if op.op_type in _VETOERS and op.max_snr > limits.r8_veto_ratio * snr:
            return R8Verdict(
                False,
                f"{named}, but {op.op_type} {op.op} has {ratio(op.max_snr)}, over "
                f"{limits.r8_veto_ratio:g} times as much: the error is the activation's",
                candidate,
            )
    if spread is not None and spread > limits.r8_std_ratio:
        return R8Verdict(
            True, f"{named}; the spread of its inputs differs {ratio(spread)}-fold", candidate
        )
    if snr > limits.r8_snr_high:
        return R8Verdict(
            False, f"{named}, above {limits.r8_snr_high:g}: too large for alignment", candidate
        )
    if snr <= limits.r8_snr_low:
        return R8Verdict(
            False, f"{named}, not above {limits.r8_snr_low:g}: too little to fix", candidate
        )
    band = f"within ({limits.r8_snr_low:g}, {limits.r8_snr_high:g}]"
    return R8Verdict(True, f"{named}, {band}", candidate)


def r8_multi_input(evidence: Evidence, limits: Thresholds) -> Finding | None:
    """Return the finding where R8 fires."""
    verdict = judge_r8(evidence, limits)
    if not verdict.fires or verdict.candidate is None:
        return None
    alignable = verdict.candidate.op_type not in UNALIGNABLE
    method = "fusion_alignment" if alignable else "int16 on it: no alignment can help"
    return Finding("R8", method, verdict.reason, (verdict.candidate.op,))


def r9_sensitive_type(evidence: Evidence, limits: Thresholds) -> Finding | None:
    """An op type that 8 bits serve badly has a large error."""
    types = {op.name: op.op_type for op in evidence.ops}
    errors = [(op, types.get(op, ""), snr) for op, snr in evidence.worst(limits.rule_layers)]
    errors += [(op.op, op.op_type, op.max_snr) for op in evidence.hot_ops]
    for op, op_type, snr in sorted(errors, key=lambda error: -error[2]):
        if op_type in _SENSITIVE and snr > limits.layer_snr:
            text = f"{op_type} {op} has SNR {ratio(snr)}"
            return Finding("R9", "int16 on the worst one to three, then TQT", text, (op,))
    return None


def r9_nothing_matched(evidence: Evidence, limits: Thresholds) -> Finding | None:
    """No other trigger matched, though a layer needs work."""
    worst = evidence.worst(1)
    if not worst or worst[0][1] <= limits.layer_snr:
        return None
    text = f"no pattern matched; the worst layer is {worst[0][0]} with SNR {ratio(worst[0][1])}"
    return Finding("R9", "int16 on the worst one to three, then TQT", text, (worst[0][0],))


def r10_large_gap(points: float | None, limits: Thresholds, *, all_tried: bool) -> Finding | None:
    """Everything else was tried and the target is far."""
    if not all_tried or points is None or points <= limits.r10_gap_points:
        return None
    return Finding("R10", "blockwise_reconstruction", f"{points:.3g} points below the target")


def gap_points(value: float, target: float) -> float:
    """Return the distance to the target in points: of a metric in 0..1, hundredths."""
    scale = 100.0 if max(abs(value), abs(target)) <= 1 else 1.0
    return abs(target - value) * scale
