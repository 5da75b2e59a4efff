"""Installing, updating and removing the skill, with somebody else's changes in the way."""

import hashlib
import json
from pathlib import Path

import pytest

from espdl_quantize.core import EspdlQuantizeError, OutputFolderError
from espdl_quantize.skill import (
    AGENTS,
    MANIFEST,
    Place,
    install,
    installing,
    known_places,
    place,
    places_in_use,
    remove,
    skill_source,
    state_of,
)
from tests.cli.conftest import Command
from tests.cli.conftest import command as command


def files(folder: Path) -> dict[str, bytes]:
    return {
        file.relative_to(folder).as_posix(): file.read_bytes()
        for file in folder.rglob("*")
        if file.is_file() and "__pycache__" not in file.parts
    }


def test_a_copy_is_the_skill_and_its_record(tmp_path: Path) -> None:
    there = place("claude", tmp_path)
    (done,) = install([there])
    copied = files(tmp_path / ".claude/skills/espdl-quantize")
    record = json.loads(copied.pop(MANIFEST))
    assert copied == files(skill_source())
    assert set(done.written) == set(copied) == set(record["files"])
    assert state_of(there).state == "up to date"


def test_a_second_time_writes_nothing(tmp_path: Path) -> None:
    there = place("agents", tmp_path)
    install([there])
    before = files(tmp_path)
    (again,) = install([there])
    assert not again.written and not again.deleted
    assert files(tmp_path) == before


def test_changes_by_hand_are_kept_until_told_otherwise(tmp_path: Path) -> None:
    there = place("cursor", tmp_path)
    install([there])
    changed = there.folder / "SKILL.md"
    changed.write_text("mine")
    (there.folder / "notes.md").write_text("my own file")
    for act in (install, remove):
        with pytest.raises(EspdlQuantizeError, match=r"changed by hand: SKILL\.md") as refused:
            act([there])
        assert refused.value.exit_code == 1
    assert changed.read_text() == "mine"
    assert state_of(there).kept == ("SKILL.md",)
    (done,) = install([there], force=True)
    assert done.written == ("SKILL.md",)
    assert done.kept == ("notes.md",)
    assert changed.read_bytes() == (skill_source() / "SKILL.md").read_bytes()


def test_one_place_in_the_way_leaves_all_as_they_are(tmp_path: Path) -> None:
    first, second = place("agents", tmp_path), place("claude", tmp_path)
    second.folder.mkdir(parents=True)
    (second.folder / "SKILL.md").write_text("another skill of this name")
    with pytest.raises(EspdlQuantizeError, match=r"SKILL\.md"):
        install([first, second])
    assert not first.folder.exists()


def test_an_update_replaces_what_is_ours_and_drops_what_is_gone(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    older = tmp_path / "older"
    (older / "references").mkdir(parents=True)
    (older / "SKILL.md").write_text("older")
    (older / "references/gone.md").write_text("gone")
    there = place("codex", tmp_path)
    monkeypatch.setattr(installing, "skill_source", lambda: older)
    install([there])
    monkeypatch.undo()
    assert state_of(there).state == "outdated"
    (done,) = install([there])
    assert "SKILL.md" in done.written
    assert done.deleted == ("references/gone.md",)
    assert set(files(there.folder)) == {*files(skill_source()), MANIFEST}


def test_a_file_that_is_missing_is_put_back(tmp_path: Path) -> None:
    there = place("agents", tmp_path)
    install([there])
    (there.folder / "SKILL.md").unlink()
    assert state_of(there).state == "outdated"
    assert install([there])[0].written == ("SKILL.md",)


def test_removing_leaves_no_trace_but_the_users_own(tmp_path: Path) -> None:
    there = place("opencode", tmp_path)
    install([there])
    remove([there])
    assert list(tmp_path.iterdir()) == []
    install([there])
    (there.folder / "notes.md").write_text("mine")
    (done,) = remove([there])
    assert done.kept == ("notes.md",)
    assert set(files(tmp_path)) == {".opencode/skills/espdl-quantize/notes.md"}


def test_a_record_cannot_reach_out_of_its_folder(tmp_path: Path) -> None:
    there = place("agents", tmp_path)
    install([there])
    outside = tmp_path / "precious"
    outside.write_text("precious")
    record = json.loads((there.folder / MANIFEST).read_text())
    digest = hashlib.sha256(b"precious").hexdigest()
    record["files"] |= {"../../../precious": digest, str(outside): digest}
    (there.folder / MANIFEST).write_text(json.dumps(record))
    remove([there])
    assert outside.read_text() == "precious"


def test_a_link_is_not_written_through(tmp_path: Path) -> None:
    there = place("agents", tmp_path)
    there.folder.parent.mkdir(parents=True)
    target = tmp_path / "elsewhere"
    target.mkdir()
    there.folder.symlink_to(target)
    with pytest.raises(OutputFolderError, match="is a link"):
        install([there])
    assert list(target.iterdir()) == []


def test_a_dry_run_touches_nothing(tmp_path: Path) -> None:
    there = place("agents", tmp_path)
    (would,) = install([there], dry_run=True)
    assert "SKILL.md" in would.written and would.state == "not installed"
    assert list(tmp_path.iterdir()) == []


def test_tools_in_use_are_found_and_shared_folders_named_once(tmp_path: Path) -> None:
    assert [found.agent for found in places_in_use(tmp_path)] == ["agents"]
    (tmp_path / ".claude/skills").mkdir(parents=True)
    (tmp_path / ".github").mkdir()
    (tmp_path / ".cursor").mkdir()
    (tmp_path / ".cursor/skills").symlink_to(tmp_path / ".claude/skills")
    assert [found.agent for found in places_in_use(tmp_path)] == ["claude"]


def test_every_place_of_the_table_is_one_of_its_own(tmp_path: Path) -> None:
    places = known_places(tmp_path / "project", tmp_path / "home")
    assert len({found.folder for found in places}) == len(places) == 2 * len(AGENTS)
    assert all(found.folder.name == "espdl-quantize" for found in places)


def test_the_command(command: Command, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("HOME", str(tmp_path / "home"))
    done = command("skill", "install", "--agent", "claude", "--path", "x")
    assert done.returncode == 2
    done = command("skill", "install", "--agent", "clod")
    assert done.returncode == 2 and "claude" in done.stderr
    done = command("skill", "install", "--agent", "claude", "--json")
    told = json.loads(done.stdout)
    assert told["places"][0]["folder"] == str(tmp_path / ".claude/skills/espdl-quantize")
    done = command("skill", "install", "--path", "tools")
    assert (tmp_path / "tools/espdl-quantize/SKILL.md").is_file()
    assert str(tmp_path / "tools/espdl-quantize") in done.stdout
    listed = json.loads(command("skill", "status", "--json").stdout)["places"]
    assert [(row["agent"], row["state"]) for row in listed] == [("claude", "up to date")]
    assert command("skill", "remove").returncode == 0
    assert command("skill", "remove", "--path", "tools").returncode == 0
    assert files(tmp_path) == {}
    assert command("skill", "install", "--user").returncode == 0
    assert (tmp_path / "home/.agents/skills/espdl-quantize/SKILL.md").is_file()


def test_a_place_that_cannot_be_written_is_named(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    with pytest.raises(OutputFolderError, match="cannot be written"):
        install([Place(None, "path", tmp_path / "file/espdl-quantize")])
