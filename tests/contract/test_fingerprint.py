from pathlib import Path

import pytest

from espdl_quantize.contract import Origin, Overrides, common_origin, load_contract
from tests.contracts import CONFIG, EVALUATE, write_contract

TARGETS = ("esp32s3", "esp32p4")


def fingerprint(folder: Path, **parts: object) -> str:
    return load_contract(write_contract(folder, **parts), TARGETS).fingerprint  # type: ignore[arg-type]


@pytest.mark.parametrize(
    "parts",
    [
        {"config": {**CONFIG, "calib_steps": 2}},
        {"config": {**CONFIG, "primary_metric": "top5"}},
        {"evaluate": "return {'top1': 1.0}"},
        {"calibration": "return []"},
        {"extra": "def evaluate_fast(quant_graph):\n    return {'top1': 1.0}\n"},
    ],
)
def test_what_the_scores_depend_on_changes_it(tmp_path: Path, parts: dict[str, object]) -> None:
    assert fingerprint(tmp_path) != fingerprint(tmp_path, **parts)


@pytest.mark.parametrize(
    "parts",
    [
        {"config": {**CONFIG, "target_metric": 0.9}},
        {"config": {**CONFIG, "target": "esp32p4", "deploy_runtime_priority": "speed"}},
        {"prelude": "# a remark\n\n"},
        {"evaluate": EVALUATE.replace("import agreement", "import agreement  # of both")},
    ],
)
def test_a_higher_target_or_a_remark_leaves_it(tmp_path: Path, parts: dict[str, object]) -> None:
    assert fingerprint(tmp_path) == fingerprint(tmp_path, **parts)


def test_a_version_of_esp_dl_changes_it_wherever_it_is_named(tmp_path: Path) -> None:
    plain = fingerprint(tmp_path)
    assert plain == fingerprint(tmp_path, config={**CONFIG, "esp_dl_version": None})
    named = fingerprint(tmp_path, config={**CONFIG, "esp_dl_version": "3.3.9"})
    assert plain != named
    path = write_contract(tmp_path)
    assert load_contract(path, TARGETS, Overrides(esp_dl_version="3.3.9")).fingerprint == named
    path = write_contract(tmp_path, config={**CONFIG, "esp_dl_version": "3.2.0"})
    assert load_contract(path, TARGETS, Overrides(esp_dl_version="3.3.9")).config.esp_dl == (
        3,
        3,
        9,
    )


def test_a_hash_sign_in_a_string_is_no_comment(tmp_path: Path) -> None:
    first = fingerprint(tmp_path, evaluate="return {'top1': len('# a')}")
    assert first != fingerprint(tmp_path, evaluate="return {'top1': len('# ab')}")


def test_what_is_not_said_conflicts_with_nothing() -> None:
    old, new = Origin("esp32s3"), Origin("esp32s3", "k1")
    assert old.conflicts(new) == new.conflicts(old) == []
    (conflict,) = new.conflicts(Origin("a chip with a long name", "k1"))
    assert conflict.shown() == ("'esp32s3'", "'a chip with a long name'")
    (conflict,) = new.conflicts(Origin("esp32s3", "b" * 64))
    assert conflict.shown() == ("k1", "b" * 12)


def test_later_origins_fill_the_gaps_of_the_first() -> None:
    for mine, theirs in (("3.3.9", None), (None, "3.3.9"), ("3.3.8", "3.3.9")):
        (conflict,) = Origin("c", "k1", mine).conflicts(Origin("c", "k2", theirs))
        assert conflict.is_of_versions
        assert conflict.shown() == (mine or "none", theirs or "none")
        assert Origin("c", "k1", mine).conflicts(Origin("c", "k1", theirs)) == []
    origins = [Origin("a"), Origin("b", "k0"), Origin("a", "k1"), Origin("a", "k2")]
    assert common_origin(origins) == Origin("a", "k1")
    assert common_origin([]) == Origin()
