"""What may run at once: proposals beside iterations that have not ended.

A proposal names the race that it is in: the points of the calibration sweep, the levers on best,
what the strategy "swift" tries or trains side by side, open exploration. Within a race nothing
waits for the outcome of anything else, and each member still changes one thing in an earlier
iteration; between races it does. The strategy "seed" puts each lever on the best so far, so that
two of its levers at once relax that rule.

The rules see an iteration that has not ended as one that has a setting and no score: its point or
lever is taken, and best stays best. A policy of open exploration, which learns from scores, is
given a score that nobody has measured: the expected one, but never one above best, which stays what
it changes. It then proposes something else ("constant liar": Ginsbourger, Le Riche and Carraro,
Kriging is well-suited to parallelize optimization, 2010).
"""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from dataclasses import replace

from espdl_quantize.core import Direction, Strategy
from espdl_quantize.record import Iteration, Signals
from espdl_quantize.search._decisions import Open, Proposal, Stop
from espdl_quantize.search._state import SearchState, decide
from espdl_quantize.search._sweep import sweep_point
from espdl_quantize.setting import with_calibration

_NEVER = 1_000_000_000
"""A plateau over more iterations than anybody runs: no stop rests on a score that is expected."""


def propose_beside(
    state: SearchState,
    pending: Sequence[Proposal],
    explore: Callable[[SearchState], Proposal | None],
) -> Proposal | None:
    """Return what may run next beside what is running; None where that has to end first.

    None is also the answer where nothing is left to try.

    Args:
        state: of the iterations that have ended.
        pending: what is running; with nothing, this is the one next step of the search.
        explore: proposes where the rules do not, such as the ``propose`` of a policy.
    """
    beside = waiting_for(state, pending)
    decision = decide(beside)
    proposal: Proposal | None
    if isinstance(decision, Proposal) and state.is_available(decision.setting):
        proposal = decision
    else:
        is_over = isinstance(decision, Stop) and bool(pending)
        is_exhausted = isinstance(decision, Open) and decision.is_exhausted
        proposal = None if is_over or is_exhausted else explore(expecting(state, pending))
    return proposal if proposal is not None and may_run_beside(proposal, pending) else None


def may_run_beside(proposal: Proposal, pending: Sequence[Proposal]) -> bool:
    """Tell whether a proposal is in the race of all that is running."""
    return all(proposal.race and proposal.race == other.race for other in pending)


def relaxed_rule(state: SearchState) -> str | None:
    """Say which rule of the strategy "seed" did not hold of iterations that ran at once."""
    if state.options.strategy is not Strategy.SEED:
        return None
    levers = [
        iteration.name
        for iteration in state.history.iterations
        if iteration.beside
        and iteration.setting is not None
        and sweep_point(iteration.setting, state.history) is None
    ]
    if not levers:
        return None
    names = ", ".join(levers[:10]) + (", ..." if len(levers) > 10 else "")
    return (
        f"Run at once: {names} began before others had ended. Relaxed for them: each "
        "change is one of the best so far. It is one of the best of its time"
    )


def waiting_for(state: SearchState, pending: Sequence[Proposal]) -> SearchState:
    """Return the state with what is running as iterations that have no score yet."""
    if not pending:
        return state
    latest = state.history.latest or Iteration(id=-1)
    iterations = [
        Iteration(
            id=each.setting.iteration_id,
            rationale=each.setting.rationale,
            setting=with_calibration(each.setting, state.options.width),
            # What all iterations of a search have in common is taken from the latest.
            metric=latest.metric,
            direction=latest.direction,
            target=latest.target,
            budgets=latest.budgets,
            deploy_runtime_priority=latest.deploy_runtime_priority,
            num_of_bits=latest.num_of_bits,
            strategy=latest.strategy,
        )
        for each in pending
    ]
    return _with(state, pending, iterations)


def expecting(state: SearchState, pending: Sequence[Proposal]) -> SearchState:
    """Return the state with what is running as if it had ended as expected, but not above best."""
    best = state.ranking.best
    if not pending or best is None:
        return waiting_for(state, pending)
    iterations = [
        replace(
            best,
            id=each.setting.iteration_id,
            rationale=each.setting.rationale,
            setting=with_calibration(each.setting, state.options.width),
            value=_expected(state, best, each),
            signals=_no_better(best.signals),
            # Neither its times nor its model are known.
            elapsed_seconds=None,
            device=None,
            reused=(),
        )
        for each in pending
    ]
    thresholds = replace(state.options.thresholds, plateau_window=_NEVER)
    options = replace(state.options, thresholds=thresholds)
    return _with(replace(state, options=options), pending, iterations)


def _with(
    state: SearchState, pending: Sequence[Proposal], iterations: Sequence[Iteration]
) -> SearchState:
    """Add iterations at the end: they come after all that is known, whatever their numbers."""
    history = replace(state.history, iterations=(*state.history.iterations, *iterations))
    ids = frozenset(each.setting.iteration_id for each in pending)
    return replace(state, history=history, pending=ids)


def _no_better(signals: Signals | None) -> Signals | None:
    if signals is None:
        return None
    noise, agreement = signals.noise_signal, signals.agreement
    return replace(
        signals,
        noise_signal=None if noise is None else math.nextafter(noise, math.inf),
        agreement=None if agreement is None else math.nextafter(agreement, -math.inf),
    )


def _expected(state: SearchState, best: Iteration, proposal: Proposal) -> float:
    """Return the expected score, or the next one below best's."""
    assert best.value is not None
    sign = 1.0 if state.history.direction is Direction.MAX else -1.0
    height = math.nextafter(sign * best.value, -math.inf)
    if state.ranking is state.history:
        height = min(height, sign * best.value + proposal.expected_gain)
    return sign * height
