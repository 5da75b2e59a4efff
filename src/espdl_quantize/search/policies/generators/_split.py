"""Another layer to split."""

from __future__ import annotations

from collections.abc import Iterator

from espdl_quantize.search._describe import ratio
from espdl_quantize.search.policies._base import PolicyContext
from espdl_quantize.search.policies._parameters import PolicyParameters
from espdl_quantize.search.policies.generators._base import Candidate, Generator
from espdl_quantize.search.policies.generators._ops import with_split
from espdl_quantize.search.triggers import weight_row
from espdl_quantize.setting import WeightSplit, split_layers

_SECTION = WeightSplit(enabled=True, value_threshold=1.5, method="balance")


class SplitLayers(Generator):
    """A Conv more whose weights have outliers, or one in the place of another."""

    pattern = "split another layer"

    def candidates(
        self, context: PolicyContext, parameters: PolicyParameters
    ) -> Iterator[Candidate]:
        """Yield additions and swaps, the highest kurtosis first."""
        base, already = context.base, split_layers(context.base)
        section = base.weight_split if already and base.weight_split else _SECTION
        for layer, kurtosis in _outlying(context)[: parameters.candidates_per_list]:
            if layer in already:
                continue
            reason = f"weight of {layer} has kurtosis {ratio(kurtosis)} in {context.base_name}"
            if len(already) < parameters.split_max_layers:
                yield self._candidate(with_split(base, (*already, layer), section), reason)
            for old in already:
                kept = tuple(other for other in already if other != old)
                changed = with_split(base, (*kept, layer), section)
                yield self._candidate(changed, f"{reason}, instead of {old}")


def _outlying(context: PolicyContext) -> list[tuple[str, float]]:
    evidence = context.evidence
    found = []
    for op in dict.fromkeys(row.op for row in evidence.stats if row.op_type == "Conv"):
        weight = weight_row(evidence, op)
        kurtosis = weight.float_kurtosis if weight else None
        if kurtosis is not None and kurtosis > context.situation.options.thresholds.split_kurtosis:
            found.append((op, kurtosis))
    return sorted(found, key=lambda row: (-row[1], row[0]))
