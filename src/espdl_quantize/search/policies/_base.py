"""What a policy of open exploration is: it looks at the evidence and names the next setting."""

from __future__ import annotations

from abc import ABC, abstractmethod
from dataclasses import dataclass
from functools import cached_property
from typing import ClassVar

from espdl_quantize.record import Evidence, History
from espdl_quantize.search._crashes import Crashes
from espdl_quantize.search._lint import lint_setting
from espdl_quantize.search._rules import Situation
from espdl_quantize.search.phase5 import Phase5Signals
from espdl_quantize.setting import Setting, baseline, setting_key, unequal_exponents


@dataclass(frozen=True)
class PolicyContext:
    """What a policy decides on.

    Attributes:
        situation: the history, the artifacts and the settled options.
        signals: what the history offers to build on.
        seed: of whatever the policy draws.
        seconds_left: what is left of a budget of time.
        pool: the only settings that can be run; None for no limit.
        disciplined: propose only what keeps the composition discipline.
    """

    situation: Situation
    signals: Phase5Signals
    seed: int = 0
    seconds_left: float | None = None
    pool: tuple[Setting, ...] | None = None
    disciplined: bool = True

    @property
    def history(self) -> History:
        """The iterations so far."""
        return self.situation.history

    @property
    def evidence(self) -> Evidence:
        """The artifacts of best."""
        return self.situation.best_evidence

    @property
    def base(self) -> Setting:
        """Best's setting, which the next one changes; the baseline where there is none."""
        best = self.history.best
        if best is not None and best.setting is not None:
            return best.setting
        return baseline(num_of_bits=self.situation.options.width)

    @property
    def base_name(self) -> str:
        """The name of the iteration that ``base`` belongs to."""
        best = self.history.best
        return best.name if best is not None and best.setting is not None else "the baseline"

    @cached_property
    def tried(self) -> frozenset[str]:
        """The keys of all settings that were run, also of those that failed."""
        rows = self.history.iterations
        return frozenset(setting_key(row.setting) for row in rows if row.setting is not None)

    @cached_property
    def pool_keys(self) -> frozenset[str] | None:
        """The keys of the settings that can be run; None for no limit."""
        return None if self.pool is None else frozenset(map(setting_key, self.pool))

    @cached_property
    def crashes(self) -> Crashes:
        """The passes that crashed."""
        return Crashes(self.history)

    def without_crashed_layers(self, setting: Setting) -> Setting:
        """Return a setting whose passes leave out the layers that one of them crashed in."""
        return self.crashes.without_crashed_layers(setting, self.base)

    def is_new(self, setting: Setting) -> bool:
        """Tell whether a setting can be run, also on the chip, and never was.

        One with a crashed pass cannot be run.
        """
        if unequal_exponents(setting) is not None:
            return False
        key = setting_key(setting, self.situation.options.width)
        if key in self.tried or (self.pool_keys is not None and key not in self.pool_keys):
            return False
        return self.crashes.bars(setting) is None

    def is_clean(self, setting: Setting) -> bool:
        """Tell whether a setting, with its rationale, keeps the composition discipline."""
        if not self.disciplined:
            return True
        return not lint_setting(
            setting, self.history, self.situation.evidence, self.situation.options
        )


@dataclass(frozen=True)
class Proposal:
    """The next setting, with what speaks for it.

    Attributes:
        setting: complete, with the next iteration's id and a rationale that cites.
        pattern: the kind of move, in a word or two.
        expected_gain: what the policy expects over best, positive = better; 0 where it does not
            say.
        citations: ids of the iterations whose data speaks for the move.
        covers: what coverage still owed and this setting covers.
    """

    setting: Setting
    pattern: str
    expected_gain: float = 0.0
    citations: tuple[int, ...] = ()
    covers: tuple[str, ...] = ()


class Policy(ABC):
    """Proposes settings. It keeps no state: all that it knows is in the context.

    A new policy is a subclass in a file of its own and a line in the registry.

    Attributes:
        name: as on the command line.
    """

    name: ClassVar[str]

    @abstractmethod
    def propose(self, context: PolicyContext) -> Proposal | None:
        """Propose a setting that was never run; None where none is left."""
