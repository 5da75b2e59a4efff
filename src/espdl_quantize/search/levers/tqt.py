"""3a-1, 3a-2, 3a-3: longer, stronger and finer TQT."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from espdl_quantize.record import History
from espdl_quantize.search._stops import relative_loss
from espdl_quantize.search._sweep import DEFAULT_TQT
from espdl_quantize.search._thresholds import Thresholds
from espdl_quantize.search.levers._base import (
    Judgement,
    Lever,
    improved,
    is_tried,
    runs_of,
)
from espdl_quantize.setting import Setting, TqtOptimization

if TYPE_CHECKING:
    from espdl_quantize.search._state import SearchState


class _TqtLever(Lever):
    tier = "A"

    def applies(self, state: SearchState) -> Judgement:
        tqt = _tqt(state.base)
        if tqt is None:
            return Judgement(
                False, f"best ({state.base_name}) has no TQT: training did not help it so far"
            )
        return Judgement(True, f"{state.base_name} trains with {_schedule(tqt)}")

    def _with(self, state: SearchState, **fields: Any) -> Setting:
        tqt = _tqt(state.base) or DEFAULT_TQT
        return state.base.model_copy(update={"tqt_optimization": tqt.model_copy(update=fields)})


class LongerTqt(_TqtLever):
    """3a-1: twice the steps at the same rate."""

    id = "3a-1"
    name = "train longer"
    title = "TQT steps 1000, lr 1e-5"

    def marks(self, setting: Setting) -> bool:
        """Recognised by steps and lr alone."""
        tqt = _tqt(setting)
        return tqt is not None and (tqt.steps, tqt.lr) == (1000, 1e-5)

    def change(self, state: SearchState) -> Setting:
        """Change the schedule; best's block_size stays."""
        return self._with(state, steps=1000, lr=1e-5)


class StrongerTqt(_TqtLever):
    """3a-2: the end of the escalation; steeper schedules were seen to lose accuracy."""

    id = "3a-2"
    name = "train harder"
    title = "TQT lr 5e-5, steps 2000"

    def marks(self, setting: Setting) -> bool:
        """Recognised by steps and lr alone."""
        tqt = _tqt(setting)
        return tqt is not None and (tqt.steps, tqt.lr) == (2000, 5e-5)

    def applies(self, state: SearchState) -> Judgement:
        """Only after 3a-1 gained."""
        verdict = super().applies(state)
        if not verdict.applies:
            return verdict
        before = runs_of(LONGER_TQT, state.ranking)
        if not before:
            return Judgement(False, "3a-1 has not been run, whose gain this lever builds on")
        if not improved(LONGER_TQT, state.ranking):
            ran = ", ".join(iteration.name for iteration in before)
            return Judgement(False, f"3a-1 ({ran}) had no positive net effect")
        gained = [iteration for iteration in before if (state.ranking.gain(iteration) or 0) > 0]
        if gained:
            return Judgement(True, f"3a-1 gained in {gained[-1].name}; {verdict.reason}")
        took = next(iteration for iteration in before if state.ranking.took_over(iteration))
        prior = state.ranking.prior_best[took.id]
        quieter = prior is not None and state.ranking.is_quieter(took, prior)
        why = "had less output noise" if quieter else "became best within noise"
        return Judgement(True, f"3a-1 {why} in {took.name}; {verdict.reason}")

    def change(self, state: SearchState) -> Setting:
        """Change the schedule; best's block_size stays."""
        return self._with(state, steps=2000, lr=5e-5)


class SmallerBlocks(_TqtLever):
    """3a-3: blocks of 2, closer to layer by layer and more stable. Not in the linear order."""

    id = "3a-3"
    name = "train in smaller blocks"
    title = "TQT block_size 2"

    def marks(self, setting: Setting) -> bool:
        """Recognised by the block size."""
        tqt = _tqt(setting)
        return tqt is not None and tqt.block_size == 2

    def change(self, state: SearchState) -> Setting:
        """Change the block size; best's schedule stays."""
        return self._with(state, block_size=2)


LONGER_TQT, STRONGER_TQT, SMALLER_BLOCKS = LongerTqt(), StrongerTqt(), SmallerBlocks()


def unstable_training(history: History, limits: Thresholds) -> str | None:
    """Path 1 into 3a-3: the latest run escalated TQT, lost a little and upset a quiet layer.

    Returns:
        The numbers that say so, or None.
    """
    best, latest = history.best, next(reversed(history.effective), None)
    if best is None or latest is None or latest.id == best.id:
        return None
    if not any(latest in runs_of(lever, history) for lever in (LONGER_TQT, STRONGER_TQT)):
        return None
    loss = relative_loss(history, latest, best)
    if not 0 < loss < limits.small_loss_relative:
        return None
    known = {layer.op for layer in best.top_5_error_layers}
    new = [layer for layer in latest.top_5_error_layers if layer.op not in known]
    if not known or not new:
        return None
    snr = "" if new[0].snr is None else f" (SNR {new[0].snr:.4g})"
    return (
        f"{latest.name} trained harder, lost {loss:.3%} against {best.name} and brought "
        f"{new[0].op}{snr} into the worst five"
    )


def escalation_converged(history: History, untouched: tuple[Lever, ...]) -> bool:
    """Path 2 into 3a-3, the part that history tells.

    Args:
        history: all iterations.
        untouched: the levers that must not have been tried.
    """
    return (
        improved(LONGER_TQT, history)
        and improved(STRONGER_TQT, history)
        and not any(is_tried(lever, history) for lever in untouched)
    )


def _tqt(setting: Setting) -> TqtOptimization | None:
    tqt = setting.tqt_optimization
    return tqt if tqt is not None and tqt.enabled else None


def _schedule(tqt: TqtOptimization) -> str:
    return f"lr {tqt.lr:g}, steps {tqt.steps}, block_size {tqt.block_size}"
