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
    Progress,
)
from espdl_quantize.record import History, Iteration, LazyEvidence, locked, read_history
from espdl_quantize.report import RunStop, compare, write_best
from espdl_quantize.search import (
    DEFAULT_THRESHOLDS,
    Decision,
    SearchOptions,
    TimeModel,
    lint_setting,
    searching,
    settle,
    signals_of,
)
from espdl_quantize.search.policies import Policy, PolicyContext, Proposal, make_policy
from espdl_quantize.setting import Setting, canonical, setting_key
from espdl_quantize.tune._backend import AsideBackend, Backend
from espdl_quantize.tune._budget import SearchInterrupt, Spent
from espdl_quantize.tune._events import Move, Observer, Status
from espdl_quantize.tune._final import take_final
from espdl_quantize.tune._guard import check_folder
from espdl_quantize.tune._options import TuneOptions, TuneResult
from espdl_quantize.tune._plan import make_plan
from espdl_quantize.tune._repeat import confirm

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
        observer: told of every step.
        progress: told of the stages of each iteration.
        clock: seconds, for the budget of time.

    Raises:
        OutputFolderError: the folder is another search's, is in use, or cannot be written.
        ContractError: the first iteration failed by a fault of the contract.
        IterationError: no iteration has a score, or the same failure came again and again.
        SearchInterrupt: the user interrupted it.
    """
    options = options or TuneOptions()
    policy = policy or make_policy(options.policy)
    outputs = Path(outputs).absolute()
    with locked(outputs):
        search = Search(
            backend,
            outputs,
            options,
            policy,
            observer or Observer(),
            progress or NoProgress(),
            clock,
        )
        try:
            return search.run()
        except BaseException as error:
            # The error that is on its way matters more than one that hides it.
            with contextlib.suppress(EspdlQuantizeError, OSError):
                search.save_best(read_history(outputs))
            if isinstance(error, KeyboardInterrupt):
                raise SearchInterrupt(search.spent()) from None
            raise


class Search:
    """One call of :func:`tune`."""

    def __init__(
        self,
        backend: Backend,
        outputs: Path,
        options: TuneOptions,
        policy: Policy,
        observer: Observer,
        progress: Progress,
        clock: Callable[[], float],
    ) -> None:
        self._backend, self._outputs, self._options = backend, outputs, options
        self._policy, self._observer, self._progress = policy, observer, progress
        self._clock, self._started = clock, clock()
        self._facts = backend.facts
        thresholds = DEFAULT_THRESHOLDS
        if options.ignore_plateau:
            thresholds = replace(thresholds, plateau_window=_NEVER)
        self.options = SearchOptions(
            self._facts.target,
            self._facts.priority,
            options.budget.is_set,
            thresholds,
            options.search_by,
            self._facts.num_of_bits,
        )
        self._ran = self._counted = self._done = 0
        self._saved: tuple[int, float | None] | None = None
        self._measured = ""
        self._forgiven: set[int] = set()
        self._noted: set[str] = set()

    def run(self) -> TuneResult:
        """Go from step to step until a stop."""
        history = read_history(self._outputs)
        for text in check_folder(history, self._facts):
            self._observer.notice(text)
        again: list[Iteration] | None = None
        # A search that such failures have ended was started again: one more of them ends it.
        self._forgiven = {
            row.id for row in _alike_at_end(history)[: 1 - self._options.same_failures or None]
        }
        while True:
            step = compare(self._outputs, options=self.options)
            history, decision = step.history, step.decision
            self.save_best(history)
            self._note(decision)
            self._plan(history, decision)
            if decision.stop is not None:
                if self._take_final(history):
                    # Once more, so that the reports have it.
                    step = compare(self._outputs, options=self.options)
                return TuneResult(decision.stop.category, decision.stop.detail, self._ran, step)
            if again is None:
                again = _to_try_again(history, decision)
            move = self._again(again, decision)
            if self._is_spent(move):
                return self._finish("budget_reached", history)
            if move is None and _is_illegal_throughout(history, decision):
                raise _none_is_legal(history)
            move = move or self._next(history, decision)
            if move is None:
                return self._finish("coverage_exhausted", history)
            if not self._fits(move, history):
                return self._finish("budget_reached", history)
            self._run(move, history)

    def first_move(self, history: History, decision: Decision) -> Move | None:
        """Return what :meth:`run` would begin with; None where nothing is left."""
        again = _to_try_again(history, decision)
        return self._again(again, decision) or self._next(history, decision)

    def _take_final(self, history: History) -> int:
        count, notice = 0, self._observer.notice
        if self._options.final:
            count += take_final(self._backend, history, self._progress, notice)
        draws = self._options.confirm_draws
        if draws and isinstance(self._backend, AsideBackend):
            seed = self._options.seed
            try:
                told = confirm(self._backend, history, draws, seed, self._progress, notice)
                count += told is not None
            except EspdlQuantizeError as error:
                notice(f"the draws of the calibration data failed: {error}")
        return count

    def spent(self) -> Spent:
        """Return how much of the budget is spent; an iteration that has not ended is not."""
        return Spent(self._options.budget, self._done, self._clock() - self._started)

    def save_best(self, history: History) -> None:
        """Write best/ where it does not hold the best iteration yet."""
        best = history.best
        if best is None or (best.id, best.value) == self._saved:
            return
        write_best(self._outputs, best)
        self._saved = (best.id, best.value)

    def _note(self, decision: Decision) -> None:
        for text in decision.notes:
            if text not in self._noted:
                self._noted.add(text)
                self._observer.notice(text)

    def _next(self, history: History, decision: Decision) -> Move | None:
        setting = decision.setting
        if setting is not None and self._is_available(setting):
            what = decision.lever or ("baseline" if decision.phase == "phase-1-baseline" else "")
            what = what or f"{setting.calib_algorithm} + TQT"
            return Move(setting, decision.phase, what)
        if decision.coverage_exhausted:
            return None
        found = self._propose(history, decision)
        if found is None or self._is_pointless(found, history):
            return None
        return Move(found.setting, decision.phase, found.pattern, found.covers)

    def _propose(self, history: History, decision: Decision) -> Proposal | None:
        situation = searching(settle(history, LazyEvidence(history), self.options))
        is_open = decision.signals is not None
        context = PolicyContext(
            situation,
            decision.signals or signals_of(situation),
            self._options.seed,
            self._seconds_left(),
            self._facts.pool,
            disciplined=is_open,
        )
        found = self._policy.propose(context)
        if found is None:
            return None
        if not context.is_new(found.setting):
            raise AssertionError(f"the policy {self._policy.name!r} proposed a setting again")
        broken = lint_setting(
            found.setting, situation.history, situation.evidence, situation.options
        )
        if broken and is_open:
            raise AssertionError(f"the policy {self._policy.name!r} broke a rule: {broken[0]}")
        return found

    def _is_pointless(self, found: Proposal, history: History) -> bool:
        """Tell whether only variations are left: what is owed cannot be reached from best."""
        if self._options.budget.is_set or found.covers or history.best is None:
            return False
        window = self.options.thresholds.no_new_best_window
        return history.best not in history.iterations[-window:]

    def _is_available(self, setting: Setting) -> bool:
        pool = self._facts.pool
        return pool is None or setting_key(setting) in set(map(setting_key, pool))

    def _again(self, rows: list[Iteration], decision: Decision) -> Move | None:
        while rows:
            row = rows.pop(0)
            if row.setting is not None:
                return Move(
                    row.setting.model_copy(update={"iteration_id": row.id}),
                    decision.phase,
                    f"{row.name} once more, which failed",
                    is_repetition=True,
                )
        return None

    def _run(self, move: Move, history: History) -> None:
        self._ran += 1
        self._counted += not move.is_repetition
        estimate = TimeModel(history).estimate(move.setting)
        budget = self._options.budget
        self._observer.iteration_started(
            Status(move, self._counted, budget, history, estimate, self._seconds_left())
        )
        number = move.setting.iteration_id
        failure: EspdlQuantizeError | None = None
        try:
            folder = self._outputs.resolve() / f"iter_{number}"
            self._backend.run(move.setting, folder, self._progress)
        except EspdlQuantizeError as error:
            failure = error
        now = read_history(self._outputs)
        row = now.get(number)
        if failure is not None and (row is None or row.failure is None):
            raise failure
        if isinstance(failure, ContractError):
            # No other setting can do better, and the contract's own words say what to fix.
            raise failure
        if row is None:
            told = (warning.text for warning in now.warnings if warning.iteration_id == number)
            raise IterationError(
                f"iter_{number} ran, but cannot be used: {next(told, 'it is not there')}",
                Hint("see ", Command.COMPARE, " for what is wrong with it"),
            )
        # See BUDGET_RULE.
        self._done += not move.is_repetition
        self._observer.iteration_ended(row, now)
        for warning in row.warnings:
            if warning.startswith(FEW) and warning not in self._noted:
                self._noted.add(warning)
                self._observer.notice(warning)
        self._watch_failures(row, now)

    def _watch_failures(self, row: Iteration, history: History) -> None:
        self._forgiven.discard(row.id)
        if row.failure is None:
            return
        alike = [other for other in _alike_at_end(history) if other.id not in self._forgiven]
        if row in alike and len(alike) >= self._options.same_failures:
            names = " and ".join(failed.name for failed in alike[-2:])
            raise IterationError(
                f"{names} failed alike: {row.failure.stage}: {row.failure.cause}",
                row.failure.hint or f"{row.name}/console.log has the whole trace",
            )

    def _finish(self, stop: RunStop, history: History) -> TuneResult:
        if history.best is None:
            last = history.failed[-1].failure if history.failed else None
            told = f"; the last failure: {last}" if last is not None else ""
            raise IterationError(f"no iteration has a score{told}", "fix it and run again")
        self._take_final(history)
        step = compare(self._outputs, run_stop=stop, options=self.options)
        reason = step.comparison.next_step_hint.finalize_reason
        if reason is None:
            raise IterationError("the search was not finalized", "run compare --finalize")
        return TuneResult(reason.category, reason.detail, self._ran, step)

    def _plan(self, history: History, decision: Decision) -> None:
        plan = make_plan(history, decision, self.options, self._options.budget)
        if plan.measured != self._measured and decision.stop is None:
            self._measured = plan.measured
            self._observer.planned(plan)

    def _is_spent(self, move: Move | None) -> bool:
        """Tell whether the budget has no room for one more; see BUDGET_RULE."""
        budget, left = self._options.budget, self._seconds_left()
        if left is not None and left <= 0:
            return True
        if move is not None and move.is_repetition:
            return False
        return budget.iterations is not None and self._counted >= budget.iterations

    def _fits(self, move: Move, history: History) -> bool:
        left, estimate = self._seconds_left(), TimeModel(history).estimate(move.setting)
        if left is None or estimate is None or estimate.seconds <= left:
            return True
        self._observer.notice(
            f"the next iteration ({move.what}) takes {estimate}, which is more than is left"
        )
        return False

    def _seconds_left(self) -> float | None:
        seconds = self._options.budget.seconds
        return None if seconds is None else seconds - (self._clock() - self._started)


def _to_try_again(history: History, decision: Decision) -> list[Iteration]:
    """While nothing has a score, what failed before is tried again: its cause may be repaired.

    What failed by its setting waits until the sweep has nothing else: by then only another contract
    can help. What failed in a pass that a setting can do without is not tried again: the cause is
    esp-ppq's, and each trial takes a training.
    """
    if history.scored:
        return []
    all_of = _is_illegal_throughout(history, decision)
    rows = [row for row in history.failed if row.setting and row.failure]
    rows = [row for row in rows if not _is_in_optional_pass(row)]
    return [row for row in rows if all_of or not (row.failure and row.failure.is_of_setting)]


def _is_in_optional_pass(row: Iteration) -> bool:
    """Tell whether an iteration crashed in a pass other than calibration that it had turned on."""
    where = row.failure.failed_pass if row.failure is not None else None
    if where is None or row.setting is None:
        return False
    return where.field != "calib_algorithm" and where.field in canonical(row.setting)


def _alike_at_end(history: History) -> list[Iteration]:
    """Return the last iterations in a row that failed alike; none where the last one went well.

    An iteration that was repeated in its folder counts once. What is not legal on the chip counts
    for nothing, and so does a crashed pass once there is a score: the search goes on without it.
    """
    alike: list[Iteration] = []
    for row in history.iterations:
        if row.failure is None:
            alike = []
        elif not row.failure.is_of_setting and not (history.scored and _is_in_optional_pass(row)):
            kind = row.failure.kind
            alike = [other for other in alike if other.failure and other.failure.kind == kind]
            alike.append(row)
    return alike


def _is_illegal_throughout(history: History, decision: Decision) -> bool:
    """Tell whether the sweep is over without a score, and a chip's rules had a part in that."""
    if history.scored or decision.phase in ("phase-1-baseline", "phase-2-calib-tqt-sweep"):
        return False
    return any(row.failure and row.failure.is_of_setting for row in history.failed)


def _none_is_legal(history: History) -> IterationError:
    rows = [row for row in history.failed if row.failure and row.failure.is_of_setting]
    last = rows[-1].failure
    return IterationError(
        f"no calibration makes a model that the chip can run: {len(rows)} were illegal, the last "
        f"one by {last.cause if last else ''}",
        "see that the calibration images are preprocessed as those that evaluate() scores, in the "
        "same range; then run the same command again",
    )
