"""What a caller of the search may set."""

from __future__ import annotations

from dataclasses import dataclass

from espdl_quantize.core import Priority, Strategy
from espdl_quantize.record import Budgets
from espdl_quantize.search._ranking import RankBy
from espdl_quantize.search._thresholds import DEFAULT_THRESHOLDS, Thresholds
from espdl_quantize.setting import DEFAULT_BITS, Setting

DEFAULT_STRATEGY = Strategy.SEED
"""Of a search that a person or an agent runs step by step: the playbook's."""


@dataclass(frozen=True, kw_only=True)
class SearchOptions:
    """What a caller may set; None takes what the iterations carry from the contract.

    Attributes:
        target: the value of the primary metric to reach.
        priority: the order of the levers.
        user_budget: the user has set a number of iterations or a time, so that running out of
            ideas is no reason to stop.
        thresholds: limits of the rules.
        rank_by: what the rules rank by; the metric is the judge of the target and of best/.
        budgets: what the model may cost on the chip and lose to the float model.
        num_of_bits: the contract's default width, by which the baseline differs. It stays None
            where neither the caller nor an iteration says.
        strategy: whose rules decide the next step; None for that of the iterations.
        unstated_strategy: taken where neither the caller nor an iteration says.
        seed: of whatever a policy draws.
        seconds_left: what is left of a budget of time.
        pool: the only settings that can be run; None for no limit.
        disciplined: a policy proposes only what keeps the composition discipline; None for where
            the search is open.
    """

    target: float | None = None
    priority: Priority | None = None
    user_budget: bool = False
    thresholds: Thresholds = DEFAULT_THRESHOLDS
    rank_by: RankBy = RankBy.METRIC
    budgets: Budgets | None = None
    num_of_bits: int | None = None
    strategy: Strategy | None = None
    unstated_strategy: Strategy = DEFAULT_STRATEGY
    seed: int = 0
    seconds_left: float | None = None
    pool: tuple[Setting, ...] | None = None
    disciplined: bool | None = None

    def __post_init__(self) -> None:
        if self.strategy is not None:
            object.__setattr__(self, "strategy", Strategy(self.strategy))

    @property
    def width(self) -> int:
        """Return the contract's default width, 8 where nothing says what it is."""
        return self.num_of_bits or DEFAULT_BITS
