"""How much of a score is the luck of the calibration draw."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from statistics import fmean, stdev

from espdl_quantize.core import Hint, Json, Option, Progress, UsageError, write_json
from espdl_quantize.record import History, Iteration, read_iteration
from espdl_quantize.setting import DEFAULT_BITS, Setting, setting_key, with_calibration
from espdl_quantize.stats import student_mean
from espdl_quantize.tune._backend import AsideBackend

REPEAT = "repeat"
"""The folder of the draws in an output folder, with a folder per setting."""

SUMMARY = "repeat.json"
CONFIRMED = "confirmed.json"


@dataclass(frozen=True)
class Draws:
    """The scores of one setting over draws of the calibration data.

    Attributes:
        setting: what was quantized with.
        folder: of its draws.
        rows: an iteration per draw.
        seed: of the draws.
    """

    setting: Setting
    folder: Path
    rows: tuple[Iteration, ...]
    seed: int

    @property
    def values(self) -> list[float]:
        """The scores, of each draw."""
        return [row.value for row in self.rows if row.value is not None]

    def summary(self) -> Json:
        """Return mean, spread and every draw as plain data."""
        values = self.values
        noises = [row.signals.noise_signal for row in self.rows if row.signals is not None]
        known = [noise for noise in noises if noise is not None]
        several = len(values) > 1
        interval = student_mean(values) if several else None
        return {
            "setting_key": setting_key(self.setting),
            "setting": self.setting.model_dump(exclude_none=True),
            "seed": self.seed,
            "draws": [
                {
                    "draw": row.id,
                    "primary_value": row.value,
                    "noise_signal": None if row.signals is None else row.signals.noise_signal,
                }
                for row in self.rows
            ],
            "mean": fmean(values),
            "standard_deviation": stdev(values) if several else None,
            "lowest": min(values),
            "highest": max(values),
            "interval_of_the_mean": None if interval is None else [interval.low, interval.high],
            "mean_noise_signal": fmean(known) if known else None,
        }


def repeat(
    backend: AsideBackend,
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
        progress: told of every stage.
        notice: told of each score.

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
    rows = []
    for draw in range(1, draws + 1):
        place = folder / f"iter_{draw}"
        row = _known(place, draw, seed)
        if row is None:
            with progress.stage(f"draw {draw} of {draws}"):
                backend.run_aside(
                    setting, place, progress, home=str(home), draw=draw, seed=seed, reuse=False
                )
            row = _known(place, draw, seed)
            assert row is not None
        notice(f"draw {draw}: {row.metric} {row.value:.6g}")
        rows.append(row)
    found = Draws(setting, folder, tuple(rows), seed)
    write_json(folder / SUMMARY, found.summary())
    return found


def _known(folder: Path, draw: int, seed: int) -> Iteration | None:
    if not folder.is_dir():
        return None
    row, _ = read_iteration(folder, draw)
    return row if row is not None and row.value is not None and row.seed == seed else None


def compare_draws(first: Draws, second: Draws, higher_is_better: bool) -> Json:
    """Compare two settings over the same draws of the calibration data, draw by draw.

    The verdict is that of Student's 95 % interval of the mean difference. It has no more degrees of
    freedom than there are draws less one: of three draws, only a large difference shows.
    """
    pairs = zip(first.rows, second.rows, strict=False)
    found = [
        one.value - two.value
        for one, two in pairs
        if one.value is not None and two.value is not None
    ]
    interval = student_mean(found)
    verdict = "within noise"
    if interval.low > 0 or interval.high < 0:
        verdict = "better" if (interval.low > 0) == higher_is_better else "worse"
    return {
        "draws": len(found),
        "mean_difference": fmean(found),
        "interval": [interval.low, interval.high],
        "verdict": verdict,
    }


def confirm(
    backend: AsideBackend,
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
    others = [row for row in history.scored if row.setting is not None and row.id != best.id]
    rival = max(others, key=lambda row: (history.height(row), -row.id), default=None)
    if rival is None or rival.setting is None:
        return None
    found = []
    for row in (best, rival):
        assert row.setting is not None
        notice(f"{draws} draws of the calibration data for {row.name}")
        found.append(repeat(backend, history.folder, row.setting, draws, seed, progress, notice))
    told: Json = {
        "best": best.id,
        "rival": rival.id,
        "best_versus_rival": compare_draws(found[0], found[1], history.direction == "max"),
        "best_draws": found[0].summary(),
        "rival_draws": found[1].summary(),
    }
    write_json(history.folder / REPEAT / CONFIRMED, told)
    return told
