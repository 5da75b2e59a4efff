"""How much of a score is the luck of the calibration draw."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from statistics import fmean, stdev

from espdl_quantize.core import (
    Direction,
    Hint,
    Json,
    Option,
    Progress,
    UsageError,
    Verdict,
    write_json,
)
from espdl_quantize.record import History, Iteration, read_iteration
from espdl_quantize.record.files import DRAWS, iteration_name
from espdl_quantize.setting import DEFAULT_BITS, Setting, setting_key, with_calibration
from espdl_quantize.stats import student_mean
from espdl_quantize.tuning._backend import AuxiliaryBackend

REPEAT = "repeat"
"""The folder of the draws in an output folder, with a folder per setting."""

SUMMARY = DRAWS
CONFIRMED = "confirmed.json"


@dataclass(frozen=True)
class Draws:
    """The scores of one setting over draws of the calibration data.

    Attributes:
        setting: what was quantized with.
        folder: of its draws.
        iterations: one per draw.
        seed: of the draws.
    """

    setting: Setting
    folder: Path
    iterations: tuple[Iteration, ...]
    seed: int

    @property
    def values(self) -> list[float]:
        """The scores, of each draw."""
        return [iteration.value for iteration in self.iterations if iteration.value is not None]

    def summary(self) -> Json:
        """Return mean, spread and every draw as plain data."""
        values = self.values
        noises = [
            iteration.signals.noise_signal
            for iteration in self.iterations
            if iteration.signals is not None
        ]
        known = [noise for noise in noises if noise is not None]
        several = len(values) > 1
        interval = student_mean(values) if several else None
        return {
            "setting_key": setting_key(self.setting),
            "setting": self.setting.model_dump(exclude_none=True),
            "seed": self.seed,
            "draws": [
                {
                    "draw": iteration.id,
                    "primary_value": iteration.value,
                    "noise_signal": None
                    if iteration.signals is None
                    else iteration.signals.noise_signal,
                }
                for iteration in self.iterations
            ],
            "mean": fmean(values),
            "standard_deviation": stdev(values) if several else None,
            "lowest": min(values),
            "highest": max(values),
            "interval_of_the_mean": None if interval is None else [interval.low, interval.high],
            "mean_noise_signal": fmean(known) if known else None,
        }


def repeat(
    backend: AuxiliaryBackend,
    outputs: Path,
    setting: Setting,
    draws: int,
    seed: int,
    progress: Progress,
    notice: Callable[[str], None],
) -> Draws:
    """Quantize and score one setting on several draws of the calibration data.

    Draws that are there already, of the same seed and contract, are taken as they are: what was
    interrupted goes on.

    Args:
        backend: runs beside the search.
        outputs: the output folder; it need not have any iteration.
        setting: what to quantize with.
        draws: how many, at least two.
        seed: of the draws.
        progress: receives every stage.
        notice: receives each score.

    Raises:
        UsageError: fewer than two draws.
        EspdlQuantizeError: a draw failed.
    """
    if draws < 2:
        raise UsageError(
            f"{draws} draw has no spread", Hint("give ", Option.DRAWS, " of 2 or more")
        )
    setting = with_calibration(setting, backend.facts.num_of_bits or DEFAULT_BITS)
    home = outputs.resolve()
    folder = home / REPEAT / setting_key(setting)[:12]
    folder.mkdir(parents=True, exist_ok=True)
    iterations = []
    for draw in range(1, draws + 1):
        place = folder / iteration_name(draw)
        iteration = _known(place, draw, seed)
        if iteration is None:
            with progress.stage(f"draw {draw} of {draws}"):
                backend.run_auxiliary(
                    setting, place, progress, home=str(home), draw=draw, seed=seed, reuse=False
                )
            iteration = _known(place, draw, seed)
            assert iteration is not None
        notice(f"draw {draw}: {iteration.metric} {iteration.value:.6g}")
        iterations.append(iteration)
    repeated = Draws(setting, folder, tuple(iterations), seed)
    write_json(folder / SUMMARY, repeated.summary())
    return repeated


def _known(folder: Path, draw: int, seed: int) -> Iteration | None:
    if not folder.is_dir():
        return None
    iteration, _ = read_iteration(folder, draw)
    return (
        iteration
        if iteration is not None and iteration.value is not None and iteration.seed == seed
        else None
    )


def compare_draws(first: Draws, second: Draws, *, higher_is_better: bool) -> Json:
    """Compare two settings over the same draws of the calibration data, draw by draw.

    The verdict is that of Student's 95 % interval of the mean difference. It has no more degrees of
    freedom than there are draws less one: of three draws, only a large difference shows.
    """
    differences = [
        left.value - right.value
        for left, right in zip(first.iterations, second.iterations, strict=False)
        if left.value is not None and right.value is not None
    ]
    interval = student_mean(differences)
    verdict = Verdict.WITHIN_NOISE
    if interval.low > 0 or interval.high < 0:
        is_better = (interval.low > 0) == higher_is_better
        verdict = Verdict.BETTER if is_better else Verdict.WORSE
    return {
        "draws": len(differences),
        "mean_difference": fmean(differences),
        "interval": [interval.low, interval.high],
        "verdict": verdict,
    }


def confirm(
    backend: AuxiliaryBackend,
    history: History,
    draws: int,
    seed: int,
    progress: Progress,
    notice: Callable[[str], None],
) -> Json | None:
    """Run best and its nearest rival over the same draws of the calibration data.

    The rival is the iteration with the highest score but best's own, of another setting.

    Returns:
        What repeat/confirmed.json says; None where there is no rival.

    Raises:
        EspdlQuantizeError: a draw failed.
    """
    best = history.best
    if best is None or best.setting is None:
        return None
    others = [item for item in history.scored if item.setting is not None and item.id != best.id]
    rival = max(others, key=lambda item: (history.height(item), -item.id), default=None)
    if rival is None or rival.setting is None:
        return None
    both = []
    for iteration in (best, rival):
        assert iteration.setting is not None
        notice(f"{draws} draws of the calibration data for {iteration.name}")
        both.append(
            repeat(backend, history.folder, iteration.setting, draws, seed, progress, notice)
        )
    higher = Direction(history.direction) is Direction.MAX
    summary: Json = {
        "best": best.id,
        "rival": rival.id,
        "best_versus_rival": compare_draws(both[0], both[1], higher_is_better=higher),
        "best_draws": both[0].summary(),
        "rival_draws": both[1].summary(),
    }
    write_json(history.folder / REPEAT / CONFIRMED, summary)
    return summary
