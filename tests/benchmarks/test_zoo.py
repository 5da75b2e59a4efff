"""The zoo's results, its table, and that a killed run goes on. What it runs is not run here."""

import json
import time
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from benchmarks.zoo import __main__ as command
from benchmarks.zoo.clock import Clock, TimeUpError
from benchmarks.zoo.contracts.speech_sounds import RATE, tones
from benchmarks.zoo.networks import NETWORKS, Network
from benchmarks.zoo.results import NOTHING, Incumbent, Result, Score, append, read
from benchmarks.zoo.table import duel, front, markdown, rows_of, to_json
from espdl_quantize.core import UsageError

SAMPLES = 400


def score(right: int) -> Score:
    """Return a percentage of which each other one differs in whole samples."""
    return Score.of(
        {"top1": 100 * right / SAMPLES, "per_sample": [at < right for at in range(SAMPLES)]}, "top1"
    )


def result(strategy: str, *found: tuple[float, int], network: str = "demo") -> Result:
    """Return one that found so many right after so many seconds."""
    incumbents = tuple(
        Incumbent(seconds, "kl", score(right), score(right), 1.5) for seconds, right in found
    )
    return Result(
        network,
        strategy,
        60.0,
        "cpu",
        chip="esp32s3",
        metric="top1",
        float_search=99.0,
        float_final=98.0,
        baseline=incumbents[0] if incumbents else None,
        incumbents=incumbents,
        iterations=len(found),
        error="" if found else "IterationError: no luck",
        machine={"cpus": 2, "threads": 1, "load": [1.0, 3.0]},
    )


def test_a_score_knows_its_noise() -> None:
    best, near, far = score(380), score(378), score(300)
    interval = best.interval()
    assert interval is not None and interval.low < 95 < interval.high
    assert interval.high - interval.low == pytest.approx(4.3, abs=0.6)
    assert far.is_worse(best, higher=True) and not best.is_worse(far, higher=True)
    assert best.is_worse(far, higher=False)
    assert not near.is_worse(best, higher=True)
    # Nothing is known of each sample: any difference counts.
    assert Score(94.9).is_worse(best, higher=True) and Score(1.0).interval() is None


def test_a_score_of_other_shapes() -> None:
    errors = Score.of({"error": 0.5, "per_sample": [0.25, 0.75]}, "error")
    assert (errors.value, errors.samples) == (0.5, 2)
    assert float(errors.draws.mean()) == pytest.approx(0.5, abs=0.02)
    records = Score.of(
        {"f1": 2.0, "per_sample": [{"hits": 1}, {"hits": 3}]},
        "f1",
        lambda rows: sum(row["hits"] for row in rows) / len(rows),
    )
    assert set(np.unique(records.draws)) == {1.0, 2.0, 3.0}
    assert Score.of({"f1": 2.0}, "f1").samples == 0


def test_the_time_to_within_noise() -> None:
    goal = score(380)
    assert result("seed", (1, 300), (9, 379), (20, 380)).seconds_to(goal) == 9
    # It was there and fell behind: only what lasts counts.
    assert result("seed", (1, 380), (9, 300), (20, 380)).seconds_to(goal) == 20
    assert result("seed", (1, 300)).seconds_to(goal) is None
    assert result("seed").seconds_to(goal) is None


def test_results_are_read_as_written(tmp_path: Path) -> None:
    file = tmp_path / "deep" / "zoo.jsonl"
    assert read(file) == []
    first = result("seed", (1, 300), (9, 380))
    append(file, first)
    with file.open("a") as stream:
        stream.write('{"network": "demo", "strate')
    append(file, result("swift"))
    # The half line has spoiled no other.
    assert [each.strategy for each in read(file)] == ["seed", "swift"]
    append(file, result("swift", (2, 380)))
    same, swift = read(file)
    assert same == first and swift.iterations == 1
    assert same.best is not None and first.best is not None
    assert (same.best.search.draws == first.best.search.draws).all()


def test_a_killed_run_goes_on(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    ran: list[tuple[str, str]] = []

    def run_one(
        network: Network, strategy: str, seconds: float, folder: Path, clock: str
    ) -> Result:
        if len(ran) == 2:
            raise KeyboardInterrupt
        ran.append((network.name, strategy))
        return result(strategy, (1, 300), (9, 380), network=network.name)

    monkeypatch.setattr(command, "run_one", run_one)
    file = tmp_path / "zoo.jsonl"
    given = [*("--networks", "demo,gru", "--strategies", "seed,autoquant"), "--results", str(file)]
    given += ["--clock", "cpu"]
    with pytest.raises(KeyboardInterrupt):
        command.main([*given, "--time", "60s"])
    assert ran == [("demo", "seed"), ("demo", "autoquant")]
    ran.clear()
    assert command.main([*given, "--time", "1m"]) == 0
    assert ran == [("gru", "seed"), ("gru", "autoquant")]
    assert "demo CNN, S3" in capsys.readouterr().out
    # Nothing is left to run, and another time would not compare.
    ran.clear()
    assert command.main([*given, "--time", "1m", "--json"]) == 0
    assert len(json.loads(capsys.readouterr().out)["rows"]) == 6
    assert command.main([*given, "--time", "2m"]) == 2
    assert "give --time 60s --clock cpu" in capsys.readouterr().err
    assert not ran


def test_what_is_left_to_run() -> None:
    done = [result("seed", (1, 300)), result("swift")]
    names = ["demo", "gru"], ["seed", "swift"]
    left = [("gru", "seed"), ("gru", "swift")]
    assert command.pending(done, *names, 60.0, clock="cpu") == left
    assert command.pending(done, *names, 60.0, clock="cpu", retry=True) == [
        ("demo", "swift"),
        *left,
    ]
    assert command.pending(done, ["gru"], ["seed"], 90.0) == [("gru", "seed")]
    with pytest.raises(UsageError, match="60 s \\(wall\\) are given"):
        command.pending(done, *names, 60.0)
    with pytest.raises(UsageError, match=r"had 60 s \(cpu\) on demo"):
        command.pending(done, *names, 90.0)


def test_a_network_without_its_data_is_left_out(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    for name in ("ESPDL_ZOO_SITE", "ESPDL_ESPDET"):
        monkeypatch.delenv(name, raising=False)
    file = str(tmp_path / "zoo.jsonl")
    assert command.main(["--networks", "espdet", "--results", file]) == 0
    assert "espdet is left out: set ESPDL_ZOO_SITE and ESPDL_ESPDET" in capsys.readouterr().err
    assert command.main(["--networks", "resnet", "--results", file]) == 2
    assert "there is no network 'resnet'" in capsys.readouterr().err


def test_the_table() -> None:
    results = [
        result("seed", (2, 300), (40, 380)),
        result("swift", (3, 300), (10, 380)),
        result("autoquant", (12, 320)),
        result("seed", (2, 300), network="gru"),
        result("swift", network="gru"),
    ]
    rows = rows_of(results)
    assert [(row.network, row.strategy, row.minutes) for row in rows] == [
        ("demo", "baseline", None),
        ("demo", "seed", 40 / 60),
        ("demo", "swift", 10 / 60),
        ("demo", "autoquant", None),
        ("gru", "baseline", 2 / 60),
        ("gru", "seed", 2 / 60),
        ("gru", "swift", None),
    ]
    text = markdown(results)
    assert "| demo CNN, S3 | top1 | 99.00 / 98.00 | baseline | 75.00 (" in text
    assert "|  |  |  | swift | 95.00 (" in text and "0.2 of 1 | 1.5 |" in text
    assert "- gru, swift: IterationError: no luck" in text
    assert "swift against autoquant, held out, on 1 networks: better on 1 (demo)" in text
    assert "load of the machine, 1 minute: median 2.0, 1.0 to 3.0" in text
    plain: Any = json.loads(json.dumps(to_json(results), allow_nan=False))
    assert plain["duels"][0]["ratios"] == {"demo": 0.25, "gru": None}
    assert plain["duels"][0]["shares"] == {"demo": 10 / 60, "gru": None}
    assert "it took more than all of the time" in text


def test_the_short_table() -> None:
    results = [
        result("seed", (2, 300), (40, 380)),
        result("autoquant", (12, 378)),
        result("seed", (2, 300), network="gru"),
        result("autoquant", network="gru"),
        result("seed", (2, 300), network="crepe"),
        Result("crepe", "autoquant", 60.0, error=f"{NOTHING} 60 s"),
    ]
    lines = front(results).splitlines()
    assert lines[0].endswith("| float | esp-ppq's default | AutoQuant | `--strategy seed` |")
    assert lines[2] == "| demo CNN, S3 | top1 | 98.00 | 75.00 | **94.50** | **95.00** |"
    assert lines[3].endswith("| 98.00 | **75.00** | fails | **75.00** |")
    assert "none in time" in lines[4]


def test_one_strategy_against_another() -> None:
    results = [
        result("seed", (2, 300), (40, 380)),
        result("swift", (3, 379), (10, 381)),
        result("seed", (30, 300), network="gru"),
        result("swift", (3, 380), network="gru"),
        result("seed", (30, 380), network="crepe"),
        result("swift", (3, 300), network="crepe"),
    ]
    held = duel(results, "swift", "seed")
    assert (held.better, held.alike, held.worse) == (("gru",), ("demo",), ("crepe",))
    assert held.ratios == {"demo": 3 / 40, "gru": 0.1, "crepe": float("inf")}
    assert held.median == 0.1
    assert held.shares == {"demo": 3 / 60, "gru": 3 / 60, "crepe": float("inf")}
    assert held.median_share == 3 / 60


@pytest.mark.parametrize("kind", ["wall", "cpu"])
def test_a_clock_ends_what_runs_and_may_pause(kind: str) -> None:
    clock = Clock(0.1, kind)

    def work() -> None:
        since = time.process_time()
        while time.process_time() - since < 0.15:
            pass

    with pytest.raises(TimeUpError), clock:
        clock.outside(work)
        assert clock.seconds < 0.1
        if kind == "cpu":
            # What others do meanwhile does not count.
            time.sleep(0.15)
        for _ in range(20):
            work()
    assert 0.1 <= clock.seconds < 3


def test_every_contract_is_there() -> None:
    for network in NETWORKS.values():
        assert network.contract.is_file(), network.name
        assert network.missing() or all(name.startswith("ESPDL_") for name in network.needs)


def test_tones_have_the_pitch_that_they_are_said_to_have() -> None:
    sounds, frequencies = tones(40, 4096, 5)
    assert (tones(40, 4096, 5)[0] == sounds).all()
    spectra = np.abs(np.fft.rfft(sounds * np.hanning(4096), axis=1))
    strongest = spectra.argmax(1) * RATE / 4096
    # The fundamental is the strongest harmonic.
    assert np.abs(strongest - frequencies).max() < 1.5 * RATE / 4096
