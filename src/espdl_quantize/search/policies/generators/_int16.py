"""Dives into the artifacts for another op to give 16 bits."""

from __future__ import annotations

from collections.abc import Iterator

from espdl_quantize.search._describe import ratio
from espdl_quantize.search.policies._base import PolicyContext
from espdl_quantize.search.policies._parameters import PolicyParameters
from espdl_quantize.search.policies.generators._base import Candidate, Generator
from espdl_quantize.search.policies.generators._ops import with_int16
from espdl_quantize.setting import int16_ops


class PromoteOps(Generator):
    """An op more with 16 bits, or one in the place of another."""

    pattern = "int16 on another op"

    def candidates(
        self, context: PolicyContext, parameters: PolicyParameters
    ) -> Iterator[Candidate]:
        """Yield additions and swaps, the worst op of the artifacts first."""
        base, already = context.base, int16_ops(context.base)
        room = _most_ops(context, parameters) - len(already)
        for op, reason in _suspects(context, parameters):
            if op in already:
                continue
            if room > 0:
                yield self._candidate(with_int16(base, (*already, op)), reason)
            for old in already:
                kept = tuple(other for other in already if other != old)
                yield self._candidate(with_int16(base, (*kept, op)), f"{reason}, instead of {old}")


def _most_ops(context: PolicyContext, parameters: PolicyParameters) -> int:
    share = context.situation.options.thresholds.int16_max_share
    count = len(context.evidence.ops)
    return min(parameters.int16_max_ops, max(1, int(share * count))) if count else 1


def _suspects(context: PolicyContext, parameters: PolicyParameters) -> Iterator[tuple[str, str]]:
    """Yield ops that the artifacts of best speak against, with the file and the number."""
    evidence, name, seen = context.evidence, context.base_name, set[str]()
    most = parameters.candidates_per_list
    named = [
        (op, f"layerwise_error.json of {name} has {op} at {ratio(snr)}")
        for op, snr in evidence.worst(most + len(int16_ops(context.base)))
    ]
    named += [
        (
            jump.op_next,
            f"graphwise_jumps.json of {name}: up to {jump.op_next} the error grows by "
            f"{ratio(jump.excess)} more than it explains",
        )
        for jump in evidence.jumps[:most]
    ]
    named += [
        (
            op.op,
            f"non_computing_hot_ops.json of {name} has {op.op_type} {op.op} at {ratio(op.max_snr)}",
        )
        for op in evidence.hot_ops[:most]
    ]
    for op, reason in named:
        if op and op not in seen:
            seen.add(op)
            yield op, reason
