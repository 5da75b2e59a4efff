"""Nothing is written or deleted through a link that came with a folder, on the word of a file."""

import hashlib
import json
import os
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from espdl_quantize.core import OutputFolderError, beside_of, load_json, write_json
from espdl_quantize.ppq.reuse.store import Store
from espdl_quantize.record import locked
from espdl_quantize.report._text_file import write_text
from espdl_quantize.skill import MANIFEST, install, installing, place, remove
from espdl_quantize.stats import write_arrays

WRITERS: dict[str, Callable[[Path], Any]] = {
    "JSON": lambda path: write_json(path, {"a": 1}),
    "text": lambda path: write_text(path, "text"),
    "arrays": lambda path: write_arrays(path, {"a": np.zeros(1)}),
    "results of passes": lambda path: Store(path.parent, 1 << 20).put(
        path.stem, {"a": np.zeros(1)}
    ),
    "a file of the skill": lambda path: installing._write(path, b"text"),
}


@pytest.mark.parametrize("name", WRITERS)
def test_a_link_at_the_hidden_file_is_not_followed(tmp_path: Path, name: str) -> None:
    """Its name holds the number of the process, of which a folder may bring all."""
    precious = tmp_path / "precious"
    precious.write_text("mine")
    folder = tmp_path / "folder"
    folder.mkdir()
    path = folder / "a.npz"
    beside_of(path).symlink_to(precious)
    WRITERS[name](path)
    assert precious.read_text() == "mine"
    assert [entry.name for entry in folder.iterdir()] == ["a.npz"]
    assert not path.is_symlink()


def test_the_skill_is_not_written_or_deleted_through_a_link(tmp_path: Path) -> None:
    there = place("claude", tmp_path)
    precious = tmp_path / "precious"
    precious.mkdir()
    (precious / "notes.md").write_text("mine")
    there.folder.mkdir(parents=True)
    (there.folder / "references").symlink_to(precious)
    # The manifest came with the folder, and knows what lies behind the link.
    digest = hashlib.sha256(b"mine").hexdigest()
    manifest = {
        "generated_by": "espdl-quantize skill install",
        "version": "0.0.1",
        "files": {"references/notes.md": digest},
    }
    (there.folder / MANIFEST).write_text(json.dumps(manifest))
    for act in (install, remove):
        for force in (False, True):
            with pytest.raises(OutputFolderError, match=r"references is a link to .*precious"):
                act([there], force=force)
    assert [entry.name for entry in precious.iterdir()] == ["notes.md"]
    assert (precious / "notes.md").read_text() == "mine"


HOLDERS = [
    '{"pid": 1e999, "since": "2026-01-01 00:00:00"}',
    '{"pid": NaN, "since": "2026-01-01 00:00:00"}',
    '{"pid": true, "since": "2026-01-01 00:00:00"}',
    '{"pid": "1", "since": "2026-01-01 00:00:00"}',
    '{"pid": [1], "since": "2026-01-01 00:00:00"}',
    '{"pid": 5, "since": "\\u001b[2J"}',
    '{"pid": 5, "since": 5}',
    '{"pid": 5}',
    "[]",
    "{",
]


@pytest.mark.parametrize("content", HOLDERS)
def test_a_forged_holder_of_a_lock_is_nobody(tmp_path: Path, content: str) -> None:
    with locked(tmp_path):
        (tmp_path / ".lock.json").write_text(content)
        code = (
            "import pathlib, sys\n"
            "from espdl_quantize.core import OutputFolderError\n"
            "from espdl_quantize.record import locked\n"
            "try:\n"
            "    with locked(pathlib.Path(sys.argv[1])): pass\n"
            "except OutputFolderError as error: print(error.cause)\n"
        )
        done = subprocess.run(
            [sys.executable, "-c", code, str(tmp_path)], capture_output=True, text=True
        )
    assert done.stdout.strip().endswith("is in use by another process"), done.stderr


def test_a_link_is_read_only_where_that_is_asked_for(tmp_path: Path) -> None:
    (tmp_path / "real.json").write_text("{}")
    (tmp_path / "link.json").symlink_to("real.json")
    assert load_json(tmp_path / "link.json") == {}
    with pytest.raises(OSError, match="a link, which is not followed"):
        load_json(tmp_path / "link.json", follow=False)
    os.mkfifo(tmp_path / "pipe.json")
    for follow in (True, False):
        with pytest.raises(OSError, match="no regular file"):
            load_json(tmp_path / "pipe.json", follow=follow)
