"""Stacks levers onto best."""

from __future__ import annotations

from collections.abc import Iterator

from espdl_quantize.search.levers import LEVERS
from espdl_quantize.search.policies._base import PolicyContext
from espdl_quantize.search.policies._parameters import PolicyParameters
from espdl_quantize.search.policies.generators._base import Candidate, Generator


class StackLevers(Generator):
    """Every lever that best does not have and that its artifacts allow."""

    pattern = "stack a lever"

    def candidates(
        self, context: PolicyContext, parameters: PolicyParameters
    ) -> Iterator[Candidate]:
        """Yield one candidate per lever."""
        lever_context = context.situation.context
        if lever_context is None:
            return
        for lever in LEVERS.values():
            if lever.marks(context.base):
                continue
            verdict = lever.applies(lever_context)
            if verdict.applies:
                reason = f"lever {lever.id} ({lever.title}): {verdict.reason}"
                yield self._candidate(lever.change(lever_context), reason)
