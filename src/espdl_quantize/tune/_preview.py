"""What a search would do next, without doing it."""

from __future__ import annotations

import time
from dataclasses import dataclass
from pathlib import Path

from espdl_quantize.core import NoProgress
from espdl_quantize.record import History, LazyEvidence, read_history
from espdl_quantize.search import TimeEstimate, TimeModel, decide
from espdl_quantize.search.policies import Policy, make_policy
from espdl_quantize.tune._backend import Backend
from espdl_quantize.tune._events import Move, Observer
from espdl_quantize.tune._guard import check_folder
from espdl_quantize.tune._loop import Search
from espdl_quantize.tune._options import TuneOptions
from espdl_quantize.tune._plan import Plan, make_plan


@dataclass(frozen=True)
class Preview:
    """The plan and the first step of a search.

    Attributes:
        history: what is in the folder.
        plan: what is left to do.
        move: the next iteration; None where the search has ended.
        estimate: how long that takes; None where nothing was measured.
        stop: why there is no next iteration; empty where there is one.
        notices: what the search would say about the folder.
    """

    history: History
    plan: Plan
    move: Move | None
    estimate: TimeEstimate | None
    stop: str
    notices: tuple[str, ...]


def preview(
    backend: Backend,
    outputs: Path,
    options: TuneOptions | None = None,
    policy: Policy | None = None,
) -> Preview:
    """Look at the first step of :func:`tune`; nothing is written, not even a lock.

    Raises:
        OutputFolderError: the folder is another search's, or cannot be read.
    """
    options, outputs = options or TuneOptions(), Path(outputs)
    history = read_history(outputs) if outputs.exists() else History((), outputs)
    notices = check_folder(history, backend.facts)
    search = Search(
        backend,
        outputs,
        options,
        policy or make_policy(options.policy),
        Observer(),
        NoProgress(),
        time.monotonic,
    )
    decision = decide(history, LazyEvidence(history), search.options)
    plan = make_plan(history, decision, search.options, options.budget)
    notices += decision.notes
    if decision.stop is not None:
        told = f"{decision.stop.category}: {decision.stop.detail}"
        return Preview(history, plan, None, None, told, tuple(notices))
    move = search.first_move(history, decision)
    if move is None:
        told = "coverage_exhausted: nothing is left to try"
        return Preview(history, plan, None, None, told, tuple(notices))
    estimate = TimeModel(history).estimate(move.setting)
    limit = options.budget.seconds
    if limit is not None and estimate is not None and estimate.seconds > limit:
        told = f"budget_reached: {move.what} takes {estimate}, which is more than the budget"
        return Preview(history, plan, None, estimate, told, tuple(notices))
    return Preview(history, plan, move, estimate, "", tuple(notices))
