"""What comes next: a proposal, a stop, or open exploration."""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar, Literal

from espdl_quantize.core import Phase
from espdl_quantize.search.phase5 import Phase5Signals
from espdl_quantize.setting import Setting

StopCategory = Literal["target_reached", "plateau", "coverage_exhausted"]


@dataclass(frozen=True)
class SkippedLever:
    """A lever that has not been tried and is not proposed, and why."""

    lever: str
    reason: str


@dataclass(frozen=True, kw_only=True)
class Proposal:
    """The next setting, by the sweep, a lever or a policy.

    Attributes:
        setting: complete, with the next iteration's id and a rationale that cites.
        phase: where the search stands.
        pattern: the point of the sweep, the lever or the kind of change, in a few words.
        reason: what of the artifacts or of the history speaks for it.
        advice: what to do and why, in words.
        lever: id of the lever that ``setting`` pulls.
        calibration: the point of the sweep that ``setting`` is.
        expected_gain: what is expected over best, positive = better; 0 where nothing says.
        citations: ids of the iterations whose data speaks for it.
        covers: what coverage still owed and this covers.
        skipped: levers that were passed over on the way to it.
        notes: what a reader may miss about it, each a sentence.
        is_lean: its score decides, and nobody will read where its error lies.
        is_repetition: it runs a failed iteration again, in its own folder.
        race: proposals of one race do not wait for each other's outcome; empty where it has to run
            alone.
    """

    setting: Setting
    phase: Phase
    pattern: str
    reason: str = ""
    advice: str = ""
    lever: str | None = None
    calibration: str | None = None
    expected_gain: float = 0.0
    citations: tuple[int, ...] = ()
    covers: tuple[str, ...] = ()
    skipped: tuple[SkippedLever, ...] = ()
    notes: tuple[str, ...] = ()
    is_lean: bool = False
    is_repetition: bool = False
    race: str = ""


@dataclass(frozen=True, kw_only=True)
class Stop:
    """The search is over.

    Attributes:
        category: why.
        detail: the numbers that say so.
        notes: what a reader may miss about it, each a sentence.
    """

    phase: ClassVar[Phase] = Phase.FINAL_REPORT
    category: StopCategory
    detail: str
    notes: tuple[str, ...] = ()
    skipped: ClassVar[tuple[SkippedLever, ...]] = ()

    @property
    def advice(self) -> str:
        """Say that the search is over, and why."""
        return f"The search is over: {self.detail}."


@dataclass(frozen=True, kw_only=True)
class Open:
    """Open exploration: guidance and no setting.

    Attributes:
        signals: what the history offers to build on.
        advice: what the data suggests to try, in words.
        skipped: levers of the linear order that were not tried and do not apply.
        notes: what a reader may miss about it, each a sentence.
        is_exhausted: nothing is left that the rules ask for; never under a budget of the user.
    """

    phase: ClassVar[Phase] = Phase.OPEN
    signals: Phase5Signals
    advice: str
    skipped: tuple[SkippedLever, ...] = ()
    notes: tuple[str, ...] = ()
    is_exhausted: bool = False


Decision = Proposal | Stop | Open
