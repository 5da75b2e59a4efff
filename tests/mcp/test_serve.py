import importlib.util
import subprocess
import sys
from pathlib import Path

import pytest

from espdl_quantize.core import EspdlQuantizeError, InstallationError, OutputFolderError
from espdl_quantize.mcp import _serve, serve
from espdl_quantize.mcp.jobs import JobStore


@pytest.mark.parametrize("missing", ["mcp", "mcp_types"])
def test_without_the_sdk_it_says_what_to_install(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, missing: str
) -> None:
    found = importlib.util.find_spec
    monkeypatch.setattr(
        importlib.util, "find_spec", lambda name: None if name == missing else found(name)
    )
    with pytest.raises(InstallationError, match=r"MCP SDK") as error:
        serve([tmp_path])
    assert error.value.hint == "pip install 'espdl-quantize[mcp]'"
    assert error.value.exit_code == 6
    assert list(tmp_path.iterdir()) == []


def test_the_package_needs_neither_the_sdk_nor_torch() -> None:
    code = (
        "import sys\n"
        "for name in ('mcp', 'mcp_types', 'torch', 'esp_ppq'): sys.modules[name] = None\n"
        "import espdl_quantize.mcp, espdl_quantize.cli\n"
    )
    subprocess.run([sys.executable, "-c", code], check=True)


def test_a_state_folder_that_leads_out_of_the_root_is_refused(tmp_path: Path) -> None:
    root, outside = tmp_path / "root", tmp_path / "outside"
    root.mkdir()
    outside.mkdir()
    (root / _serve.STATE).symlink_to(outside)
    with pytest.raises(EspdlQuantizeError, match="outside of the roots"):
        serve([root])
    (root / _serve.STATE).unlink()
    (root / _serve.STATE).mkdir()
    (root / _serve.STATE / "jobs").symlink_to(outside)
    with pytest.raises(EspdlQuantizeError, match="outside of the roots"):
        serve([root])
    assert list(outside.iterdir()) == []


def test_nothing_is_written_through_a_link_that_came_with_a_project(tmp_path: Path) -> None:
    precious = tmp_path / "precious"
    precious.write_text("mine")
    state = tmp_path / "state"
    state.mkdir()
    (state / ".gitignore").symlink_to(precious)
    JobStore(state, tmp_path)
    assert precious.read_text() == "mine"
    JobStore(tmp_path / "other", tmp_path)
    assert (tmp_path / "other/.gitignore").read_text() == "*\n"


def test_a_state_folder_that_cannot_be_written_is_named(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    with pytest.raises(OutputFolderError, match="--state-dir"):
        JobStore(tmp_path / "file", tmp_path)
