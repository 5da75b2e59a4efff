"""What a lever is."""

from __future__ import annotations

from abc import ABC, abstractmethod
from dataclasses import dataclass
from typing import TYPE_CHECKING, ClassVar, Literal

from espdl_quantize.record import History, Iteration
from espdl_quantize.setting import Setting

if TYPE_CHECKING:
    from espdl_quantize.search._state import SearchState


@dataclass(frozen=True)
class Judgement:
    """Whether a lever applies, and the numbers that say so."""

    applies: bool
    reason: str


class Lever(ABC):
    """One change to best's setting.

    A new lever is a subclass in a file of its own and a line in :data:`LEVERS`.

    Attributes:
        id: the code in hints and reports.
        name: what it does, in a few plain words.
        tier: "A" costs nothing on the chip, "B" does, "C" is the last resort.
        cost: "+" where the deployed model runs slower for it.
        title: the change in words.
    """

    id: ClassVar[str]
    name: ClassVar[str]
    tier: ClassVar[Literal["A", "B", "C"]]
    cost: ClassVar[Literal["0", "+"]] = "0"
    title: ClassVar[str]

    @abstractmethod
    def marks(self, setting: Setting) -> bool:
        """Tell whether ``setting`` holds the change by which this lever is recognised."""

    @abstractmethod
    def applies(self, state: SearchState) -> Judgement:
        """Judge by best's artifacts whether the lever is worth a run."""

    @abstractmethod
    def change(self, state: SearchState) -> Setting:
        """Return ``state.base`` with this one change; only called where the lever applies."""


def is_tried(lever: Lever, history: History) -> bool:
    """Tell whether any iteration has the lever's change, whatever it scored."""
    return any(
        iteration.setting is not None and lever.marks(iteration.setting)
        for iteration in history.iterations
    )


def runs_of(lever: Lever, history: History) -> list[Iteration]:
    """Return the iterations that pulled the lever: best before them did not have its change."""
    return [
        iteration
        for iteration in history.iterations
        if iteration.setting is not None
        and lever.marks(iteration.setting)
        and not _had(lever, history.prior_best[iteration.id])
    ]


def improved(lever: Lever, history: History) -> bool:
    """Tell whether pulling the lever made a new best."""
    return any(
        (history.gain(iteration) or 0) > 0
        or (history.gain(iteration) is not None and history.took_over(iteration))
        for iteration in runs_of(lever, history)
    )


def _had(lever: Lever, iteration: Iteration | None) -> bool:
    return (
        iteration is not None and iteration.setting is not None and lever.marks(iteration.setting)
    )
