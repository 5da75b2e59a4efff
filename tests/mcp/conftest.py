import shutil
from pathlib import Path

import pytest

from tests.mcp.client import RECORDED


@pytest.fixture
def anyio_backend() -> str:
    return "asyncio"


@pytest.fixture
def root(tmp_path: Path) -> Path:
    """A project with a recorded search in it."""
    folder = tmp_path / "project"
    folder.mkdir()
    shutil.copy(RECORDED, folder / "table.zip")
    return folder
