"""Random metrics: what must hold however a network answers."""

from __future__ import annotations

import tempfile
from pathlib import Path
from typing import Any

from hypothesis import given
from hypothesis import strategies as st

from espdl_quantize.core import IterationError
from espdl_quantize.record import read_history
from espdl_quantize.search.policies import POLICIES
from espdl_quantize.setting import setting_key
from espdl_quantize.tuning import Budget, TuneOptions, tune
from tests.matrix import examples
from tests.search.made_runs import known
from tests.tuning.fake_backend import FakeBackend, hashed

VALUES = st.lists(
    st.one_of(st.none(), st.sampled_from([0.0, 0.5, 0.7]), st.floats(-2, 2, allow_nan=False)),
    min_size=1,
    max_size=8,
)


def run(backend: FakeBackend, options: TuneOptions) -> None:
    """Search, and check what holds in the end, also after a search that gave up."""
    with tempfile.TemporaryDirectory() as folder:
        outputs = Path(folder)
        try:
            result = tune(backend, outputs, options, clock=backend.clock)
        except IterationError:
            result = None
        past = read_history(outputs)
        keys = [setting_key(known(row.setting)) for row in past.iterations]
        assert len(set(keys)) == len(keys) == len(backend.runs)
        assert [row.id for row in past.iterations] == list(range(len(keys)))
        if past.best is None:
            assert result is None
            assert not (outputs / "best").exists()
            return
        assert past.ranks[past.best.id] == 1
        index = (outputs / "best/iteration_index.json").read_text()
        assert f'"iteration_id": {past.best.id},' in index
        if result is not None:
            assert (outputs / "final_report.md").exists()
            limit = options.budget.iterations
            assert limit is None or len(keys) <= limit


@given(VALUES, st.text(max_size=3), st.sampled_from(["max", "min"]))
@examples(6, whole=40)
def test_without_a_budget_the_search_ends(values: Any, salt: Any, direction: Any) -> None:
    run(FakeBackend(score=hashed(values, salt), direction=direction), TuneOptions())


@given(VALUES, st.text(max_size=3), st.sampled_from(list(POLICIES)), st.integers(1, 18))
@examples(6, whole=40)
def test_every_policy_keeps_to_the_budget(
    values: Any, salt: Any, policy: Any, iterations: Any
) -> None:
    options = TuneOptions(Budget(iterations), policy=policy, ignore_plateau=True)
    run(FakeBackend(score=hashed(values, salt)), options)


@given(VALUES, st.text(max_size=3), st.floats(1, 3000))
@examples(5, whole=40)
def test_time_is_not_overrun_by_what_was_foreseen(values: Any, salt: Any, seconds: Any) -> None:
    backend = FakeBackend(score=hashed(values, salt))
    run(backend, TuneOptions(Budget(seconds=seconds)))
    # What was never measured can take longer: the baseline, the first training, blockwise.
    assert backend.seconds <= seconds + 60 + 0.12 * 500 + 0.1 * 5000
