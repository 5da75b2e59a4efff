from __future__ import annotations

import json
from pathlib import Path

from espdl_quantize.report import compare
from tests.search.made_runs import EQUALIZED, SWEEP, run, swept, trained, write_history, write_run


def test_best_is_a_real_copy_and_follows_the_best(tmp_path: Path) -> None:
    past = swept(*SWEEP)
    write_history(tmp_path, past)
    compare(tmp_path, write_best=True)
    model = tmp_path / "best" / "model.espdl"
    assert not model.is_symlink()
    assert model.stat().st_ino != (tmp_path / "iter_2" / "model.espdl").stat().st_ino
    assert model.read_bytes() == b"EDL2\x02"
    (tmp_path / "best" / "notes.txt").write_text("mine")
    write_run(tmp_path, run(4, 0.9, trained(equalization=EQUALIZED)))
    compare(tmp_path, write_best=True)
    assert model.read_bytes() == b"EDL2\x04"
    assert (tmp_path / "best" / "notes.txt").read_text() == "mine"
    assert not [path for path in tmp_path.iterdir() if path.name.startswith(".best")]


def test_a_best_folder_of_somebody_else_is_moved_aside(tmp_path: Path) -> None:
    write_history(tmp_path, swept(*SWEEP))
    (tmp_path / "best").mkdir()
    (tmp_path / "best" / "thesis.md").write_text("mine")
    result = compare(tmp_path, write_best=True)
    assert (tmp_path / "best.foreign-1" / "thesis.md").read_text() == "mine"
    assert any("best.foreign-1" in line for line in result.lines)


def test_a_killed_swap_is_recovered(tmp_path: Path) -> None:
    write_history(tmp_path, swept(*SWEEP))
    compare(tmp_path, write_best=True)
    (tmp_path / "best" / "notes.txt").write_text("mine")
    (tmp_path / "best").rename(tmp_path / ".best.old")
    (tmp_path / ".best.new").mkdir()
    compare(tmp_path, write_best=True)
    assert (tmp_path / "best" / "notes.txt").read_text() == "mine"
    assert not (tmp_path / ".best.old").exists()


def test_a_missing_model_is_told(tmp_path: Path) -> None:
    write_history(tmp_path, swept(*SWEEP))
    (tmp_path / "iter_2" / "model.espdl").unlink()
    result = compare(tmp_path, write_best=True)
    assert any("no model.espdl" in line for line in result.lines)


def test_names_from_files_lead_nowhere_outside(tmp_path: Path) -> None:
    outputs, secret = tmp_path / "outputs", tmp_path / "secret"
    secret.write_text("secret")
    write_history(outputs, swept(*SWEEP))
    folder = outputs / "iter_2"
    index = json.loads((folder / "iteration_index.json").read_text())
    index["model_path"] = "../../secret"
    (folder / "iteration_index.json").write_text(json.dumps(index))
    (folder / "model.espdl").unlink()
    (folder / "model.espdl").symlink_to(secret)
    compare(outputs, write_best=True)
    assert not (outputs / "best" / "model.espdl").exists()
