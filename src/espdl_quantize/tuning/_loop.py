"""The search by itself: ask, run, compare, until a reason to stop."""

from __future__ import annotations

import contextlib
import time
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

from espdl_quantize.contract import FEW
from espdl_quantize.core import (
    Command,
    ContractError,
    EspdlQuantizeError,
    Hint,
    IterationError,
    NoProgress,
    Phase,
    Progress,
)
from espdl_quantize.record import History, Iteration, locked, read_history
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
)
from espdl_quantize.search.policies import Policy, make_policy
from espdl_quantize.setting import canonical
from espdl_quantize.tuning._backend import AuxiliaryBackend, Backend
from espdl_quantize.tuning._budget import SearchInterrupt, Spent
from espdl_quantize.tuning._events import Observer, Status
from espdl_quantize.tuning._final import take_final
from espdl_quantize.tuning._guard import check_folder
from espdl_quantize.tuning._options import TuneOptions, TuneResult
from espdl_quantize.tuning._plan import make_plan
from espdl_quantize.tuning._repeat import confirm
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
        """Go from step to step until a stop."""
        history = self.history()
        for text in check_folder(history, self._facts):
            self._observer.notice(text)
        if lacks_costs(history):
            # Of a version before costs, or ended in between.
            for text in keep_costs_apart(self._outputs):
                self._observer.notice(text)
        failed: list[Iteration] | None = None
        # A search that such failures have ended was started again: one more of them ends it.
        self._forgiven = {
            iteration.id
            for iteration in _alike_at_end(history)[: 1 - self._options.same_failures or None]
        }
        while True:
            step = self._compare()
            state, decision = step.state, step.decision
            self.save_best(state.history)
            self._note(decision)
            self._plan(state)
            if isinstance(decision, Stop):
                if self._take_final(state.history):
                    # Once more, so that the reports have it.
                    step = self._compare()
                return TuneResult(decision.category, decision.detail, self._ran, step)
            if failed is None:
                failed = _to_try_again(state)
            proposal = _repetition(failed, decision)
            if self._is_spent(proposal):
                return self._finish("budget_reached", state.history)
            if proposal is None and _is_illegal_throughout(state):
                raise _none_is_legal(state.history)
            proposal = proposal or self._next(state)
            if proposal is None:
                return self._finish("coverage_exhausted", state.history)
            if not self._fits(proposal, state):
                return self._finish("budget_reached", state.history)
            self._run(proposal, state)

    def first_proposal(self, state: SearchState) -> Proposal | None:
        """Return what :meth:`run` would begin with; None where nothing is left."""
        return _repetition(_to_try_again(state), decide(state)) or self._next(state)

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

    def _next(self, state: SearchState) -> Proposal | None:
        """Return what the rules propose, and where they cannot, what the policy does."""
        decision = decide(state)
        if isinstance(decision, Proposal) and state.is_available(decision.setting):
            return decision
        if isinstance(decision, Open) and decision.is_exhausted:
            return None
        proposal = self._propose(state)
        if proposal is None or self._is_pointless(proposal, state):
            return None
        return proposal

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

    def _run(self, proposal: Proposal, state: SearchState) -> None:
        self._ran += 1
        self._counted += not proposal.is_repetition
        estimate, budget = state.times.estimate(proposal.setting), self._options.budget
        left = self._seconds_left()
        self._observer.iteration_started(
            Status(proposal, self._counted, budget, state.history, estimate, left)
        )
        number = proposal.setting.iteration_id
        failure: EspdlQuantizeError | None = None
        try:
            folder = self._outputs.resolve() / f"iter_{number}"
            changed = {"strategy": state.options.strategy, "analyse": not proposal.is_lean}
            self._backend.run(proposal.setting, folder, self._progress, **changed)
        except EspdlQuantizeError as error:
            failure = error
        history = self.history()
        iteration = history.get(number)
        if failure is not None and (iteration is None or iteration.failure is None):
            raise failure
        if failure is not None and _is_for_good(failure, iteration):
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
        alike = [other for other in _alike_at_end(history) if other.id not in self._forgiven]
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
        self._observer.notice(
            f"the next iteration ({proposal.pattern}) takes {estimate}, which is more than is left"
        )
        return False

    def _seconds_left(self) -> float | None:
        seconds = self._options.budget.seconds
        return None if seconds is None else seconds - (self._clock() - self._started)


def _differ_much(pace: float | None, before: float | None) -> bool:
    return bool(pace and before and not 1 / _MUCH <= pace / before <= _MUCH)


def _is_for_good(failure: EspdlQuantizeError, iteration: Iteration | None) -> bool:
    """Tell whether every setting fails like this."""
    recorded = None if iteration is None else iteration.failure
    return isinstance(failure, ContractError) or (recorded is not None and recorded.is_of_contract)


def _repetition(failed: list[Iteration], decision: Decision) -> Proposal | None:
    """Take the next failed iteration to run again, in its own folder."""
    while failed:
        iteration = failed.pop(0)
        if iteration.setting is not None:
            return Proposal(
                setting=iteration.setting.model_copy(update={"iteration_id": iteration.id}),
                phase=decision.phase,
                pattern=f"{iteration.name} once more, which failed",
                is_repetition=True,
            )
    return None


def _to_try_again(state: SearchState) -> list[Iteration]:
    """While nothing has a score, what failed before is tried again: its cause may be repaired.

    What failed by its setting waits until the sweep has nothing else: by then only another contract
    can help. What failed in a pass that a setting can do without is not tried again: the cause is
    esp-ppq's, and each trial takes a training.
    """
    if state.history.scored:
        return []
    is_illegal = _is_illegal_throughout(state)
    return [
        iteration
        for iteration in state.history.failed
        if iteration.setting is not None
        and iteration.failure is not None
        and not _is_in_optional_pass(iteration)
        and (is_illegal or not iteration.failure.is_of_setting)
    ]


def _is_in_optional_pass(iteration: Iteration) -> bool:
    """Tell whether an iteration crashed in a pass other than calibration that it had turned on."""
    where = iteration.failure.failed_pass if iteration.failure is not None else None
    if where is None or iteration.setting is None:
        return False
    return where.field != "calib_algorithm" and where.field in canonical(iteration.setting)


def _alike_at_end(history: History) -> list[Iteration]:
    """Return the last iterations on end that failed alike; none where the last went well.

    An iteration that was repeated in its folder counts once. What is not legal on the chip counts
    for nothing, and so does a crashed pass once there is a score: the search goes on without it.
    """
    alike: list[Iteration] = []
    for iteration in history.iterations:
        if iteration.failure is None:
            alike = []
        elif not iteration.failure.is_of_setting and not (
            history.scored and _is_in_optional_pass(iteration)
        ):
            kind = iteration.failure.kind
            alike = [other for other in alike if other.failure and other.failure.kind == kind]
            alike.append(iteration)
    return alike


def _is_illegal_throughout(state: SearchState) -> bool:
    """Tell whether the sweep is over without a score, and a chip's rules had a part in that."""
    history = state.history
    if history.scored or decide(state).phase in (Phase.BASELINE, Phase.SWEEP):
        return False
    return any(failed.failure and failed.failure.is_of_setting for failed in history.failed)


def _none_is_legal(history: History) -> IterationError:
    illegal = [item for item in history.failed if item.failure and item.failure.is_of_setting]
    last = illegal[-1].failure
    return IterationError(
        f"no calibration makes a model that the chip can run: {len(illegal)} were illegal, the "
        f"last one by {last.cause if last else ''}",
        "see that the calibration images are preprocessed as those that evaluate() scores, in the "
        "same range; then run the same command again",
    )
