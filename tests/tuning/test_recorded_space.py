"""The search on a space that the real engine recorded on the demo: see benchmarks/record.py."""

from pathlib import Path

import pytest

from benchmarks.policies import SHARE, best_known_gain, replay, replay_alone
from espdl_quantize.search.policies import POLICIES
from espdl_quantize.tuning import Budget, RecordedBackend, TuneOptions, tune
from tests.search.made_runs import known

TABLE = Path(__file__).parent.parent.parent / "benchmarks/recorded/fashion_mnist_esp32s3.zip"


def test_the_levers_bring_back_most_of_what_is_known(tmp_path: Path) -> None:
    result = tune(RecordedBackend(TABLE), tmp_path, TuneOptions(Budget(10), ignore_plateau=True))
    first, best = known(result.history.get(0)), known(result.history.best)
    gain = known(best.value) - known(first.value)
    assert gain >= SHARE * best_known_gain(TABLE)
    # What the real search did, iteration by iteration.
    assert [row.value for row in result.history.iterations][:5] == [73.5, 86.5, 87.1, 87.5, 88.7]


def test_a_search_in_two_parts_ends_like_one_in_one(tmp_path: Path) -> None:
    whole = tune(RecordedBackend(TABLE), tmp_path / "a", TuneOptions(Budget(8)))
    tune(RecordedBackend(TABLE), tmp_path / "b", TuneOptions(Budget(3)))
    parts = tune(RecordedBackend(TABLE), tmp_path / "b", TuneOptions(Budget(5)))
    one, other = (
        [(row.id, row.value, row.setting) for row in result.history.iterations]
        for result in (whole, parts)
    )
    assert one == other


@pytest.mark.parametrize("policy", POLICIES)
def test_every_policy_finds_most_of_it_alone(policy: str) -> None:
    trace = replay_alone(TABLE, policy, 0, 8)
    assert len(trace.gains) == 8
    assert trace.gains[-1] >= SHARE * best_known_gain(TABLE)


def test_the_same_seed_gives_the_same_search() -> None:
    assert replay(TABLE, "optuna", 3, 12) == replay(TABLE, "optuna", 3, 12)
