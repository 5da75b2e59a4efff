"""What a step of the search is decided on: built once per step, everything else follows from it."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from functools import cached_property

from espdl_quantize.core import Priority, Strategy
from espdl_quantize.record import Evidence, History, Iteration
from espdl_quantize.search._advice import find_matching
from espdl_quantize.search._crashes import Crashes
from espdl_quantize.search._decisions import Decision, Proposal, SkippedLever, Stop
from espdl_quantize.search._lint import lint_setting
from espdl_quantize.search._options import SearchOptions
from espdl_quantize.search._ranking import RankBy, ranked, ranked_value
from espdl_quantize.search._seconds import TimeModel
from espdl_quantize.search._sweep import SweepPoint, missing_sweep, sweep_complete_after
from espdl_quantize.search.phase5 import Phase5Signals, gather_signals
from espdl_quantize.search.rules import decide_by_rules, judge_levers, open_exploration
from espdl_quantize.search.swift import decide_swiftly, program_ended_after
from espdl_quantize.search.triggers import Finding
from espdl_quantize.setting import Setting, baseline, setting_key, unequal_exponents


@dataclass(frozen=True)
class SearchState:
    """The iterations so far, their artifacts, and what the caller asks for.

    Attributes:
        history: all iterations, judged by the metric.
        evidence: artifacts by iteration id. Those of best are looked up; once the search is open,
            also those of the earlier bests, to find out when it opened.
        options: nothing is left open in them that the iterations carry.
        pending: ids of iterations in the history that have not ended, see
            :mod:`espdl_quantize.search.beside`.
    """

    history: History
    evidence: Mapping[int, Evidence]
    options: SearchOptions
    pending: frozenset[int] = frozenset()
    _prefixes: dict[int, SearchState] = field(
        default_factory=dict, init=False, repr=False, compare=False
    )

    @classmethod
    def of(
        cls,
        history: History,
        evidence: Mapping[int, Evidence] | None = None,
        options: SearchOptions | None = None,
    ) -> SearchState:
        """Fill what the caller left open from what the iterations carry."""
        options = options or SearchOptions()
        if options.budgets is not None:
            history = replace(history, stated_budgets=options.budgets)
        order = ranked(history, options.rank_by)
        resolved = replace(
            options,
            target=history.target if options.target is None else options.target,
            priority=Priority(options.priority or history.priority),
            strategy=options.strategy or _stated_strategy(history) or options.unstated_strategy,
            num_of_bits=options.num_of_bits or history.num_of_bits,
            rank_by=RankBy.METRIC if order is history else options.rank_by,
        )
        return cls(history, evidence or {}, resolved)

    def upto(self, count: int) -> SearchState:
        """Return the state as it was after the first ``count`` iterations.

        Asked again, also by way of another earlier state, it answers with the same object: what
        was decided on it is decided once.
        """
        prefix = self._prefixes.get(count)
        if prefix is None:
            prefix = replace(self, history=self.history.upto(count))
            object.__setattr__(prefix, "_prefixes", self._prefixes)
            self._prefixes[count] = prefix
        return prefix

    @cached_property
    def by_metric(self) -> SearchState:
        """The same state with the iterations in the order of the metric, which judges best/."""
        if self.options.rank_by is RankBy.METRIC:
            return self
        return replace(self, options=replace(self.options, rank_by=RankBy.METRIC))

    @cached_property
    def ranking(self) -> History:
        """The iterations in the order that the rules go by."""
        return ranked(self.history, self.options.rank_by)

    @property
    def target(self) -> float | None:
        """Return what is to be reached, where the rules go by the metric that it is of."""
        return self.options.target if self.options.rank_by is RankBy.METRIC else None

    @property
    def priority(self) -> Priority:
        """Return the order of the levers."""
        return self.options.priority or Priority.BALANCED

    @property
    def best(self) -> Iteration | None:
        """Return the best iteration in the order that the rules go by."""
        return self.ranking.best

    @property
    def best_value(self) -> float | None:
        """Return what best is ranked by."""
        return None if self.best is None else ranked_value(self.ranking, self.best)

    @property
    def best_evidence(self) -> Evidence:
        """Return the artifacts of best; empty where there is no best or nothing of it is known."""
        return Evidence() if self.best is None else self.evidence.get(self.best.id, Evidence())

    @property
    def has_base(self) -> bool:
        """Return whether there is a best whose setting can be changed."""
        return self.best is not None and self.best.setting is not None

    @cached_property
    def base(self) -> Setting:
        """The setting that the next one changes: best's, the baseline where there is none."""
        if self.best is not None and self.best.setting is not None:
            return self.best.setting
        return baseline(num_of_bits=self.options.width)

    @property
    def base_name(self) -> str:
        """Return the name of the iteration that ``base`` belongs to."""
        return self.best.name if self.best is not None and self.has_base else "the baseline"

    @cached_property
    def crashes(self) -> Crashes:
        """The passes that crashed."""
        return Crashes(self.history)

    @cached_property
    def missing_sweep(self) -> list[SweepPoint]:
        """The points of the calibration sweep that are left to run."""
        return missing_sweep(self.history)

    @cached_property
    def sweep_complete_after(self) -> int | None:
        """How many iterations it took until no point of the sweep was left; None while one is."""
        return sweep_complete_after(self.history)

    @cached_property
    def levers(self) -> tuple[tuple[str, ...], tuple[SkippedLever, ...]]:
        """The untried levers of the linear order: those that apply, and those that do not."""
        return judge_levers(self)

    @cached_property
    def findings(self) -> list[Finding]:
        """The triggers that match best's artifacts, given what was tried."""
        return find_matching(self)

    @cached_property
    def ruling(self) -> Proposal | Stop | None:
        """What the strategy's rules say; None where they leave the search open."""
        return decide_swiftly(self) if self.is_swift else decide_by_rules(self)

    @property
    def is_swift(self) -> bool:
        """Return whether the rules are those of the strategy "swift"."""
        return self.options.strategy is Strategy.SWIFT

    @cached_property
    def opened_after(self) -> int:
        """The last iteration before phase 5 began; -1 if it never did.

        The decisions are replayed on the history as it grew, since nothing about them is stored.
        """
        iterations, start = self.history.iterations, self.sweep_complete_after
        if self.is_swift:
            ended = program_ended_after(self)
            return -1 if ended is None else iterations[ended - 1].id
        if start is None:
            return -1
        for count in range(start, len(iterations) + 1):
            state = self if count == len(iterations) else self.upto(count)
            if state.ruling is None:
                return iterations[count - 1].id
        return -1

    @cached_property
    def signals(self) -> Phase5Signals:
        """What the history offers to build on, whatever the phase."""
        return gather_signals(
            self.ranking, self.best_evidence, self.opened_after, untried_levers=self.levers[0]
        )

    @cached_property
    def decision(self) -> Decision:
        """What comes next."""
        return open_exploration(self) if self.ruling is None else self.ruling

    @cached_property
    def times(self) -> TimeModel:
        """How long iterations take."""
        return TimeModel(self.history)

    @cached_property
    def tried(self) -> frozenset[str]:
        """The keys of all settings that were run, also of those that failed."""
        settings = [
            iteration.setting
            for iteration in self.history.iterations
            if iteration.setting is not None
        ]
        return frozenset(map(setting_key, settings))

    @cached_property
    def _pool_keys(self) -> frozenset[str]:
        return frozenset(map(setting_key, self.options.pool or ()))

    def is_available(self, setting: Setting) -> bool:
        """Tell whether a setting is among those that can be run."""
        return self.options.pool is None or setting_key(setting) in self._pool_keys

    def without_crashed_layers(self, setting: Setting) -> Setting:
        """Return a setting whose passes leave out the layers that one of them crashed in."""
        return self.crashes.without_crashed_layers(setting, self.base)

    def is_new(self, setting: Setting) -> bool:
        """Tell whether a setting can be run, also on the chip, and never was.

        One with a crashed pass cannot be run.
        """
        if unequal_exponents(setting) is not None:
            return False
        key = setting_key(setting, self.options.width)
        if key in self.tried or (self.options.pool is not None and key not in self._pool_keys):
            return False
        return self.crashes.bars(setting) is None

    def is_clean(self, setting: Setting) -> bool:
        """Tell whether a policy may propose a setting, with its rationale."""
        disciplined = self.options.disciplined
        if disciplined is None:
            disciplined = self.ruling is None
        return not disciplined or not lint_setting(setting, self)


def _stated_strategy(history: History) -> Strategy | None:
    """Return the strategy of the latest iteration that states one."""
    stated = (iteration.strategy for iteration in reversed(history.iterations))
    return next((strategy for strategy in stated if strategy is not None), None)


def decide(state: SearchState) -> Decision:
    """Decide the next step.

    A state decides once; asked again, it answers with the same object.
    """
    return state.decision
