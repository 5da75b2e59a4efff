"""What a search says of itself while it runs."""

from __future__ import annotations

from dataclasses import dataclass

from espdl_quantize.record import History, Iteration
from espdl_quantize.search import Proposal, TimeEstimate
from espdl_quantize.tuning._budget import Budget
from espdl_quantize.tuning._plan import Plan


@dataclass(frozen=True)
class Status:
    """Where the search stands as an iteration begins.

    Attributes:
        proposal: what is about to run.
        number: of this iteration in this call, as the budget counts.
        budget: the user's ceiling.
        history: the iterations so far.
        estimate: how long it takes; None where nothing was measured.
        seconds_left: of the budget of time; None without one.
    """

    proposal: Proposal
    number: int
    budget: Budget
    history: History
    estimate: TimeEstimate | None = None
    seconds_left: float | None = None


class Observer:
    """Called at every step; the methods do nothing unless they are overridden."""

    def planned(self, plan: Plan) -> None:
        """Before the first iteration, and again when the baseline and training are measured."""

    def iteration_started(self, status: Status) -> None:
        """An iteration is about to run."""

    def iteration_ended(self, iteration: Iteration, history: History) -> None:
        """An iteration has a score, or has failed and says why."""

    def notice(self, text: str) -> None:
        """Something that the user should know."""
