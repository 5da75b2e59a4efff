"""What the search answers with."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

from espdl_quantize.record import Priority
from espdl_quantize.search._search_by import SearchBy
from espdl_quantize.search._thresholds import DEFAULT_THRESHOLDS, Thresholds
from espdl_quantize.search.phase5._signals import Phase5Signals
from espdl_quantize.setting import DEFAULT_BITS, Setting

Phase = Literal[
    "phase-1-baseline",
    "phase-2-calib-tqt-sweep",
    "phase-3-residual",
    "phase-3-pivot",
    "phase-4-final-report",
    "phase-5-agent-driven",
]

StopCategory = Literal["target_reached", "plateau"]


@dataclass(frozen=True)
class SearchOptions:
    """What a caller may set; None takes what the iterations carry from the contract.

    Attributes:
        target: the value of the primary metric to reach.
        priority: the order of the levers.
        user_budget: the user has set a number of iterations or a time, so that running out of
            ideas is no reason to stop.
        thresholds: limits of the rules.
        search_by: what the rules rank by; the metric is the judge of the target and of best/.
        num_of_bits: the contract's default width, by which the baseline differs. It stays None
            where neither the caller nor an iteration says.
    """

    target: float | None = None
    priority: Priority | None = None
    user_budget: bool = False
    thresholds: Thresholds = DEFAULT_THRESHOLDS
    search_by: SearchBy = "metric"
    num_of_bits: int | None = None

    @property
    def width(self) -> int:
        """Return the contract's default width, 8 where nothing says what it is."""
        return self.num_of_bits or DEFAULT_BITS


@dataclass(frozen=True)
class SkippedLever:
    """A lever that has not been tried and is not proposed, and why."""

    lever: str
    reason: str


@dataclass(frozen=True)
class Stop:
    """Why the search is over, with the numbers that say so."""

    category: StopCategory
    detail: str


@dataclass(frozen=True)
class Decision:
    """The next step.

    Attributes:
        phase: where the search stands.
        lever: id of the lever that ``setting`` pulls, in phase 3.
        setting: the complete next setting, in phases 1 to 3.
        advice: what to do and why, in words.
        skipped: levers that were passed over on the way to this decision.
        failed: ids of iterations without a score; their leg or lever counts as tried.
        stop: in phase 4, why.
        signals: in phase 5, what the history offers to build on.
        notes: what a reader may miss about it, each a sentence.
        coverage_exhausted: in phase 5, nothing is left that the rules ask for; only without a
            budget of the user.
    """

    phase: Phase
    advice: str
    lever: str | None = None
    setting: Setting | None = None
    skipped: tuple[SkippedLever, ...] = ()
    failed: tuple[int, ...] = ()
    stop: Stop | None = None
    signals: Phase5Signals | None = None
    coverage_exhausted: bool = False
    notes: tuple[str, ...] = ()
