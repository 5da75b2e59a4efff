"""``front/``: whole or absent, stale ones go, the user's files stay."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from espdl_quantize.record import read_history
from espdl_quantize.report import compare, write_front
from tests.search.made_runs import make, run, trained, write_cost, write_run

WIDE = make(dispatching_table=[{"op": "conv0", "bits": 16}])


@pytest.fixture
def outputs(tmp_path: Path) -> Path:
    """Three iterations on the front, of which the slowest is best."""
    for row, ms in ((run(0, 0.5), 10.0), (run(1, 0.6, trained()), 15.0), (run(2, 0.7, WIDE), 20.0)):
        write_cost(write_run(tmp_path, row), ms, wide=("conv0",) if row.id == 2 else ())
    return tmp_path


def names(folder: Path) -> set[str]:
    return {entry.name for entry in folder.iterdir()}


def test_best_and_the_others(outputs: Path) -> None:
    result = compare(outputs, write_best=True)
    assert names(outputs / "front") == {"front.json", "iter_0", "iter_1"}
    for number in (0, 1):
        copied = outputs / f"front/iter_{number}"
        assert {"model.espdl", "setting.json", "chip_cost.json"} <= names(copied)
        original = outputs / f"iter_{number}/model.espdl"
        assert (copied / "model.espdl").read_bytes() == original.read_bytes()
    assert not (copied / "model.espdl").is_symlink()
    content = result.comparison.to_json()
    assert content["front"] == [0, 1, 2]
    assert content["iterations"][2]["cost"]["relative_time"] == 2.0
    assert any("20 ms" in line and "KiB" in line for line in result.lines)


def test_the_reports_show_costs_and_the_front(outputs: Path) -> None:
    compare(outputs, finalize=True, force_finalize=True)
    for name in ("final_report.md", "report.html"):
        text = (outputs / name).read_text()
        assert "predicted ms" in text.lower()
        assert "20 (16 to 25)" in text
        assert "The front of accuracy and time" in text
    figures = (outputs / "report.html").read_text()
    assert '"error_x"' in figures


def test_stale_ones_go_and_the_users_files_stay(outputs: Path) -> None:
    compare(outputs, write_best=True)
    front = outputs / "front"
    (front / "notes.txt").write_text("mine")
    (front / "iter_1/mine.txt").write_text("mine")
    write_cost(write_run(outputs, run(3, 0.9, trained("kl"))), 10.0)
    compare(outputs, write_best=True)
    assert names(front) == {"front.json", "notes.txt", "iter_1"}
    assert names(front / "iter_1") == {"mine.txt"}
    (front / "notes.txt").unlink()
    (front / "iter_1/mine.txt").unlink()
    compare(outputs, write_best=True)
    assert not front.exists()


def test_a_foreign_folder_is_moved_aside(outputs: Path) -> None:
    (outputs / "front").mkdir()
    (outputs / "front/mine.txt").write_text("mine")
    lines = compare(outputs, write_best=True).lines
    assert (outputs / "front.foreign-1/mine.txt").read_text() == "mine"
    assert any("front.foreign-1" in line for line in lines)


def test_a_link_is_not_followed(outputs: Path, tmp_path_factory: pytest.TempPathFactory) -> None:
    elsewhere = tmp_path_factory.mktemp("elsewhere")
    (elsewhere / "front.json").write_text("{}")
    (outputs / "front").symlink_to(elsewhere)
    compare(outputs, write_best=True)
    assert names(elsewhere) == {"front.json"}
    assert (outputs / "front/iter_0").is_dir()


def test_a_killed_writer_leaves_no_half_front(outputs: Path) -> None:
    compare(outputs, write_best=True)
    (outputs / ".front.new/iter_0").mkdir(parents=True)
    (outputs / "front").rename(outputs / ".front.old")
    rows = {row.id: row for row in read_history(outputs).iterations}
    write_front(outputs, [rows[0]])
    assert names(outputs / "front") == {"front.json", "iter_0"}
    assert json.loads((outputs / "front/front.json").read_text()) == {"iterations": [0]}
    assert not (outputs / ".front.new").exists()


def test_without_costs_there_is_no_front(tmp_path: Path) -> None:
    write_run(tmp_path, run(0, 0.5))
    compare(tmp_path, write_best=True)
    assert not (tmp_path / "front").exists()


def test_a_missing_model_is_named(outputs: Path) -> None:
    (outputs / "iter_0/model.espdl").unlink()
    lines = compare(outputs, write_best=True).lines
    assert any("front/iter_0 has no model.espdl" in line for line in lines)
