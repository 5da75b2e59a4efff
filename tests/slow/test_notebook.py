"""The notebook among the examples runs from the first cell to the last."""

from __future__ import annotations

import shutil
from pathlib import Path
from typing import Any

import pytest

EXAMPLES = Path(__file__).parents[2] / "examples"


@pytest.mark.slow
def test_the_notebook_runs(tmp_path: Path) -> None:
    nbclient = pytest.importorskip("nbclient")
    nbformat = pytest.importorskip("nbformat")
    shutil.copytree(EXAMPLES / "fashion_mnist", tmp_path / "fashion_mnist")
    notebook: Any = nbformat.read(EXAMPLES / "notebook.ipynb", as_version=4)
    nbclient.NotebookClient(
        notebook, timeout=300, resources={"metadata": {"path": tmp_path}}
    ).execute()
    *_, table, names = (cell for cell in notebook.cells if cell.cell_type == "code")
    (shown,) = [entry for entry in table.outputs if entry.output_type == "execute_result"]
    assert "★" in shown.data["text/html"] and "best: iter_" in shown.data["text/plain"]
    assert "model.espdl" in names.outputs[-1].data["text/plain"]
    assert (tmp_path / "outputs/notebook/best/model.espdl").is_file()
