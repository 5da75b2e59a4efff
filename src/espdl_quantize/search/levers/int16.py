"""3e: 16 bits for the worst ops."""

from __future__ import annotations

from itertools import islice
from typing import TYPE_CHECKING

from espdl_quantize.record import Evidence
from espdl_quantize.search._describe import ratio
from espdl_quantize.search.levers._base import Judgement, Lever
from espdl_quantize.search.triggers import outliers
from espdl_quantize.setting import Dispatch, Setting, int16_ops
from espdl_quantize.targets.ops import lacks_16_bits

if TYPE_CHECKING:
    from espdl_quantize.search._state import SearchState


class PromoteWorst(Lever):
    """Gives the worst ops 16 bits, at about twice the cycles and activation memory each."""

    id = "3e"
    name = "16 bits for the worst ops"
    tier = "B"
    cost = "+"
    title = "int16 on the worst ops"

    def marks(self, setting: Setting) -> bool:
        """Recognised by any op with 16 bits."""
        return bool(int16_ops(setting))

    def applies(self, state: SearchState) -> Judgement:
        """Needs a layerwise list to choose from, and ops that have 8 bits."""
        if state.options.width == 16:
            return Judgement(False, "every op has 16 bits already")
        chosen = choose_int16(state)
        if not chosen:
            return Judgement(False, f"{state.base_name} has no layerwise errors to choose ops by")
        _, middle = outliers(state.best_evidence, state.options.thresholds)
        named = ", ".join(f"{op} {ratio(snr)}" for op, snr in chosen)
        return Judgement(True, f"R6: {named}; median of the worst five {ratio(middle)}")

    def change(self, state: SearchState) -> Setting:
        """Add the chosen ops to best's table."""
        chosen = [op for op, _ in choose_int16(state)]
        kept = [entry for entry in state.base.dispatching_table or [] if entry.op not in chosen]
        table = kept + [Dispatch(op=op, bits=16) for op in chosen]
        return state.base.model_copy(update={"dispatching_table": table})


def choose_int16(state: SearchState) -> list[tuple[str, float]]:
    """Choose the ops: the outliers of best's layerwise list, at least one, within the limits."""
    limits, evidence = state.options.thresholds, state.best_evidence
    already = set(int16_ops(state.base))
    most = limits.int16_max_ops
    if evidence.ops:
        most = min(most, max(1, int(limits.int16_max_share * len(evidence.ops))))
    outlying, _ = outliers(evidence, limits)
    fitting = [(op, snr) for op, snr in outlying if may_have_16_bits(op, evidence)]
    others = (
        (op, snr)
        for op, snr in evidence.worst(len(evidence.layerwise))
        if may_have_16_bits(op, evidence)
    )
    candidates = [(op, snr) for op, snr in fitting or [*islice(others, 1)] if op not in already]
    return candidates[:most]


def may_have_16_bits(op: str, evidence: Evidence) -> bool:
    """Tell whether ESP-DL has a 16-bit kernel of an op's type; of an op that nobody knows, too."""
    node = evidence.op(op)
    return node is None or node.op_type not in lacks_16_bits()
