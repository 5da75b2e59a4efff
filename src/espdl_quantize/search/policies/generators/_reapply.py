"""Takes changes that were judged on another setting to best's."""

from __future__ import annotations

from collections.abc import Iterator

from espdl_quantize.search._describe import describe_changes
from espdl_quantize.search.policies._base import PolicyContext
from espdl_quantize.search.policies._parameters import PolicyParameters
from espdl_quantize.search.policies.generators._base import Candidate, Generator
from espdl_quantize.search.policies.generators._merge import transplant


class ReapplyChanges(Generator):
    """What an earlier iteration changed, made to best: a verdict can flip on a deeper stack."""

    pattern = "re-apply a change"

    def candidates(
        self, context: PolicyContext, parameters: PolicyParameters
    ) -> Iterator[Candidate]:
        """Yield one candidate per iteration, the best gain first."""
        history = context.history
        rows = [row for row in history.scored if history.gain(row) is not None]
        for row in sorted(rows, key=lambda row: (-(history.gain(row) or 0.0), row.id)):
            prior = history.prior_best[row.id]
            if row.setting is None or prior is None or prior.setting is None:
                continue
            told = (
                f"{row.name} changed {prior.name} by {describe_changes(prior.setting, row.setting)}"
                f" for {history.gain(row):+.4g}"
            )
            yield self._candidate(transplant(prior.setting, row.setting, context.base), told)
