import json
import multiprocessing
import os
import threading
from pathlib import Path

import pytest

from espdl_quantize.core import OutputFolderError
from espdl_quantize.record import is_finished, iteration_number, locked, read_history, staged
from espdl_quantize.record.files import INDEX
from tests.search.made_runs import run, write_run


def finish(folder: Path, status: str = "ok") -> None:
    folder.mkdir(parents=True, exist_ok=True)
    (folder / INDEX).write_text(json.dumps({"status": status}))


@pytest.mark.parametrize(
    ("name", "number"),
    [("iter_0", 0), ("iter_12", 12), ("iter_x", None), ("best", None), ("iter_01", None)],
)
def test_a_folder_name_holds_the_number(tmp_path: Path, name: str, number: int | None) -> None:
    assert iteration_number(tmp_path / name) == number
    # A history reads the same names.
    write_run(tmp_path, run(0, 0.5)).rename(tmp_path / name)
    assert [row.id for row in read_history(tmp_path).iterations] == (
        [] if number is None else [number]
    )


def test_a_folder_appears_whole(tmp_path: Path) -> None:
    folder = tmp_path / "iter_0"
    with staged(folder) as staging:
        (staging / "a").write_text("1")
        assert not folder.exists()
    assert [entry.name for entry in tmp_path.iterdir()] == ["iter_0"]
    assert (folder / "a").read_text() == "1"


@pytest.mark.parametrize("error", [RuntimeError, KeyboardInterrupt])
def test_a_failure_leaves_nothing_and_keeps_what_was_there(
    tmp_path: Path, error: type[BaseException]
) -> None:
    folder = tmp_path / "iter_0"
    folder.mkdir()
    (folder / "setting.json").write_text("mine")
    with pytest.raises(error), staged(folder) as staging:
        (staging / "a").write_text("1")
        raise error
    assert [entry.name for entry in tmp_path.iterdir()] == ["iter_0"]
    assert (folder / "setting.json").read_text() == "mine"


def test_a_finished_iteration_is_replaced_only_when_told(tmp_path: Path) -> None:
    folder = tmp_path / "iter_0"
    finish(folder)
    with pytest.raises(OutputFolderError, match="overwrite=True"), staged(folder):
        pass
    with staged(folder, overwrite=True) as staging:
        (staging / "new").write_text("1")
    assert (folder / "new").exists()
    assert not (folder / INDEX).exists()


def test_a_failed_iteration_is_replaced_and_the_users_files_stay(tmp_path: Path) -> None:
    folder = tmp_path / "iter_0"
    finish(folder, "failed")
    (folder / "notes.txt").write_text("mine")
    (folder / "plots").mkdir()
    (folder / "plots" / "a.png").write_text("mine")
    (folder / "metrics.json").write_text("old")
    with staged(folder):
        pass
    assert sorted(entry.name for entry in folder.iterdir()) == ["notes.txt", "plots"]
    assert (folder / "plots" / "a.png").exists()


def test_what_a_killed_process_left_is_cleared(tmp_path: Path) -> None:
    folder = tmp_path / "iter_0"
    (tmp_path / ".iter_0.partial").mkdir()
    (tmp_path / ".iter_0.partial" / "half").write_text("1")
    finish(tmp_path / ".iter_0.retired")
    with pytest.raises(OutputFolderError, match="finished"), staged(folder):
        pass
    assert is_finished(folder)
    assert [entry.name for entry in tmp_path.iterdir()] == ["iter_0"]


@pytest.mark.parametrize("name", ["iter_0", "outputs", ".lock"])
def test_what_is_in_the_way_is_named(tmp_path: Path, name: str) -> None:
    outputs = tmp_path / "outputs"
    in_the_way = outputs if name == "outputs" else outputs / name
    if name == ".lock":
        in_the_way.mkdir(parents=True)
    else:
        in_the_way.parent.mkdir(exist_ok=True)
        in_the_way.write_text("mine")
    with (
        pytest.raises(OutputFolderError, match=name) as caught,
        locked(outputs),
        staged(outputs / "iter_0"),
    ):
        pass
    assert caught.value.hint
    assert in_the_way.exists()


def test_a_file_in_the_place_of_what_is_ours_is_cleared(tmp_path: Path) -> None:
    for name in (".iter_0.partial", ".iter_0.retired"):
        (tmp_path / name).write_text("left")
        with staged(tmp_path / "iter_0", overwrite=True) as staging:
            (staging / "a").write_text("1")
    assert [entry.name for entry in tmp_path.iterdir()] == ["iter_0"]


def _hold(outputs: str, ready: "multiprocessing.connection.Connection") -> None:
    with locked(Path(outputs)):
        ready.send(os.getpid())
        ready.recv()


def test_a_second_process_is_told_who_holds_the_folder(tmp_path: Path) -> None:
    context = multiprocessing.get_context("spawn")
    here, there = context.Pipe()
    process = context.Process(target=_hold, args=(str(tmp_path), there))
    process.start()
    try:
        pid = here.recv()
        with pytest.raises(OutputFolderError, match=f"process {pid}"), locked(tmp_path):
            pass
    finally:
        here.send("go")
        process.join()
    with locked(tmp_path):
        pass


def test_a_broken_index_is_no_finished_iteration(tmp_path: Path) -> None:
    (tmp_path / INDEX).write_text("{")
    assert not is_finished(tmp_path)


def test_who_holds_a_folder_may_ask_again(tmp_path: Path) -> None:
    holder = tmp_path / ".lock.json"
    with locked(tmp_path):
        with locked(tmp_path / ".." / tmp_path.name):
            assert holder.exists()
        assert json.loads(holder.read_text())["pid"] == os.getpid()
        context = multiprocessing.get_context("spawn")
        here, there = context.Pipe()
        process = context.Process(target=_try, args=(str(tmp_path), there))
        process.start()
        told = here.recv()
        process.join()
    assert f"process {os.getpid()}" in told
    assert not holder.exists()


def _try(outputs: str, answer: "multiprocessing.connection.Connection") -> None:
    try:
        with locked(Path(outputs)):
            answer.send("")
    except OutputFolderError as error:
        answer.send(error.cause)


def test_another_thread_is_kept_out(tmp_path: Path) -> None:
    told: list[str] = []

    def ask() -> None:
        try:
            with locked(tmp_path):
                told.append("")
        except OutputFolderError as error:
            told.append(error.cause)

    with locked(tmp_path):
        thread = threading.Thread(target=ask)
        thread.start()
        thread.join()
    assert f"process {os.getpid()}" in told[0]
