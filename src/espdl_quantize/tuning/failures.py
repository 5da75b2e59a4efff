"""What failures mean for a search: what is tried again, and what ends it."""

from __future__ import annotations

from espdl_quantize.core import ContractError, EspdlQuantizeError, IterationError, Phase
from espdl_quantize.record import History, Iteration
from espdl_quantize.search import Decision, Proposal, SearchState, decide
from espdl_quantize.setting import canonical


def is_for_good(failure: EspdlQuantizeError, iteration: Iteration | None) -> bool:
    """Tell whether every setting fails like this."""
    recorded = None if iteration is None else iteration.failure
    return isinstance(failure, ContractError) or (recorded is not None and recorded.is_of_contract)


def repetition(failed: list[Iteration], decision: Decision) -> Proposal | None:
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


def to_try_again(state: SearchState) -> list[Iteration]:
    """While nothing has a score, what failed before is tried again: its cause may be repaired.

    What failed by its setting waits until the sweep has nothing else: by then only another contract
    can help. What failed in a pass that a setting can do without is not tried again: the cause is
    esp-ppq's, and each trial takes a training.
    """
    if state.history.scored:
        return []
    is_illegal = is_illegal_throughout(state)
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


def alike_at_end(history: History) -> list[Iteration]:
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


def is_illegal_throughout(state: SearchState) -> bool:
    """Tell whether the sweep is over without a score, and a chip's rules had a part in that."""
    history = state.history
    if history.scored or decide(state).phase in (Phase.BASELINE, Phase.SWEEP):
        return False
    return any(failed.failure and failed.failure.is_of_setting for failed in history.failed)


def none_is_legal(history: History) -> IterationError:
    """Return the error of a search in which no model was legal on the chip."""
    illegal = [item for item in history.failed if item.failure and item.failure.is_of_setting]
    last = illegal[-1].failure
    return IterationError(
        f"no calibration makes a model that the chip can run: {len(illegal)} were illegal, the "
        f"last one by {last.cause if last else ''}",
        "see that the calibration samples are preprocessed as those that evaluate() scores, in the "
        "same range; then run the same command again",
    )
