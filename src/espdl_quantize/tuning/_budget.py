"""What the user lets a search cost."""

from __future__ import annotations

import re
from dataclasses import dataclass

from espdl_quantize.core import Hint, HintPart, Option, UsageError
from espdl_quantize.search import describe_seconds

BUDGET_RULE = "A failed iteration counts; its repetition in place does not count again."
"""How iterations are counted against a budget; the help, the docs and the skill say the same."""

_UNITS = {"h": 3600.0, "m": 60.0, "s": 1.0}
_DURATION = re.compile(
    r"(?:([0-9]+(?:\.[0-9]+)?)h)?(?:([0-9]+(?:\.[0-9]+)?)m(?:in)?)?(?:([0-9]+(?:\.[0-9]+)?)s?)?"
)
_LONGEST = 366 * 24 * 3600.0


@dataclass(frozen=True)
class Budget:
    """A ceiling; None for none.

    Attributes:
        iterations: how many iterations this call may run. See BUDGET_RULE.
        seconds: how long this call may take. No iteration is begun that is expected to end later.

    Raises:
        UsageError: a ceiling is not positive.
    """

    iterations: int | None = None
    seconds: float | None = None

    def __post_init__(self) -> None:
        if self.iterations is not None and self.iterations < 1:
            raise UsageError(
                f"the number of iterations is {self.iterations}", "give 1 or more, or leave it out"
            )
        if self.seconds is not None and not 0 < self.seconds <= _LONGEST:
            raise UsageError(
                f"the time is {self.seconds:g} s", "give more than zero and at most a year"
            )

    @property
    def is_set(self) -> bool:
        """Return whether there is any ceiling."""
        return self.iterations is not None or self.seconds is not None

    def __str__(self) -> str:
        parts = []
        if self.iterations is not None:
            parts.append(f"{self.iterations} iteration{'s' if self.iterations != 1 else ''}")
        if self.seconds is not None:
            parts.append(describe_seconds(self.seconds))
        return " and ".join(parts) or "none"


@dataclass(frozen=True)
class Spent:
    """How far a call came.

    Attributes:
        budget: the ceiling.
        iterations: that ended. See BUDGET_RULE.
        seconds: since the call began.
    """

    budget: Budget
    iterations: int
    seconds: float

    def describe(self) -> Hint:
        """Say what was spent and the options for the rest; empty without a budget."""
        spent: list[str] = []
        rest: list[HintPart] = []
        if (count := self.budget.iterations) is not None:
            spent.append(f"{self.iterations} of {count} iterations were done")
            if count > self.iterations:
                rest += [" ", Option.ITERATIONS.of(count - self.iterations)]
        if (limit := self.budget.seconds) is not None:
            duration = describe_seconds(min(self.seconds, limit))
            spent.append(f"{duration} of {describe_seconds(limit)} were spent")
            if limit - self.seconds >= 1:
                rest += [" ", Option.TIME.of(f"{int(limit - self.seconds)}s")]
        return Hint(" and ".join(spent), *(("; for the rest:", *rest) if rest else ()))

    def __str__(self) -> str:
        return str(self.describe())


class SearchInterrupt(KeyboardInterrupt):
    """The user interrupted a search.

    Args:
        spent: how far it came.
    """

    def __init__(self, spent: Spent) -> None:
        self.spent = spent
        super().__init__(str(spent))


def parse_duration(text: str) -> float:
    """Return the seconds of a duration such as "45m", "1h30m", "90s" or "90".

    Raises:
        UsageError: it is no duration, or not positive.
    """
    match = _DURATION.fullmatch(text.strip().lower().replace(" ", ""))
    if match is None or not any(match.groups()):
        raise UsageError(
            f"{text!r} is no duration", "write 45m, 1h30m, 90s, or a plain number of seconds"
        )
    parts = zip(match.groups(), _UNITS.values(), strict=True)
    seconds = sum(float(part) * unit for part, unit in parts if part is not None)
    return Budget(seconds=seconds).seconds or 0.0
