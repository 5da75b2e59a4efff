"""Draws settings at random: what every other policy must beat."""

from __future__ import annotations

import random
from typing import TYPE_CHECKING

from espdl_quantize.search._decisions import Proposal
from espdl_quantize.search.policies._base import Policy
from espdl_quantize.search.policies._sampling import propose_sampled, space

if TYPE_CHECKING:
    from espdl_quantize.search._state import SearchState


class RandomPolicy(Policy):
    """Takes each field's value at random."""

    name = "random"

    def propose(self, state: SearchState) -> Proposal | None:
        """Draw a setting that was never run."""
        choices = space(state)
        generator = random.Random(f"{state.options.seed}:{len(state.history.iterations)}")
        return propose_sampled(
            state,
            lambda: {name: generator.choice(values) for name, values in choices.items()},
            pattern="random",
            reason="drawn at random",
        )
