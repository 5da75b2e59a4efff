"""A folder of arrays that is bounded and may be damaged or deleted at any time."""

import os
from pathlib import Path

import numpy as np
import pytest

from espdl_quantize.ppq.reuse.store import Store

ARRAYS = {"a": np.arange(100, dtype=np.float32), "b.state": np.array(3)}


def test_what_was_put_comes_back(tmp_path: Path) -> None:
    store = Store(tmp_path / "new", 1 << 20)
    assert store.get("k") is None
    store.put("k", ARRAYS)
    found = store.get("k")
    assert found is not None
    assert found.keys() == ARRAYS.keys()
    assert all(np.array_equal(found[name], value) for name, value in ARRAYS.items())
    assert [file.name for file in (tmp_path / "new").iterdir()] == ["k.npz"]


@pytest.mark.parametrize("damage", ["cut", "flip", "empty", "pickle"])
def test_a_damaged_file_is_a_miss_and_goes(tmp_path: Path, damage: str) -> None:
    store = Store(tmp_path, 1 << 20)
    store.put("k", ARRAYS)
    file = tmp_path / "k.npz"
    content = bytearray(file.read_bytes())
    if damage == "cut":
        file.write_bytes(content[: len(content) // 2])
    elif damage == "flip":
        content[200] ^= 0xFF
        file.write_bytes(content)
    elif damage == "empty":
        file.write_bytes(b"")
    else:
        np.savez(file, a=np.array([object()], dtype=object))
    assert store.get("k") is None
    assert not file.exists()


def test_what_was_not_used_for_longest_goes_first(tmp_path: Path) -> None:
    store = Store(tmp_path, 2500)
    for age, key in ((30, "old"), (20, "used"), (10, "young")):
        store.put(key, {"a": np.zeros(125)})
        if (tmp_path / f"{key}.npz").exists():
            os.utime(tmp_path / f"{key}.npz", (1_000_000 - age, 1_000_000 - age))
    store = Store(tmp_path, 4000)
    store.put("first", {"a": np.zeros(125)})
    assert store.get("used") is not None
    store.put("second", {"a": np.zeros(125)})
    assert (tmp_path / "used.npz").exists()
    assert not (tmp_path / "old.npz").exists()
    assert sum(file.stat().st_size for file in tmp_path.iterdir()) <= 4000 + 300


def test_nothing_is_raised_for_the_state_of_the_disk(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("no folder")
    store = Store(tmp_path / "file", 1 << 20)
    store.put("k", ARRAYS)
    assert store.get("k") is None
    small = Store(tmp_path / "small", 10)
    small.put("k", ARRAYS)
    assert small.get("k") is None
