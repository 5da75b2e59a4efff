"""The contracts under examples/ that ship their data hold, and lose what their README says."""

import json
from pathlib import Path

import pytest

from tests.cli.conftest import Command
from tests.cli.conftest import command as command

EXAMPLES = Path(__file__).parent.parent.parent / "examples"

pytestmark = pytest.mark.slow


@pytest.mark.parametrize(
    ("name", "metric", "least"),
    [
        ("fashion_mnist", "top1", 91.0),
        ("scene_detector", "map50", 70.0),
        ("fashion_gru", "top1", 87.0),
    ],
)
def test_an_example_holds(command: Command, name: str, metric: str, least: float) -> None:
    done = command("check", EXAMPLES / name / "user_quant.py", "--json")
    assert done.returncode == 0, done.stdout + done.stderr
    told = json.loads(done.stdout)
    assert told["metric"] == f"{metric} (max)"
    assert told["float_value"] > least
