"""The loop and recorded iterations need no torch."""

import subprocess
import sys
from pathlib import Path

from tests.report.test_no_torch import HEAVY

PROGRAM = """
import sys

class Forbid:
    def find_spec(self, name, path=None, target=None):
        if name.partition(".")[0] in {heavy!r}:
            raise ImportError(f"{{name}} must not be imported")

sys.meta_path.insert(0, Forbid())
from pathlib import Path
from espdl_quantize.tuning import Budget, TuneOptions, tune
from tests.tuning.fake_backend import FakeBackend
print(tune(FakeBackend(), Path(sys.argv[1]), TuneOptions(Budget(10))).category)
"""
ROOT = Path(__file__).parent.parent.parent


def test_a_search_runs_where_torch_cannot_be_imported(tmp_path: Path) -> None:
    done = subprocess.run(
        [sys.executable, "-c", PROGRAM.format(heavy=(*HEAVY, "optuna")), str(tmp_path)],
        capture_output=True,
        text=True,
        cwd=ROOT,
        check=False,
    )
    assert done.stdout == "budget_reached\n", done.stderr
