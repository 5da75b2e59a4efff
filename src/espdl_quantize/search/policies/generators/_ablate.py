"""Takes things away from best: what does not carry is dropped, what costs the chip first."""

from __future__ import annotations

from collections.abc import Iterator

from espdl_quantize.search.phase5 import passes_on
from espdl_quantize.search.policies._base import PolicyContext
from espdl_quantize.search.policies._parameters import PolicyParameters
from espdl_quantize.search.policies.generators._base import Candidate, Generator
from espdl_quantize.search.policies.generators._ops import with_int16, with_split
from espdl_quantize.setting import int16_ops, split_layers


class Ablate(Generator):
    """One pass of best turned off."""

    pattern = "ablate"

    def candidates(
        self, context: PolicyContext, parameters: PolicyParameters
    ) -> Iterator[Candidate]:
        """Yield one candidate per pass that is on, and one without any int16."""
        base, name = context.base, context.base_name
        for field in sorted(passes_on(base)):
            yield self._candidate(
                base.model_copy(update={field: None}), f"does {name} need {field}?"
            )
        if int16_ops(base):
            yield self._candidate(with_int16(base, ()), f"does {name} need any int16?")


class TrimCost(Generator):
    """One op less that runs slower on the chip."""

    pattern = "trim the cost"

    def candidates(
        self, context: PolicyContext, parameters: PolicyParameters
    ) -> Iterator[Candidate]:
        """Yield one candidate per int16 op and split layer of best."""
        base = context.base
        for op in int16_ops(base):
            kept = tuple(other for other in int16_ops(base) if other != op)
            yield self._candidate(with_int16(base, kept), f"{op} back to 8 bits saves its cycles")
        layers, section = split_layers(base), base.weight_split
        if section is None or len(layers) < 2:
            return
        for layer in layers:
            kept = tuple(other for other in layers if other != layer)
            yield self._candidate(
                with_split(base, kept, section), f"{layer} in one piece saves an Add"
            )
