"""Which iteration is best, and what counts as a gain, where noise is known."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from espdl_quantize.record import NO_LOSS, History, read_history
from espdl_quantize.record.files import SAMPLES
from espdl_quantize.report import compare
from espdl_quantize.search import (
    DEFAULT_THRESHOLDS,
    Decision,
    Proposal,
    RankBy,
    SearchOptions,
    Stop,
    both_last_worse,
    plateau,
)
from espdl_quantize.setting import Setting, baseline
from espdl_quantize.stats import read_arrays, write_arrays
from tests.search.made_runs import make, run, trained, write_run
from tests.there import there

COUNTED: dict[str, Any] = {
    "metric_unit": "percent",
    "sample_count": 640,
    "sample_count_from": "seen",
}
WIDE = {"dispatching_table": [{"op": "conv0", "bits": 16}]}


def proposed(decision: Decision) -> Setting:
    """The setting of a decision that is a proposal."""
    assert isinstance(decision, Proposal)
    return decision.setting


def scored(
    outputs: Path,
    number: int,
    right: int,
    setting: Setting,
    noise: float = 0.1,
    first: int = 0,
    **index: Any,
) -> None:
    """An iteration with 200 samples, of which ``right`` came out right, from ``first`` on."""
    results = np.zeros(200)
    results[first : first + right] = 1
    facts: dict[str, Any] = {
        "sample_count": 200,
        "sample_count_from": "per_sample",
        "metric_unit": "percent",
        "per_sample_scale": 100.0,
        "signals": {"samples": 200, "noise_signal": noise, "agreement": 0.9, "outputs": []},
    }
    folder = write_run(outputs, run(number, right / 2, setting), **(facts | index))
    per_sample = noise * np.linspace(0.5, 1.5, 200)[:, None]
    digests = np.arange(3200, dtype=np.uint32).astype(np.uint8).reshape(200, 16)
    digests[:, 0] = np.arange(200)
    write_arrays(folder / SAMPLES, {"results": results, "noise": per_sample, "digests": digests})


def test_a_tie_goes_to_the_cheaper_setting_and_then_to_less_noise(tmp_path: Path) -> None:
    scored(tmp_path, 0, 150, baseline())
    scored(tmp_path, 1, 170, trained("kl"), noise=0.05)
    scored(tmp_path, 2, 172, trained("kl", **WIDE), noise=0.01)
    scored(tmp_path, 3, 169, trained("mse"), noise=0.04)
    history = read_history(tmp_path)
    assert (there(history.top).id, there(history.best).id) == (2, 3)
    assert [row.id for row in history.near_top] == [1, 2, 3]
    assert history.gain(there(history.get(1))) == 10.0
    assert history.gain(there(history.get(2))) == 0.0
    assert history.took_over(there(history.get(3)))
    assert not history.took_over(there(history.get(2)))


def test_what_is_worse_beyond_noise_is_never_best(tmp_path: Path) -> None:
    scored(tmp_path, 0, 150, baseline(), noise=0.001)
    scored(tmp_path, 1, 170, trained("kl", **WIDE), noise=0.5)
    assert there(read_history(tmp_path).best).id == 1


def test_without_samples_a_rate_and_a_count_do(tmp_path: Path) -> None:
    facts: dict[str, Any] = {
        "metric_unit": "percent",
        "sample_count": 640,
        "sample_count_from": "seen",
    }
    for number, value in enumerate((59.69, 79.06, 80.47)):
        write_run(tmp_path, run(number, value, trained("kl", extra={"n": number})), **facts)
    history = read_history(tmp_path)
    rows = history.iterations
    assert there(history.versus(rows[1], rows[0])).verdict == "better"
    assert there(history.versus(rows[2], rows[1])).verdict == "within noise"
    assert not there(history.versus(rows[2], rows[1])).paired
    interval = history.noise.interval(rows[2])
    assert (round(there(interval).low, 1), round(there(interval).high, 1)) == (77.2, 83.4)


def test_where_the_metrics_noise_is_unknown_the_outputs_tell(tmp_path: Path) -> None:
    unknown: dict[str, Any] = {"metric_unit": None, "sample_count": None, "sample_count_from": None}
    scored(tmp_path, 0, 150, baseline(), noise=0.1, **unknown)
    scored(tmp_path, 1, 149, trained("kl"), noise=0.1, **unknown)
    scored(tmp_path, 2, 148, trained("mse"), noise=0.3, **unknown)
    history = read_history(tmp_path)
    alike, noisier = (there(history.get(number)) for number in (1, 2))
    assert history.versus(alike, there(history.best)) is None
    assert history.gain(alike) == 0.0
    assert history.gain(noisier) == -1.0
    compare(tmp_path)
    entries = json.loads((tmp_path / "comparison.json").read_text("utf-8"))["iterations"]
    assert [entry["outcome"] for entry in entries] == ["first score", "within noise", "worse"]


def test_where_nothing_is_known_the_highest_is_best(tmp_path: Path) -> None:
    write_run(tmp_path, run(0, 0.5, baseline()))
    write_run(tmp_path, run(1, 0.51, make(**WIDE)))
    history = read_history(tmp_path)
    assert history.best is history.top is history.get(1)
    assert history.versus(there(history.get(1)), history.get(0)) is None
    assert history.noise.interval(there(history.get(1))) is None


def flat(tmp_path: Path, noises: tuple[float, ...]) -> History:
    """A baseline that lost, and iterations that cannot be told apart by the metric."""
    scored(tmp_path, 0, 100, baseline(), noise=1.0)
    for number, noise in enumerate(noises, start=1):
        scored(tmp_path, number, 170 - number, trained("kl", extra={"n": number}), noise=noise)
    return read_history(tmp_path)


def test_a_plateau_is_judged_by_noise_and_by_the_outputs(tmp_path: Path) -> None:
    settled = flat(tmp_path / "settled", (0.1, 0.1, 0.12, 0.11))
    assert len(plateau(settled, DEFAULT_THRESHOLDS)) == 3
    moving = flat(tmp_path / "moving", (0.1, 0.1, 0.12, 0.05))
    assert plateau(moving, DEFAULT_THRESHOLDS) == ()
    assert not both_last_worse(settled)


def test_comparison_and_report_say_how_sure_they_are(tmp_path: Path) -> None:
    scored(tmp_path, 0, 150, baseline())
    scored(tmp_path, 1, 170, trained("kl"), noise=0.05)
    scored(tmp_path, 2, 172, trained("kl", **WIDE), noise=0.01)
    result = compare(tmp_path, finalize=True)
    rows = result.comparison.to_json()["iterations"]
    assert [row["outcome"] for row in rows] == ["first score", "new best", "within noise"]
    assert rows[1]["versus_baseline"]["verdict"] == "better"
    assert rows[2]["versus_best"]["verdict"] == "within noise"
    assert result.comparison.to_json()["best_iteration"]["highest_score"] == 2
    assert result.comparison.to_json()["best_iteration"]["cannot_be_told_from"] == [2]
    assert "iter_2 scored higher, within noise" in "\n".join(result.lines)
    text = (tmp_path / "final_report.md").read_text()
    assert "95 % interval 79.39 to 89.29 (wilson, 200 samples)" in text
    assert "Against the baseline iter_0: better, difference +10" in text
    assert "iter_2 has the highest score, 86; iter_1 is the best all the same" in text
    index = json.loads((tmp_path / "best/iteration_index.json").read_text())
    assert index["iteration_id"] == 1


def test_scores_of_calibration_samples_are_told(tmp_path: Path) -> None:
    scored(tmp_path, 0, 150, baseline(), samples_shared_with_calibration=12)
    told = [warning.text for warning in read_history(tmp_path).warnings]
    assert any("calibration samples are among those that were scored, up to 12" in t for t in told)


def test_a_search_by_the_outputs_builds_on_the_quietest(tmp_path: Path) -> None:
    for number, (right, setting, noise) in enumerate(
        (
            (120, baseline(), 0.5),
            (180, trained("kl"), 0.05),
            (150, trained("mse"), 0.02),
            (140, trained("percentile"), 0.03),
        )
    ):
        scored(tmp_path, number, right, setting, noise=noise)
    plain = compare(tmp_path)
    assert proposed(plain.decision).calib_algorithm == "kl"
    quiet = compare(tmp_path, options=SearchOptions(rank_by=RankBy.NOISE))
    assert proposed(quiet.decision).calib_algorithm == "mse"
    assert "iter_2 scored output noise:signal 0.02" in proposed(quiet.decision).rationale
    # The metric is the judge.
    assert there(quiet.history.best).id == there(plain.history.best).id == 1
    met = compare(tmp_path, options=SearchOptions(rank_by=RankBy.NOISE, target=85.0))
    assert isinstance(met.decision, Stop)
    assert met.decision.category == "target_reached"


def jittered(outputs: Path, number: int, right: int, shift: float, spread: float) -> None:
    """An iteration whose noise per sample is shifted by ``shift``, with ``spread`` around it."""
    scored(outputs, number, right, trained("kl", extra={"n": number}), noise=0.004 + shift)
    folder = outputs / f"iter_{number}"
    held = read_arrays(folder / SAMPLES)
    draws = np.random.default_rng(number).normal(0, spread, (200, 1))
    held["noise"] = 0.004 + shift + draws - draws.mean()
    write_arrays(folder / SAMPLES, held)


@pytest.mark.parametrize(("shift", "best"), [(-0.00008, 1), (-0.002, 2)])
def test_noise_breaks_a_tie_only_beyond_chance(tmp_path: Path, shift: float, best: int) -> None:
    scored(tmp_path, 0, 130, baseline(), noise=0.1)
    jittered(tmp_path, 1, 172, 0.0, 0.002)
    jittered(tmp_path, 2, 171, shift, 0.002)
    jittered(tmp_path, 3, 172, 0.0, 0.002)
    assert there(read_history(tmp_path).best).id == best


@pytest.mark.parametrize(("noise", "best"), [(0.95, 0), (0.85, 1)])
def test_without_the_noise_of_each_sample_it_takes_a_margin(
    tmp_path: Path, noise: float, best: int
) -> None:
    facts: dict[str, Any] = {
        "metric_unit": "percent",
        "sample_count": 640,
        "sample_count_from": "seen",
    }
    for number, (value, level) in enumerate(((80.3, 1.0), (80.2, noise))):
        signals = {"samples": 640, "noise_signal": level, "agreement": 0.9, "outputs": []}
        rows = run(number, value, trained("kl", extra={"n": number}))
        write_run(tmp_path, rows, signals=signals, **facts)
    assert there(read_history(tmp_path).best).id == best


def with_float(outputs: Path, right: tuple[int, ...], reference: float, agreement: float) -> str:
    for number, count in enumerate(right):
        setting = baseline() if number == 0 else trained("kl", extra={"n": number})
        signals = {"samples": 200, "noise_signal": 0.1, "agreement": agreement, "outputs": []}
        scored(outputs, number, count, setting, signals=signals, float_value=reference)
    result = compare(outputs, finalize=True)
    assert result.comparison.to_json()["best_iteration"] is not None
    return (outputs / "report.html").read_text()


@pytest.mark.parametrize("reference", [86.0, 85.0, 84.0])
def test_no_share_of_a_loss_that_is_none(tmp_path: Path, reference: float) -> None:
    """Two images of 200 lost, none, or fewer than none, and best has won back twice that."""
    page = with_float(tmp_path, (170, 174), reference, 0.97)
    history = read_history(tmp_path)
    assert (history.gap_closed, history.no_gap) == (None, NO_LOSS)
    assert "Quantization loses nothing measurable on these samples: float" in page
    assert "came back" not in page
    text = (tmp_path / "final_report.md").read_text()
    assert "Quantization loses nothing measurable on these samples." in text
    assert "of the way to the float model" not in text


def test_what_is_beyond_the_whole_loss_is_no_percentage(tmp_path: Path) -> None:
    page = with_float(tmp_path, (130, 174), 85.0, 0.7)
    assert there(read_history(tmp_path).gap_closed) > 1
    assert "More than all of the accuracy lost to quantization came back" in page
    assert "110% of" not in page + (tmp_path / "final_report.md").read_text()


def test_a_loss_is_judged_by_how_many_decisions_differ(tmp_path: Path) -> None:
    """Eight of 200 images less is chance to a test of two rates, and is not where just 8 differ."""
    with_float(tmp_path / "same", (170, 174), 89.0, 0.96)
    assert read_history(tmp_path / "same").gap_closed == 0.5
    with_float(tmp_path / "other", (170, 174), 89.0, 0.7)
    assert read_history(tmp_path / "other").no_gap == NO_LOSS


def test_a_lever_that_only_calmed_the_outputs_did_not_gain(tmp_path: Path) -> None:
    scored(tmp_path, 0, 120, baseline(), noise=0.1)
    for number, algorithm in enumerate(("kl", "mse", "percentile"), start=1):
        scored(tmp_path, number, 171 - number, trained(algorithm), noise=0.05)
    longer = {"enabled": True, "steps": 1000, "lr": 1e-5, "block_size": 4}
    scored(tmp_path, 4, 169, make(calib_algorithm="kl", tqt_optimization=longer), noise=0.01)
    result = compare(tmp_path)
    advice = result.comparison.to_json()["next_step_hint"]["advice"]
    assert "3a-1 had less output noise in iter_4" in advice
    assert "gained" not in advice
    assert "within noise | noise 0.01     | " in "\n".join(result.lines)


def test_one_iteration_without_a_score_is_one(tmp_path: Path) -> None:
    write_run(tmp_path, run(0, None, baseline()))
    assert "1 iteration, none with a score" in compare(tmp_path).lines


def resampled(outputs: Path, number: int, value: float, spread: float, seed: int) -> None:
    """An iteration whose metric is made of 100 records."""
    facts: dict[str, Any] = {"sample_count": 100, "sample_count_from": "records"}
    folder = write_run(outputs, run(number, value, trained("kl", extra={"n": number})), **facts)
    shared = np.random.default_rng(0).normal(0, 0.05, 2000)
    own = np.random.default_rng(seed).normal(0, spread, 2000)
    write_arrays(folder / SAMPLES, {"replicates": value + shared + own})


def test_replicates_give_the_interval_and_the_paired_verdict(tmp_path: Path) -> None:
    resampled(tmp_path, 0, 0.60, 0.001, seed=1)
    resampled(tmp_path, 1, 0.63, 0.001, seed=2)
    resampled(tmp_path, 2, 0.631, 0.01, seed=3)
    history = read_history(tmp_path)
    rows = history.iterations
    interval = there(history.noise.interval(rows[0]))
    assert (interval.low, interval.high) == pytest.approx((0.50, 0.70), abs=0.01)
    assert there(history.versus(rows[1], rows[0])).verdict == "better"
    assert there(history.versus(rows[2], rows[1])).verdict == "within noise"
    assert (there(history.top).id, history.gain(rows[2])) == (2, 0.0)


def test_replicates_that_are_broken_say_nothing(tmp_path: Path) -> None:
    for number, broken in enumerate(([[1.0]], ["a"], [0.5] * 10, [float("nan")] * 2000)):
        resampled(tmp_path, number, 0.6, 0.01, seed=number)
        write_arrays(tmp_path / f"iter_{number}" / SAMPLES, {"replicates": np.array(broken)})
    history = read_history(tmp_path)
    assert all(history.noise.interval(row) is None for row in history.iterations)
    assert history.versus(history.iterations[1], history.iterations[0]) is None


def test_the_choice_of_the_best_costs_more_the_more_there_are(tmp_path: Path) -> None:
    draw = np.random.default_rng(4)
    costs = []
    for count in (2, 12):
        outputs = tmp_path / str(count)
        for number in range(count):
            scored(outputs, number, 160, trained("kl", extra={"n": number}))
            results = (draw.random(200) < 0.8).astype(float)
            folder = outputs / f"iter_{number}"
            arrays = {**read_arrays(folder / SAMPLES), "results": results}
            write_arrays(folder / SAMPLES, arrays)
            index = json.loads((folder / "iteration_index.json").read_text("utf-8"))
            index["primary_value"] = 100 * results.mean()
            (folder / "iteration_index.json").write_text(json.dumps(index))
        costs.append(there(read_history(outputs).selection_bias))
    assert 0.3 < costs[0] < costs[1] < 6
    compare(tmp_path / "12", finalize=True)
    text = (tmp_path / "12/final_report.md").read_text("utf-8")
    assert "The choice of the best of 12 by these samples makes it look at least" in text


def test_of_one_iteration_no_choice_was_made(tmp_path: Path) -> None:
    scored(tmp_path, 0, 150, baseline())
    assert read_history(tmp_path).selection_bias is None
