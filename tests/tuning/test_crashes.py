"""Passes that crash: what the search does without them, and that it never begins a third time."""

from __future__ import annotations

import json
import tempfile
from collections import Counter
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from espdl_quantize.core import SHELL, EspdlQuantizeError, FailedPass, IterationError, PassError
from espdl_quantize.record import History, read_history
from espdl_quantize.report import compare
from espdl_quantize.search import SearchState, lint_setting
from espdl_quantize.search.policies import POLICIES
from espdl_quantize.setting import PASSES, Setting, canonical, setting_key
from espdl_quantize.tuning import (
    BUDGET_RULE,
    Budget,
    SearchInterrupt,
    TuneOptions,
    TuneResult,
    tune,
)
from tests.matrix import examples
from tests.search.made_runs import known, trained
from tests.tuning.fake_backend import FakeBackend

BLOCKS = (("conv0", "conv1"), ("conv2", "conv3"), ("conv4", "conv5"))
TRAININGS = ("tqt_optimization", "blockwise_reconstruction")
BY_BLOCK = (*TRAININGS, "bias_correct")
Fault = Callable[[Setting], EspdlQuantizeError | None]


def crash(field: str, block: int | None = None, cause: str = "KeyError: ''") -> PassError:
    """A crash as the quantizer tells it, in a block or nobody knows where."""
    if block is None:
        return PassError(f"esp-ppq's pass {field!r} fails: {cause}", "", FailedPass(field, field))
    layers = BLOCKS[block]
    others = tuple(op for at, ops in enumerate(BLOCKS) if at != block for op in ops)
    place = f"the block {layers[0]} to {layers[-1]}"
    told = f"esp-ppq's pass {field!r} fails at {place}: {cause} in op {layers[0]}"
    return PassError(told, "", FailedPass(field, field, place, layers, others))


def in_blocks(field: str, *blocks: int) -> Fault:
    """A pass that crashes alike in some blocks, wherever it is on one of their layers."""

    def fault(setting: Setting) -> PassError | None:
        section = getattr(setting, field)
        if section is None or not section.enabled:
            return None
        layers = section.interested_layers
        hit = [at for at in blocks if layers is None or {*BLOCKS[at]} & {*layers}]
        return crash(field, hit[0]) if hit else None

    return fault


def search(outputs: Path, fault: Fault, **options: Any) -> TuneResult:
    backend = FakeBackend(fault=fault)
    return tune(backend, outputs, TuneOptions(**options), clock=backend.clock)


def uses(setting: Setting | None, field: str) -> bool:
    return setting is not None and field in canonical(setting)


def test_the_sweep_leaves_out_the_block_that_crashed_and_covers_its_points(tmp_path: Path) -> None:
    result = search(tmp_path, in_blocks("tqt_optimization", 1), budget=Budget(9))
    history = result.history
    assert [row.id for row in history.failed] == [1]
    for row, calibration in zip(history.iterations[2:4], ("mse", "percentile"), strict=True):
        setting = known(row.setting)
        assert setting.calib_algorithm == calibration
        layers = known(setting.tqt_optimization).interested_layers
        assert layers == ["conv0", "conv1", "conv4", "conv5"]
        assert "Left out: the block conv2 to conv3" in setting.rationale
    # Both covered their points, so that phase 3 came next.
    assert "Lever" in known(history.iterations[4].setting).rationale
    report = (tmp_path / "final_report.md").read_text()
    assert "ran against the rule" not in report
    assert "is proposed without the block conv2 to conv3" in report
    assert "is proposed without the block conv2 to conv3" in (tmp_path / "report.html").read_text()


def test_after_two_crashes_alike_the_sweep_ends_and_the_search_does_without(tmp_path: Path) -> None:
    result = search(tmp_path, in_blocks("tqt_optimization", 0, 1, 2), budget=Budget(9))
    history = result.history
    assert [row.id for row in history.iterations if uses(row.setting, "tqt_optimization")] == [1, 2]
    assert result.iterations_run == 9
    hint = result.comparison.comparison.to_json()["next_step_hint"]
    told = "tqt_optimization crashed alike in iter_1 and iter_2 and is not proposed any more"
    assert any(note.startswith(told) for note in hint["notes"])
    assert any(told in line for line in compare(tmp_path).lines)
    (passed,) = [one for one in hint["crashed_passes"] if one["pass"] == "tqt_optimization"]
    assert (passed["iterations"], passed["is_retired"]) == ([1, 2], True)
    assert told in (tmp_path / "final_report.md").read_text()


def test_a_crash_whose_place_is_not_known_is_seen_twice_and_not_again(tmp_path: Path) -> None:
    def fault(setting: Setting) -> PassError | None:
        return crash("tqt_optimization") if uses(setting, "tqt_optimization") else None

    history = search(tmp_path, fault, budget=Budget(8)).history
    assert [row.id for row in history.failed] == [1, 2]


LEVERS = 31
"""Iterations that it takes to come past the second try of a lever, which is the 28th."""


def test_a_lever_whose_pass_crashed_twice_alike_is_skipped_with_the_reason(tmp_path: Path) -> None:
    def fault(setting: Setting) -> PassError | None:
        return crash("equalization") if uses(setting, "equalization") else None

    history = search(tmp_path, fault, budget=Budget(LEVERS), ignore_plateau=True).history
    assert len([row for row in history.iterations if uses(row.setting, "equalization")]) == 2
    again = trained("mse", equalization={"enabled": True, "opt_level": 1})
    broken = lint_setting(again, SearchState.of(history))
    assert "crashed-pass" in {violation.rule for violation in broken}


def test_one_block_alone_leaves_nothing_to_train(tmp_path: Path) -> None:
    def fault(setting: Setting) -> PassError | None:
        where = FailedPass("tqt", "tqt_optimization", "op conv0", ("conv0",), ())
        return PassError("boom", "", where) if uses(setting, "tqt_optimization") else None

    history = search(tmp_path, fault, budget=Budget(6)).history
    assert [row.id for row in history.iterations if uses(row.setting, "tqt_optimization")] == [1]


def test_two_crashes_alike_before_any_score_end_the_search_and_resuming_trains_no_more(
    tmp_path: Path,
) -> None:
    def fault(setting: Setting) -> EspdlQuantizeError | None:
        if uses(setting, "tqt_optimization"):
            return crash("tqt_optimization")
        return IterationError("the data is not there")

    with pytest.raises(IterationError, match="iter_1 and iter_2 failed alike"):
        search(tmp_path, fault)
    with pytest.raises(IterationError):
        search(tmp_path, fault)
    rows = read_history(tmp_path).iterations
    assert [row.id for row in rows if uses(row.setting, "tqt_optimization")] == [1, 2]
    assert [len(row.attempts) for row in rows[:3]] == [1, 0, 0]
    # Once the data is there, the baseline runs in its place and the rest without TQT.
    history = search(tmp_path, in_blocks("tqt_optimization", 0, 1, 2), budget=Budget(3)).history
    assert history.iterations[0].value is not None
    trainings = [row.id for row in history.iterations if uses(row.setting, "tqt_optimization")]
    assert trainings == [1, 2]


def test_a_repaired_crash_counts_no_more(tmp_path: Path) -> None:
    search(tmp_path, in_blocks("tqt_optimization", 0, 1, 2), budget=Budget(5))
    for number in (1, 2):
        setting = known(known(read_history(tmp_path).get(number)).setting)
        FakeBackend().run(setting, tmp_path / f"iter_{number}", None)
    result = search(tmp_path, lambda setting: None, budget=Budget(1))
    assert [len(row.attempts) for row in result.history.iterations[1:3]] == [1, 1]
    hint = result.comparison.comparison.to_json()["next_step_hint"]
    assert hint["crashed_passes"] == []
    assert known(result.history.iterations[-1].setting).tqt_optimization is not None


def test_attempts_stay_on_record_and_are_shown_everywhere(tmp_path: Path) -> None:
    backend = FakeBackend(fault=in_blocks("tqt_optimization", 1))
    tune(backend, tmp_path, TuneOptions(Budget(2)))
    failed = known(known(read_history(tmp_path).get(1)).setting)
    for _ in range(13):
        with pytest.raises(PassError):
            backend.run(failed, tmp_path / "iter_1", None)
    FakeBackend().run(failed, tmp_path / "iter_1", None)
    attempts = known(read_history(tmp_path).get(1)).attempts
    assert len(attempts) == 10
    assert known(attempts[-1].failure.failed_pass).layer == "the block conv2 to conv3"
    assert known(attempts[-1].seconds) > 0
    result = compare(tmp_path, finalize=True)
    row = result.comparison.to_json()["iterations"][1]
    assert row["status"] == "ok"
    assert len(row["attempts"]) == 10
    assert row["attempts"][0]["pass"] == "tqt_optimization"
    assert any("iter_1" in line and "10 failed attempts" in line for line in result.lines)
    assert "10 failed attempts" in (tmp_path / "final_report.md").read_text()
    assert "10 failed attempts" in (tmp_path / "report.html").read_text()
    index = json.loads((tmp_path / "iter_1/iteration_index.json").read_text())
    assert len(json.dumps(index["attempts"])) < 50_000


def test_a_repetition_in_place_does_not_count_again(tmp_path: Path) -> None:
    assert BUDGET_RULE.startswith("A failed iteration counts;")
    broken = {0: IterationError("cause A"), 1: IterationError("cause B")}
    with pytest.raises(IterationError, match="no iteration has a score"):
        tune(FakeBackend(scripted=broken), tmp_path, TuneOptions(Budget(2)))
    assert len(read_history(tmp_path).iterations) == 2
    # Two repetitions, and then as many new ones as the budget says, across an interruption, too.
    interrupted = FakeBackend(scripted={3: KeyboardInterrupt()})
    with pytest.raises(SearchInterrupt) as caught:
        tune(interrupted, tmp_path, TuneOptions(Budget(3)))
    spent = SHELL.spell(caught.value.spent.describe())
    assert spent == "1 of 3 iterations were done; for the rest: --iterations 2"
    result = tune(FakeBackend(), tmp_path, TuneOptions(Budget(2)))
    assert [row.id for row in result.history.iterations] == [0, 1, 2, 3, 4]
    assert result.category == "budget_reached"


def test_a_folder_without_the_new_fields_is_read_ranked_and_resumed(tmp_path: Path) -> None:
    """As earlier versions wrote it: an error of stage, cause and fix."""
    scripted = {1: IterationError("esp-ppq's pass 'tqt' fails: KeyError: ''")}
    tune(FakeBackend(scripted=scripted), tmp_path, TuneOptions(Budget(3)))
    history = read_history(tmp_path)
    assert known(known(history.get(1)).failure).failed_pass is None
    result = search(tmp_path, lambda setting: None, budget=Budget(2))
    assert [row.id for row in result.history.iterations] == [0, 1, 2, 3, 4]
    assert (
        known(known(known(result.history.get(3)).setting).tqt_optimization).interested_layers
        is None
    )


_ITERATIONS = 10

FAULTS = st.lists(
    st.one_of(
        st.none(),
        st.tuples(
            st.sampled_from([*BY_BLOCK, "equalization", "weight_split"]),
            st.sampled_from([None, 0, 1, 2]),
            st.sampled_from(["KeyError: ''", "RuntimeError: shape 3", "MemoryError"]),
        ),
    ),
    min_size=1,
    max_size=6,
)


def scripted_by(outcomes: list[Any], salt: str, always: bool) -> Fault:
    """The same setting fails alike each time; other settings as chance has it."""

    def fault(setting: Setting) -> EspdlQuantizeError | None:
        at = int(setting_key(setting)[:8], 16) + len(salt) * 7919
        outcome = outcomes[at % len(outcomes)]
        if outcome is None:
            return None
        field, block, cause = outcome
        if not uses(setting, field):
            return IterationError(f"boom {cause}") if always else None
        if field not in BY_BLOCK:
            return crash(field, None, cause)
        layers = getattr(setting, field).interested_layers
        if block is not None and layers is not None and not {*layers} & {*BLOCKS[block]}:
            return None
        return crash(field, block, cause)

    return fault


def crashed_trainings(history: History) -> Counter[tuple[str, str]]:
    failures = [
        failure
        for row in history.iterations
        for failure in (row.failure, *(attempt.failure for attempt in row.attempts))
        if failure is not None and failure.failed_pass is not None
    ]
    return Counter(
        (failure.failed_pass.field, failure.kind_of_cause)
        for failure in failures
        if failure.failed_pass is not None
    )


def run_to_the_end(
    outputs: Path, fault: Fault, policy: str, interrupts: frozenset[int]
) -> list[tuple[int, str]]:
    """Search, and go on after each interruption; return the iterations."""
    backend = FakeBackend(fault=fault, scripted={at: KeyboardInterrupt() for at in interrupts})
    options = TuneOptions(Budget(_ITERATIONS), policy=policy, ignore_plateau=True)
    for _ in range(len(interrupts) + 1):
        try:
            tune(backend, outputs, options, clock=backend.clock)
        except KeyboardInterrupt as interrupt:
            left = str(interrupt).rpartition(" ")[2]
            options = TuneOptions(Budget(int(left)), policy=policy, ignore_plateau=True)
            continue
        except IterationError:
            pass
        break
    rows = read_history(outputs).iterations
    return [(row.id, setting_key(row.setting)) for row in rows if row.setting]


@given(
    FAULTS,
    st.text(max_size=3),
    st.booleans(),
    st.sampled_from([name for name in POLICIES if name != "optuna"]),
    st.frozensets(st.integers(0, 20), max_size=3),
)
@examples(3, whole=15)
def test_no_sequence_of_failures_trains_a_third_time_for_one_cause(
    outcomes: list[Any], salt: str, always: bool, policy: str, interrupts: frozenset[int]
) -> None:
    fault = scripted_by(outcomes, salt, always)
    with tempfile.TemporaryDirectory() as folder:
        whole, resumed = Path(folder) / "whole", Path(folder) / "resumed"
        expected = run_to_the_end(whole, fault, policy, frozenset())
        assert run_to_the_end(resumed, fault, policy, interrupts) == expected
        for outputs in (whole, resumed):
            counts = crashed_trainings(read_history(outputs))
            assert all(count <= 2 for count in counts.values()), counts
        assert len(expected) <= _ITERATIONS


@pytest.mark.parametrize(
    "page",
    [
        "docs/how-to/budgets.md",
        "docs/how-to/resume.md",
        "skill/espdl-quantize/SKILL.md",
        "skill/espdl-quantize/references/troubleshooting.md",
        "src/espdl_quantize/cli/tune.py",
    ],
)
def test_the_rule_of_the_budget_is_the_same_sentence_everywhere(page: str) -> None:
    text = " ".join((Path(__file__).parents[2] / page).read_text(encoding="utf-8").split())
    assert BUDGET_RULE in text
    # No second wording beside it.
    assert "Failed iterations count" not in text


def test_every_pass_of_a_setting_can_be_told_by_its_name() -> None:
    from espdl_quantize.ppq import field_of_pass

    names: tuple[str, ...] = ("tqt", "lsq", "block-wise adaround reconstruction", "bias correction")
    names += ("layerwise equalization", "layer split(lateral)", "channelwise split")
    names += ("exponent search",)
    assert {field_of_pass(name) for name in names} == set(PASSES)
    assert field_of_pass("quantize simplify") == ""
