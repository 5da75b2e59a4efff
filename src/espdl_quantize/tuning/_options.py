"""How a search runs, and how it ended."""

from __future__ import annotations

from dataclasses import KW_ONLY, dataclass, field

from espdl_quantize.core import Strategy
from espdl_quantize.record import History
from espdl_quantize.report import CompareResult
from espdl_quantize.search import RankBy
from espdl_quantize.tuning._budget import Budget


@dataclass(frozen=True)
class TuneOptions:
    """How a search runs.

    Attributes:
        budget: the user's ceiling.
        policy: the name of the policy of open exploration.
        seed: of the policy.
        ignore_plateau: go on where the metric has stopped moving.
        same_failures: so many failures in a row with the same cause end the search. Models that
            are illegal on the chip do not count, nor do crashes of a pass that the search can go on
            without.
        confirm_draws: so many draws of the calibration data for best and its nearest rival once the
            search is over; 0 for none.
        strategy: whose rules decide the next step; None for that of the folder's iterations, and
            "swift" where they name none.
        rank_by: what the rules rank by; best/ and the target are judged by the metric.
        final: score best and the baseline on the data of the final score once the search is over.
    """

    budget: Budget = field(default_factory=Budget)
    _: KW_ONLY
    policy: str = "evidence"
    seed: int = 0
    ignore_plateau: bool = False
    same_failures: int = 2
    final: bool = True
    strategy: Strategy | None = None
    rank_by: RankBy = RankBy.METRIC
    confirm_draws: int = 0

    def __post_init__(self) -> None:
        if self.strategy is not None:
            object.__setattr__(self, "strategy", Strategy(self.strategy))


@dataclass(frozen=True)
class TuneResult:
    """How a search ended.

    Attributes:
        category: as in the final report.
        detail: the numbers behind it.
        iterations_run: by this call.
        comparison: the last comparison, which wrote best/ and the report.
    """

    category: str
    detail: str
    iterations_run: int
    comparison: CompareResult

    @property
    def history(self) -> History:
        """All iterations of the folder."""
        return self.comparison.history
