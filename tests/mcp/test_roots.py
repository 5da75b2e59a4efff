from pathlib import Path

import pytest

from espdl_quantize.core import EspdlQuantizeError, UsageError
from espdl_quantize.mcp._roots import Roots


@pytest.fixture
def roots(tmp_path: Path) -> Roots:
    for name in ("one", "two", "one_more"):
        (tmp_path / name).mkdir()
    return Roots([tmp_path / "one", tmp_path / "two"])


def test_a_path_is_taken_from_the_first_root(roots: Roots, tmp_path: Path) -> None:
    assert roots.resolve("a/../b", "x") == tmp_path / "one/b"
    assert roots.resolve("../two/b", "x") == tmp_path / "two/b"
    assert roots.resolve(str(tmp_path / "two"), "x") == tmp_path / "two"


@pytest.mark.parametrize(
    "path", ["..", "../one_more", "/etc", "a/../../three", "link/x", "~/../.."]
)
def test_a_path_outside_is_refused(roots: Roots, tmp_path: Path, path: str) -> None:
    (tmp_path / "one/link").symlink_to(tmp_path / "one_more")
    with pytest.raises(EspdlQuantizeError, match="outside of the roots"):
        roots.resolve(path, "output_dir")


@pytest.mark.parametrize("path", ["", "a\0b"])
def test_what_is_no_path_is_refused(roots: Roots, path: str) -> None:
    with pytest.raises(UsageError, match="output_dir is"):
        roots.resolve(path, "output_dir")


def test_a_root_is_a_folder(tmp_path: Path) -> None:
    with pytest.raises(UsageError, match="nowhere is no folder"):
        Roots([tmp_path / "nowhere"])
    with pytest.raises(UsageError):
        Roots([])


def test_a_root_may_be_a_link(tmp_path: Path) -> None:
    (tmp_path / "real").mkdir()
    (tmp_path / "link").symlink_to(tmp_path / "real")
    assert Roots([tmp_path / "link"]).resolve("x", "x") == tmp_path / "real/x"
