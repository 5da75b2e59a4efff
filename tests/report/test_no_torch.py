"""Reading, deciding and reporting start fast: they import neither torch nor what brings it."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path

import pytest

from tests.search.made_runs import SWEEP, evidence, swept, write_history

HEAVY = ("torch", "numpy", "pandas", "scipy", "onnx", "onnxruntime", "esp_ppq", "matplotlib")

PROGRAM = """
import json, sys

class Forbid:
    def find_spec(self, name, path=None, target=None):
        if name.partition(".")[0] in {heavy!r}:
            raise ImportError(f"{{name}} must not be imported")

sys.meta_path.insert(0, Forbid())
from pathlib import Path
from espdl_quantize.report import compare, lint
from espdl_quantize.setting import baseline
result = compare(Path(sys.argv[1]), finalize=True, force_finalize=True)
lint(Path(sys.argv[1]), baseline(9))
loaded = sorted(set({heavy!r}) & set(sys.modules))
print(json.dumps([result.exit_code, loaded, len(sys.modules)]))
"""


@pytest.fixture
def outputs(tmp_path: Path) -> Path:
    return write_history(tmp_path, swept(*SWEEP, target=0.9), evidence())


def test_compare_runs_where_torch_cannot_be_imported(outputs: Path) -> None:
    done = subprocess.run(
        [sys.executable, "-c", PROGRAM.format(heavy=HEAVY), str(outputs)],
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 0, done.stderr
    exit_code, loaded, modules = json.loads(done.stdout)
    assert exit_code == 0
    assert loaded == []
    # pydantic brings most of these; torch alone would bring well over a thousand more.
    assert modules < 700
    assert (outputs / "final_report.md").exists()


@pytest.mark.parametrize("package", ["record", "search", "report"])
def test_no_source_file_names_torch(package: str) -> None:
    import ast
    from pathlib import Path

    import espdl_quantize

    folder = Path(espdl_quantize.__file__).parent / package
    files = sorted(folder.rglob("*.py"))
    assert files
    for file in files:
        for node in ast.walk(ast.parse(file.read_text("utf-8"))):
            names = []
            if isinstance(node, ast.Import):
                names = [alias.name for alias in node.names]
            elif isinstance(node, ast.ImportFrom):
                names = [node.module or ""]
            assert not [name for name in names if name.partition(".")[0] in HEAVY], file
