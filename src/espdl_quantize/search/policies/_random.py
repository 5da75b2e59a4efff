"""Draws settings at random: what every other policy must beat."""

from __future__ import annotations

import random

from espdl_quantize.search.policies._base import Policy, PolicyContext, Proposal
from espdl_quantize.search.policies._sampling import propose_sampled
from espdl_quantize.search.policies._space import space


class RandomPolicy(Policy):
    """Takes each field's value at random."""

    name = "random"

    def propose(self, context: PolicyContext) -> Proposal | None:
        """Draw a setting that was never run."""
        choices = space(context)
        generator = random.Random(f"{context.seed}:{len(context.history.iterations)}")
        return propose_sampled(
            context,
            lambda: {name: generator.choice(values) for name, values in choices.items()},
            "random",
            "drawn at random",
        )
