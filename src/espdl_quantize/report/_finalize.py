"""Whether a call ends the search, and what it is recorded as."""

from __future__ import annotations

from dataclasses import asdict, dataclass
from typing import Any, Literal, get_args

from espdl_quantize.record import History
from espdl_quantize.record.comparison import FinalizeEntry
from espdl_quantize.search import Decision, Open, Stop, describe_score

Category = Literal[
    "target_reached",
    "plateau",
    "force_finalize_phase5",
    "manual_finalize_phase4",
    "manual_finalize_pre_phase5",
    "budget_reached",
    "coverage_exhausted",
]
RunStop = Literal["budget_reached", "coverage_exhausted"]
"""Stops that only an automatic run can know of."""


@dataclass(frozen=True)
class FinalizeReason:
    """Why the search was ended, with what was left untried."""

    category: Category
    detail: str
    phase: str
    untried_phase5_patterns: tuple[str, ...] = ()
    untried_phase3_levers: tuple[str, ...] = ()
    untried_5beta_reapply: tuple[str, ...] = ()

    def to_json(self) -> dict[str, Any]:
        """Return plain data."""
        return asdict(self)

    @classmethod
    def from_entry(cls, entry: FinalizeEntry) -> FinalizeReason | None:
        """Return what comparison.json tells of; None where this version has no such category."""
        if entry.category not in get_args(Category):
            return None
        return cls(**entry.model_dump())


@dataclass(frozen=True)
class FinalizePlan:
    """What a call is to write.

    Attributes:
        best: write best/.
        reason: write final_report.md for this reason; None for no report.
        auto: nobody asked for it.
        refusal: why what was asked for is refused; empty where it is not.
        premature: the refusal is that the search is still open.
    """

    best: bool = False
    reason: FinalizeReason | None = None
    auto: bool = False
    refusal: str = ""
    premature: bool = False


def plan_finalize(
    history: History,
    decision: Decision,
    *,
    finalize: bool = False,
    force_finalize: bool = False,
    write_best: bool = False,
    run_stop: RunStop | None = None,
) -> FinalizePlan:
    """Decide what to write.

    ``force_finalize`` asks for finalizing by itself. In phase 4 every call finalizes, unless
    only best/ is asked for.
    """
    asked = finalize or force_finalize or run_stop is not None
    ended = isinstance(decision, Stop)
    if not (asked or write_best or ended):
        return FinalizePlan()
    if history.best is None:
        return FinalizePlan(
            refusal="there is nothing to finalize: no iteration has a score; run the next one first"
        )
    if not asked and write_best:
        return FinalizePlan(best=True)
    is_open = isinstance(decision, Open)
    if is_open and not force_finalize and run_stop is None:
        return FinalizePlan(
            refusal="the search is open: the target is not reached and the metric still moves",
            premature=True,
        )
    reason = _reason(history, decision, run_stop, asked=asked)
    return FinalizePlan(best=True, reason=reason, auto=ended and not asked)


def _reason(
    history: History, decision: Decision, run_stop: RunStop | None, *, asked: bool
) -> FinalizeReason:
    signals = decision.signals if isinstance(decision, Open) else None
    category, detail = _category(history, decision, run_stop, asked=asked)
    return FinalizeReason(
        category,
        detail,
        decision.phase,
        signals.untried_phase5_patterns if signals else (),
        signals.untried_phase3_levers if signals else (),
        signals.untried_5beta_reapply if signals else (),
    )


def _category(
    history: History, decision: Decision, run_stop: RunStop | None, *, asked: bool
) -> tuple[Category, str]:
    count = len(history.iterations)
    if isinstance(decision, Stop) and (run_stop is not None or not asked):
        return decision.category, decision.detail
    if run_stop == "budget_reached":
        return "budget_reached", f"the budget is spent after {count} iterations"
    if run_stop == "coverage_exhausted":
        return "coverage_exhausted", _exhausted(decision)
    if isinstance(decision, Stop):
        detail = f"asked for; the search had ended by itself ({decision.category}): "
        return "manual_finalize_phase4", detail + decision.detail
    if isinstance(decision, Open):
        return "force_finalize_phase5", f"forced in open exploration after {count} iterations"
    best = history.best
    detail = f"asked for in {decision.phase} after {count} iterations"
    if best is not None:
        detail = f"{detail}; {describe_score(history, best)}"
    return "manual_finalize_pre_phase5", detail


def _exhausted(decision: Decision) -> str:
    signals = decision.signals if isinstance(decision, Open) else None
    left = [*signals.untried_phase3_levers, *signals.untried_phase5_patterns] if signals else []
    if not left:
        return "every lever and pattern was tried and nothing gained lately"
    missing = ", ".join(left)
    return f"nothing gained lately, and no change of best is left that would cover {missing}"
