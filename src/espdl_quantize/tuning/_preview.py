"""What a search would do next, without doing it."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

from espdl_quantize.record import History, LazyEvidence, read_history
from espdl_quantize.search import Proposal, SearchState, Stop, TimeEstimate, decide
from espdl_quantize.search.policies import Policy, make_policy
from espdl_quantize.tuning._backend import Backend
from espdl_quantize.tuning._guard import check_folder
from espdl_quantize.tuning._loop import Search
from espdl_quantize.tuning._options import TuneOptions
from espdl_quantize.tuning._plan import Plan, make_plan


@dataclass(frozen=True)
class Preview:
    """The plan and the first step of a search.

    Attributes:
        history: what is in the folder.
        plan: what is left to do.
        proposal: the next iteration; None where the search has ended.
        estimate: how long that takes; None where nothing was measured.
        stop: why there is no next iteration; empty where there is one.
        notices: what the search would say about the folder.
    """

    history: History
    plan: Plan
    proposal: Proposal | None
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
    search = Search(backend, outputs, options, policy or make_policy(options.policy))
    state = SearchState.of(history, LazyEvidence(history), search.options())
    decision, plan = decide(state), make_plan(state, options.budget)
    notices += decision.notes
    if isinstance(decision, Stop):
        stop = f"{decision.category}: {decision.detail}"
        return Preview(history, plan, None, None, stop, tuple(notices))
    proposal = search.first_proposal(state)
    if proposal is None:
        stop = "coverage_exhausted: nothing is left to try"
        return Preview(history, plan, None, None, stop, tuple(notices))
    estimate = state.times.estimate(proposal.setting)
    limit = options.budget.seconds
    if limit is not None and estimate is not None and estimate.seconds > limit:
        stop = f"budget_reached: {proposal.pattern} takes {estimate}, which is more than the budget"
        return Preview(history, plan, None, estimate, stop, tuple(notices))
    return Preview(history, plan, proposal, estimate, "", tuple(notices))
