"""The search by itself: ask, run, compare, until a reason to stop.

A backend that runs one iteration at a time is asked for one after another; one that runs several is
kept busy with as many as may run at once, and the search decides anew whenever one of them ends.
"""

from __future__ import annotations

import contextlib
import time
from collections.abc import Callable, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

from espdl_quantize.contract import FEW
from espdl_quantize.core import (
    Command,
    EspdlQuantizeError,
    Hint,
    IterationError,
    NoProgress,
    Progress,
    Strategy,
)
from espdl_quantize.record import History, Iteration, iteration_folder, locked, read_history
from espdl_quantize.report import CompareResult, RunStop, compare, write_best, write_front
from espdl_quantize.search import (
    DEFAULT_THRESHOLDS,
    Decision,
    Open,
    Proposal,
    SearchOptions,
    SearchState,
    Stop,
    decide,
    lint_setting,
    propose_beside,
)
from espdl_quantize.search.policies import Policy, make_policy
from espdl_quantize.tuning._backend import AuxiliaryBackend, Backend, parallel
from espdl_quantize.tuning._budget import SearchInterrupt, Spent
from espdl_quantize.tuning._events import Observer, Status
from espdl_quantize.tuning._final import take_final
from espdl_quantize.tuning._guard import check_folder
from espdl_quantize.tuning._options import TuneOptions, TuneResult
from espdl_quantize.tuning._plan import make_plan
from espdl_quantize.tuning._repeat import confirm
from espdl_quantize.tuning.failures import (
    alike_at_end,
    is_for_good,
    is_illegal_throughout,
    none_is_legal,
    repetition,
    to_try_again,
)
from espdl_quantize.tuning.live import Live
from espdl_quantize.worker.costs import keep_costs_apart, lacks_costs

_MUCH = 1.5
"""By which factor the time of an iteration has to change for the plan to be printed anew."""
_NEVER = 1_000_000_000
"""A plateau over more iterations than anybody runs."""


def tune(
    backend: Backend,
    outputs: Path,
    options: TuneOptions | None = None,
    *,
    policy: Policy | None = None,
    observer: Observer | None = None,
    progress: Progress | None = None,
    clock: Callable[[], float] = time.monotonic,
) -> TuneResult:
    """Search to a stop; best/ holds the best model so far at any time, however the search ends.

    The folder is the only state: a search that was interrupted goes on where it stopped.

    Args:
        backend: runs the iterations.
        outputs: the output folder; held against other processes for the whole search.
        options: how to search.
        policy: takes the place of the one that ``options`` names.
        observer: called at every step.
        progress: receives the stages of each iteration.
        clock: seconds, for the budget of time.

    Raises:
        OutputFolderError: the folder is another search's, is in use, or cannot be written.
        EspdlQuantizeError: an iteration failed by what no setting can change: the contract, its
            model, its data or its evaluation.
        IterationError: no iteration has a score, or the same failure came again and again.
        SearchInterrupt: the user interrupted it.
    """
    options = options or TuneOptions()
    policy = policy or make_policy(options.policy)
    outputs = Path(outputs).absolute()
    with locked(outputs):
        live = Live(outputs, progress or NoProgress(), observer or Observer())
        search = Search(
            backend, outputs, options, policy, observer=live, progress=live, clock=clock
        )
        try:
            return search.run()
        except BaseException as error:
            # The error that is on its way matters more than one that hides it.
            with contextlib.suppress(EspdlQuantizeError, OSError):
                search.save_best(search.history())
            if isinstance(error, KeyboardInterrupt):
                raise SearchInterrupt(search.spent()) from None
            raise
        finally:
            live.ended()


class Search:
    """One call of :func:`tune`."""

    def __init__(
        self,
        backend: Backend,
        outputs: Path,
        options: TuneOptions,
        policy: Policy,
        *,
        observer: Observer | None = None,
        progress: Progress | None = None,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        self._backend, self._outputs, self._options = backend, outputs, options
        self._team = parallel(backend)
        self._pending: dict[int, Proposal] = {}
        self._failed: list[Iteration] | None = None
        self._policy = policy
        self._observer, self._progress = observer or Observer(), progress or NoProgress()
        self._clock, self._started = clock, clock()
        self._facts = backend.facts
        self._ran = self._counted = self._done = 0
        self._saved: tuple[float | None, ...] | None = None
        self._measured = ""
        self._pace: float | None = None
        self._forgiven: set[int] = set()
        self._noted: set[str] = set()

    def options(self) -> SearchOptions:
        """Return what a step is decided by; the time that is left falls from step to step."""
        thresholds = DEFAULT_THRESHOLDS
        if self._options.ignore_plateau:
            thresholds = replace(thresholds, plateau_window=_NEVER)
        return SearchOptions(
            target=self._facts.target,
            priority=self._facts.priority,
            user_budget=self._options.budget.is_set,
            thresholds=thresholds,
            rank_by=self._options.rank_by,
            strategy=self._options.strategy,
            unstated_strategy=self._facts.strategy or Strategy.SWIFT,
            num_of_bits=self._facts.num_of_bits,
            budgets=self._facts.budgets,
            seed=self._options.seed,
            seconds_left=self._seconds_left(),
            pool=self._facts.pool,
        )

    def history(self) -> History:
        """Read the folder, under the budgets of the contract as it is now."""
        return replace(read_history(self._outputs), stated_budgets=self._facts.budgets)

    def run(self) -> TuneResult:
        """Go from step to step until a stop; nothing is left running."""
        try:
            return self._search()
        finally:
            self._cancel()

    def _search(self) -> TuneResult:
        history = self.history()
        for text in check_folder(history, self._facts):
            self._observer.notice(text)
        if lacks_costs(history):
            # Of a version before costs, or ended in between.
            for text in keep_costs_apart(self._outputs):
                self._observer.notice(text)
        # A search that such failures have ended was started again: one more of them ends it.
        self._forgiven = {
            iteration.id
            for iteration in alike_at_end(history)[: 1 - self._options.same_failures or None]
        }
        while True:
            step = self._compare()
            state, decision = step.state, step.decision
            self.save_best(state.history)
            self._note(decision)
            self._plan(state)
            if isinstance(decision, Stop):
                if decision.category == "target_reached":
                    # Whatever the others would come to.
                    self._cancel()
                if not self._pending:
                    if self._take_final(state.history):
                        # Once more, so that the reports have it.
                        step = self._compare()
                    return TuneResult(decision.category, decision.detail, self._ran, step)
            else:
                reason = self._start_more(state, decision)
                if not self._pending:
                    return self._finish(reason, state.history)
            self._take_one()

    def _start_more(self, state: SearchState, decision: Decision) -> RunStop:
        """Start what may run beside what is running; say why nothing more is started."""
        if self._failed is None:
            self._failed = to_try_again(state)
        reason: RunStop = "coverage_exhausted"
        while len(self._pending) < self._team.slots:
            pending = tuple(self._pending.values())
            # What failed before is tried again by itself: its cause may concern all others.
            proposal = None if pending else repetition(self._failed, decision)
            if self._is_spent(proposal):
                return "budget_reached"
            if proposal is None and not pending and is_illegal_throughout(state):
                raise none_is_legal(state.history)
            proposal = proposal or self._next(state, pending)
            if proposal is None:
                return reason
            if not self._fits(proposal, state):
                return "budget_reached"
            self._start(proposal, state)
        return reason

    def first_proposal(self, state: SearchState) -> Proposal | None:
        """Return what :meth:`run` would begin with; None where nothing is left."""
        return repetition(to_try_again(state), decide(state)) or self._next(state)

    def _compare(self, run_stop: RunStop | None = None) -> CompareResult:
        return compare(self._outputs, run_stop=run_stop, page=True, options=self.options())

    def _take_final(self, history: History) -> int:
        count, notice = 0, self._observer.notice
        if self._options.final:
            count += take_final(self._backend, history, self._progress, notice)
        draws = self._options.confirm_draws
        if draws and isinstance(self._backend, AuxiliaryBackend):
            seed = self._options.seed
            try:
                draws_of_both = confirm(self._backend, history, draws, seed, self._progress, notice)
                count += draws_of_both is not None
            except EspdlQuantizeError as error:
                notice(f"the draws of the calibration data failed: {error}")
        return count

    def spent(self) -> Spent:
        """Return how much of the budget is spent; an iteration that has not ended is not."""
        return Spent(self._options.budget, self._done, self._clock() - self._started)

    def save_best(self, history: History) -> None:
        """Write best/ and front/ where they do not hold what they should yet."""
        best, front = history.best, history.front
        if best is None:
            return
        state = (best.id, best.value, *(record.id for record in front))
        if state == self._saved:
            return
        write_best(self._outputs, best)
        write_front(self._outputs, [record for record in front if record is not best])
        self._saved = state

    def _note(self, decision: Decision) -> None:
        for text in decision.notes:
            if text not in self._noted:
                self._noted.add(text)
                self._observer.notice(text)

    def _next(self, state: SearchState, pending: Sequence[Proposal] = ()) -> Proposal | None:
        """Return what the rules propose, and where they cannot, what the policy does."""

        def explore(beside: SearchState) -> Proposal | None:
            proposal = self._propose(beside)
            if proposal is None or self._is_pointless(proposal, state):
                return None
            return proposal

        return propose_beside(state, pending, explore)

    def _propose(self, state: SearchState) -> Proposal | None:
        proposal = self._policy.propose(state)
        if proposal is None:
            return None
        if not state.is_new(proposal.setting):
            raise AssertionError(f"the policy {self._policy.name!r} proposed a setting again")
        broken = lint_setting(proposal.setting, state)
        if broken and isinstance(decide(state), Open):
            raise AssertionError(f"the policy {self._policy.name!r} broke a rule: {broken[0]}")
        return proposal

    def _is_pointless(self, proposal: Proposal, state: SearchState) -> bool:
        """Tell whether only variations are left: what is owed cannot be reached from best."""
        history = state.history
        if state.options.user_budget or proposal.covers or history.best is None:
            return False
        window = state.options.thresholds.no_new_best_window
        return history.best not in history.iterations[-window:]

    def _start(self, proposal: Proposal, state: SearchState) -> None:
        self._ran += 1
        self._counted += not proposal.is_repetition
        estimate, budget = state.times.estimate(proposal.setting), self._options.budget
        left = self._seconds_left()
        self._observer.iteration_started(
            Status(proposal, self._counted, budget, state.history, estimate, left)
        )
        number = proposal.setting.iteration_id
        changed: dict[str, Any] = {
            "strategy": state.options.strategy,
            "analyse": not proposal.is_lean,
            "analysed": state.options.thresholds.swift_analysed if state.is_swift else None,
        }
        if self._pending:
            changed["beside"] = tuple(sorted(self._pending))
        self._pending[number] = proposal
        folder = iteration_folder(self._outputs.resolve(), number)
        self._team.start(proposal.setting, folder, **changed)

    def _cancel(self) -> None:
        """Give up what is running; the search proposes it again where it is needed."""
        if self._pending:
            self._team.cancel()
            self._ran -= len(self._pending)
            self._counted -= sum(not each.is_repetition for each in self._pending.values())
            self._pending.clear()

    def _take_one(self) -> None:
        """Wait for the end of an iteration, and see what came of it."""
        number, failure = self._team.wait(self._progress, self._observer.notice)
        proposal = self._pending.pop(number)
        history = self.history()
        iteration = history.get(number)
        if failure is not None and (iteration is None or iteration.failure is None):
            raise failure
        if failure is not None and is_for_good(failure, iteration):
            # No other setting can do better, and its own words say what to fix.
            raise failure
        if iteration is None:
            warnings = (item.text for item in history.warnings if item.iteration_id == number)
            raise IterationError(
                f"iter_{number} ran, but cannot be used: {next(warnings, 'it is not there')}",
                Hint("see ", Command.COMPARE, " for what is wrong with it"),
            )
        # See BUDGET_RULE.
        self._done += not proposal.is_repetition
        self._observer.iteration_ended(iteration, history)
        for warning in iteration.warnings:
            if warning.startswith(FEW) and warning not in self._noted:
                self._noted.add(warning)
                self._observer.notice(warning)
        self._watch_failures(iteration, history)

    def _watch_failures(self, iteration: Iteration, history: History) -> None:
        self._forgiven.discard(iteration.id)
        failure = iteration.failure
        if failure is None:
            return
        alike = [other for other in alike_at_end(history) if other.id not in self._forgiven]
        if iteration in alike and len(alike) >= self._options.same_failures:
            names = " and ".join(failed.name for failed in alike[-2:])
            raise IterationError(
                f"{names} failed alike: {failure.stage}: {failure.cause}",
                failure.hint or f"{iteration.name}/console.log has the whole trace",
            )

    def _finish(self, stop: RunStop, history: History) -> TuneResult:
        if history.best is None:
            failure = history.failed[-1].failure if history.failed else None
            last = f"; the last failure: {failure}" if failure is not None else ""
            raise IterationError(f"no iteration has a score{last}", "fix it and run again")
        self._take_final(history)
        step = self._compare(stop)
        reason = step.plan.reason
        assert reason is not None
        return TuneResult(reason.category, reason.detail, self._ran, step)

    def _plan(self, state: SearchState) -> None:
        plan = make_plan(state, self._options.budget)
        if isinstance(decide(state), Stop):
            return
        pace = None if plan.per_iteration is None else plan.per_iteration.seconds
        if plan.measured != self._measured or _differ_much(pace, self._pace):
            self._measured, self._pace = plan.measured, pace
            self._observer.planned(plan)

    def _is_spent(self, proposal: Proposal | None) -> bool:
        """Tell whether the budget has no room for one more; see BUDGET_RULE."""
        budget, left = self._options.budget, self._seconds_left()
        if left is not None and left <= 0:
            return True
        if proposal is not None and proposal.is_repetition:
            return False
        return budget.iterations is not None and self._counted >= budget.iterations

    def _fits(self, proposal: Proposal, state: SearchState) -> bool:
        left, estimate = self._seconds_left(), state.times.estimate(proposal.setting)
        if left is None or estimate is None or estimate.seconds <= left:
            return True
        text = f"the next iteration ({proposal.pattern}) takes {estimate}, more than is left"
        if text not in self._noted:
            self._noted.add(text)
            self._observer.notice(text)
        return False

    def _seconds_left(self) -> float | None:
        seconds = self._options.budget.seconds
        return None if seconds is None else seconds - (self._clock() - self._started)


def _differ_much(pace: float | None, before: float | None) -> bool:
    return bool(pace and before and not 1 / _MUCH <= pace / before <= _MUCH)
