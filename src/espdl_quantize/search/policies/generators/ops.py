"""Other ops with 16 bits, other layers that are split, and less of either."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import TYPE_CHECKING

from espdl_quantize.search._decisions import Proposal
from espdl_quantize.search._describe import ratio
from espdl_quantize.search.levers import LEVERS
from espdl_quantize.search.levers.groups import choose_groups, describe_groups, promote
from espdl_quantize.search.levers.int16 import may_have_16_bits
from espdl_quantize.search.policies._parameters import PolicyParameters
from espdl_quantize.search.policies.generators._base import Generator
from espdl_quantize.search.triggers import weight_stats
from espdl_quantize.setting import Dispatch, Setting, WeightSplit, int16_ops, split_layers

if TYPE_CHECKING:
    from espdl_quantize.search._state import SearchState


_SECTION = WeightSplit(enabled=True, value_threshold=1.5, method="balance")


class PromoteOps(Generator):
    """An op more with 16 bits, or one in the place of another."""

    pattern = "int16 on another op"

    def candidates(self, state: SearchState, parameters: PolicyParameters) -> Iterator[Proposal]:
        """Yield additions and swaps, the worst op of the artifacts first."""
        base, already = state.base, int16_ops(state.base)
        room = _most_ops(state, parameters) - len(already)
        for op, reason in _suspects(state, parameters):
            if op in already:
                continue
            if room > 0:
                yield self._proposal(with_int16(base, (*already, op)), reason)
            for old in already:
                kept = tuple(other for other in already if other != old)
                yield self._proposal(with_int16(base, (*kept, op)), f"{reason}, instead of {old}")


def _most_ops(state: SearchState, parameters: PolicyParameters) -> int:
    share = state.options.thresholds.int16_max_share
    count = len(state.best_evidence.ops)
    return min(parameters.int16_max_ops, max(1, int(share * count))) if count else 1


def _suspects(state: SearchState, parameters: PolicyParameters) -> Iterator[tuple[str, str]]:
    """Yield ops that the artifacts of best speak against, with the file and the number."""
    evidence, name, seen = state.best_evidence, state.base_name, set[str]()
    most = parameters.candidates_per_list
    named = [
        (op, f"layerwise_error.json of {name} has {op} at {ratio(snr)}")
        for op, snr in evidence.worst(most + len(int16_ops(state.base)))
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
        if op and op not in seen and may_have_16_bits(op, evidence):
            seen.add(op)
            yield op, reason


class SplitLayers(Generator):
    """A Conv more whose weights have outliers, or one in the place of another."""

    pattern = "split another layer"

    def candidates(self, state: SearchState, parameters: PolicyParameters) -> Iterator[Proposal]:
        """Yield additions and swaps, the highest kurtosis first."""
        base, already = state.base, split_layers(state.base)
        section = base.weight_split if already and base.weight_split else _SECTION
        for layer, kurtosis in _outlying(state)[: parameters.candidates_per_list]:
            if layer in already:
                continue
            reason = f"weight of {layer} has kurtosis {ratio(kurtosis)} in {state.base_name}"
            if len(already) < parameters.split_max_layers:
                yield self._proposal(with_split(base, (*already, layer), section), reason)
            for old in already:
                kept = tuple(other for other in already if other != old)
                changed = with_split(base, (*kept, layer), section)
                yield self._proposal(changed, f"{reason}, instead of {old}")


def _outlying(state: SearchState) -> list[tuple[str, float]]:
    evidence = state.best_evidence
    outlying = []
    for op in dict.fromkeys(stats.op for stats in evidence.stats if stats.op_type == "Conv"):
        weight = weight_stats(evidence, op)
        kurtosis = weight.float_kurtosis if weight else None
        if kurtosis is not None and kurtosis > state.options.thresholds.split_kurtosis:
            outlying.append((op, kurtosis))
    return sorted(outlying, key=lambda item: (-item[1], item[0]))


class TrimCost(Generator):
    """One op less that runs slower on the chip."""

    pattern = "trim the cost"

    def candidates(self, state: SearchState, parameters: PolicyParameters) -> Iterator[Proposal]:
        """Yield one candidate per int16 op and split layer of best."""
        base = state.base
        for op in int16_ops(base):
            kept = tuple(other for other in int16_ops(base) if other != op)
            yield self._proposal(with_int16(base, kept), f"{op} back to 8 bits saves its cycles")
        layers, section = split_layers(base), base.weight_split
        if section is None or len(layers) < 2:
            return
        for layer in layers:
            kept = tuple(other for other in layers if other != layer)
            yield self._proposal(
                with_split(base, kept, section), f"{layer} in one piece saves an Add"
            )


def with_int16(base: Setting, ops: Sequence[str]) -> Setting:
    """Return ``base`` with exactly these ops at 16 bits; other entries of its table stay."""
    wide = {entry.op: entry for entry in base.dispatching_table or [] if entry.bits != 8}
    table = [entry for entry in base.dispatching_table or [] if entry.bits == 8]
    table = [entry for entry in table if entry.op not in ops]
    table += [wide.get(op) or Dispatch(op=op, bits=16) for op in ops]
    return base.model_copy(update={"dispatching_table": table or None})


def with_split(base: Setting, layers: Sequence[str], section: WeightSplit) -> Setting:
    """Return ``base`` with exactly these layers split, by the parameters of ``section``."""
    update = {"enabled": True, "interested_layers": list(layers)}
    return base.model_copy(update={"weight_split": section.model_copy(update=update)})


class MoreGroups(Generator):
    """Another group of ops at 16 bits, beside those that best has or instead of several."""

    pattern = "int16 on another group"

    def candidates(self, state: SearchState, parameters: PolicyParameters) -> Iterator[Proposal]:
        """Yield what lever 3i adds to a best that has its groups, and the first group alone."""
        chosen = choose_groups(state)
        if chosen and LEVERS["3i"].marks(state.base):
            ops = [op for group in chosen for op in group.ops]
            yield self._proposal(promote(state.base, ops), describe_groups(state, chosen))
        if len(chosen) > 1:
            first = chosen[:1]
            yield self._proposal(promote(state.base, first[0].ops), describe_groups(state, first))
