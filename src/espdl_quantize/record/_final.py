"""A score that took no part in the search."""

from __future__ import annotations

from dataclasses import dataclass

from espdl_quantize.record._iteration import Iteration


@dataclass(frozen=True)
class FinalScore:
    """The final score of one iteration.

    Attributes:
        score: in the form of an iteration: its value, samples and signals are of the final data.
        same_model: whether the graph that was scored exports to the iteration's model, byte for
            byte; None where the iteration's model is not there.
    """

    score: Iteration
    same_model: bool | None
