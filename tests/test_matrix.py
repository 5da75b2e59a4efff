"""What a quick run leaves out of a matrix, and that it leaves out no value."""

from __future__ import annotations

import subprocess
import sys
from itertools import product
from pathlib import Path
from typing import Any

import pytest

from tests.matrix import thinned

ROOT = Path(__file__).parent.parent


def kept(cases: list[Any]) -> list[Any]:
    return [case.values for case in cases if not case.marks]


@pytest.mark.parametrize(("strength", "most"), [(1, 4), (2, 12), (3, 24)])
def test_every_value_stays(strength: int, most: int) -> None:
    cases = list(product("abcd", (1, 2, 3), (False, True)))
    found = thinned(cases, strength=strength)
    assert [case.values for case in found] == cases
    assert len(kept(found)) <= most
    for axis in range(3):
        assert {case[axis] for case in kept(found)} == {case[axis] for case in cases}
    if strength == 2:
        pairs = {case[:2] for case in kept(found)}
        assert pairs == set(product("abcd", (1, 2, 3)))


def test_a_value_of_a_single_case_stays() -> None:
    assert kept(thinned([("a", 1), ("a", 2), ("b", 3)])) == [("a", 1), ("a", 2), ("b", 3)]


TESTS = """
import pytest
from tests.matrix import thinned

@pytest.mark.parametrize(("kind", "chip"), thinned([("a", 1), ("a", 2), ("b", 2), ("b", 1)]))
def test_it(kind: str, chip: int) -> None:
    print("ran", kind, chip)
"""


@pytest.mark.parametrize(("options", "count"), [([], 2), (["--matrix"], 4)])
def test_the_rest_runs_where_it_is_asked_for(
    tmp_path: Path, options: list[str], count: int
) -> None:
    (tmp_path / "test_made.py").write_text(TESTS)
    command = [sys.executable, "-m", "pytest", "-q", "-s", "-p", "no:cacheprovider"]
    command += ["-p", "tests.conftest", "-c", str(ROOT / "pyproject.toml"), *options]
    done = subprocess.run(
        [*command, "--rootdir", str(tmp_path), str(tmp_path / "test_made.py")],
        cwd=ROOT,
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 0, done.stdout + done.stderr
    assert done.stdout.count("ran ") == count
    assert f"{count} passed" in done.stdout
