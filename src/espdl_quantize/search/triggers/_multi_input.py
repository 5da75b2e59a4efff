"""R8: an op that joins branches dominates the error."""

from __future__ import annotations

from dataclasses import dataclass

from espdl_quantize.record import Evidence, HotOp
from espdl_quantize.search._describe import ratio
from espdl_quantize.search._thresholds import Thresholds
from espdl_quantize.search.triggers._finding import Finding
from espdl_quantize.setting import ONE_EXPONENT_OPS

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
