"""Two output folders side by side, and a folder rendered again."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

import espdl_quantize as eq
from espdl_quantize.core import OutputFolderError
from espdl_quantize.record import Evidence, History, LayerError
from espdl_quantize.report import compare, diff_folders, folder_names, render_again
from tests.report.test_html import NASTY, Outline
from tests.search.made_runs import (
    SWEEP,
    evidence,
    history,
    run,
    swept,
    trained,
    write_cost,
    write_run,
)

WIDE = trained(dispatching_table=[{"op": "conv0", "bits": 16}])


def write(outputs: Path, past: History, found: Evidence | None = None, **index: Any) -> None:
    for row in past.iterations:
        write_run(outputs, row, found, **index)


def command(*arguments: object) -> subprocess.CompletedProcess[str]:
    words = [sys.executable, "-m", "espdl_quantize", *map(str, arguments)]
    return subprocess.run(words, capture_output=True, text=True, check=False)


@pytest.fixture
def pair(tmp_path: Path) -> tuple[Path, Path]:
    first, second = tmp_path / "s3", tmp_path / "p4"
    write(first, swept(*SWEEP), evidence(), target_chip="esp32s3")
    write(second, swept(*SWEEP, rest=((0.76, WIDE),)), evidence(), target_chip="esp32p4")
    write_cost(first / "iter_2", 10.0, chip="esp32s3")
    write_cost(second / "iter_4", 5.0)
    return first, second


def test_what_differs_is_told(pair: tuple[Path, Path]) -> None:
    compared = diff_folders(*pair)
    facts = {fact.name: fact for fact in compared.facts}
    assert (facts["chip"].first, facts["chip"].second) == ("esp32s3", "esp32p4")
    assert (facts["best"].first, facts["best"].second, facts["best"].change) == (
        "0.7",
        "0.76",
        "+0.06",
    )
    assert facts["predicted time"].change == "-50.0%"
    assert facts["ops set to int16"].second == "1"
    assert "+int16 on conv0" in facts["setting of best"].change
    assert compared.verdict == "top1 0.7 -> 0.76: the second is better, noise unknown."
    assert [shared.first for shared in compared.settings] == list(SWEEP)
    same = diff_folders(pair[0], pair[0])
    assert same.verdict.endswith("the same.")
    assert not any(fact.is_different for fact in same.facts)


def test_a_metric_to_be_lowered_and_another_metric(tmp_path: Path) -> None:
    for name, scores, metric in (("a", (0.5, 0.3), "mse"), ("b", (0.5, 0.4), "mse")):
        write(tmp_path / name, swept(*scores, direction="min", metric=metric))
    write(tmp_path / "c", swept(0.5))
    assert "the second is worse" in diff_folders(tmp_path / "a", tmp_path / "b").verdict
    assert "do not compare" in diff_folders(tmp_path / "a", tmp_path / "c").verdict


def test_known_noise_is_counted_in_although_both_have_the_same_number(tmp_path: Path) -> None:
    facts: dict[str, Any] = {"sample_count": 200, "metric_unit": "fraction"}
    for name, score in (("a", 0.70), ("b", 0.71), ("c", 0.95)):
        write(tmp_path / name, swept(score), evaluated_by="evaluate", **facts)
    assert "within noise" in diff_folders(tmp_path / "a", tmp_path / "b").verdict
    assert "is better, difference +0.25" in diff_folders(tmp_path / "a", tmp_path / "c").verdict


@pytest.mark.parametrize("rows", [(), (run(0, None),)])
def test_folders_without_a_score(tmp_path: Path, rows: tuple[Any, ...]) -> None:
    write(tmp_path / "a", history(*rows))
    write(tmp_path / "b", swept(*SWEEP), evidence())
    (tmp_path / "a").mkdir(exist_ok=True)
    compared = diff_folders(tmp_path / "a", tmp_path / "b")
    assert compared.verdict == "No iteration of the first folder has a score."
    Outline(compared.html())
    json.dumps(compared.to_json())


def test_hostile_names_are_text(tmp_path: Path) -> None:
    artifacts = evidence(layerwise=(LayerError(NASTY, 0.4),))
    write(tmp_path / "a", swept(*SWEEP), artifacts, model_name=NASTY)
    text = diff_folders(tmp_path / "a", tmp_path / "a").html()
    outline = Outline(text)
    assert not outline.named("img") + outline.named("b")
    assert "alert(1)" in outline.text
    # Without charts there is no library of charts in it.
    assert len(text) < 100_000


def test_the_command(pair: tuple[Path, Path], tmp_path: Path) -> None:
    page = tmp_path / "diff.html"
    done = command("diff", *pair, "--html", page)
    assert done.returncode == 0, done.stderr
    assert done.stdout.splitlines()[-1] == diff_folders(*pair).verdict
    assert "s3 against p4" in Outline(page.read_text("utf-8")).text
    told = json.loads(command("diff", *pair, "--json").stdout)
    assert told["ok"] and told["facts"][1]["differs"]
    missing = command("diff", pair[0], tmp_path / "none", "--json")
    assert missing.returncode == 7
    assert json.loads(missing.stdout)["ok"] is False
    assert command("diff", *pair, "--html", tmp_path).returncode == 1


def test_from_python(pair: tuple[Path, Path]) -> None:
    compared = eq.diff(*pair)
    assert "esp32s3" in compared._repr_html_()
    assert compared.content.verdict in repr(compared)


def test_names_are_as_long_as_they_have_to_be(tmp_path: Path) -> None:
    assert folder_names((Path("/x/a"), Path("/x/b"))) == ("a", "b")
    assert folder_names((Path("/x/out"), Path("/y/out"))) == ("x/out", "y/out")


def test_a_report_is_rendered_again_with_the_reason_it_had(tmp_path: Path) -> None:
    write(tmp_path, swept(*SWEEP), evidence())
    compare(tmp_path, run_stop="budget_reached")
    first = (tmp_path / "report.html").read_text("utf-8")
    (tmp_path / "report.html").unlink()
    done = command("report", tmp_path)
    assert done.returncode == 0, done.stderr
    assert (tmp_path / "report.html").read_text("utf-8") == first
    assert "The budget is spent" in first
    # Once more was run, it is no longer known to have ended.
    (tmp_path / "iter_3").rename(tmp_path / "gone")
    rendered = render_again(tmp_path)
    assert rendered.report is None
    assert "The budget is spent" not in rendered.html.read_text("utf-8")


def test_a_folder_without_iterations_is_no_report(tmp_path: Path) -> None:
    with pytest.raises(OutputFolderError, match="holds no iteration"):
        render_again(tmp_path)
    assert list(tmp_path.iterdir()) == []


def test_a_damaged_comparison_is_no_obstacle(tmp_path: Path) -> None:
    write(tmp_path, swept(*SWEEP), evidence())
    (tmp_path / "comparison.json").write_text('{"iterations": 3')
    assert render_again(tmp_path).html.is_file()
