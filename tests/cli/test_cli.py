"""The command as a user runs it: exit codes, streams and messages."""

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest

from tests.cli.conftest import Command
from tests.contracts import CONFIG, write_contract

ROOT = Path(__file__).parent.parent.parent


def run(*arguments: object, cwd: Path | None = None) -> "subprocess.CompletedProcess[str]":
    environment = {**os.environ, "PYTHONPATH": str(ROOT), "COLUMNS": "200"}
    return subprocess.run(
        [sys.executable, "-m", "espdl_quantize", *map(str, arguments)],
        capture_output=True,
        text=True,
        cwd=cwd,
        env=environment,
    )


def test_a_starter_contract_is_written_once(command: Command) -> None:
    done = command("init", "--torch")
    assert done.returncode == 0
    assert "check user_quant.py" in done.stdout
    again = command("init", "--torch")
    assert again.returncode == 1
    assert "user_quant.py exists" in again.stderr


def test_the_schema_is_json(command: Command) -> None:
    assert json.loads(command("schema").stdout)["title"] == "Setting"


@pytest.mark.parametrize("arguments", [["init"], ["run", "x.py", "--output-dir", "o"], ["bogus"]])
def test_wrong_usage_is_2(command: Command, arguments: list[str]) -> None:
    assert command(*arguments).returncode == 2


def test_a_contract_that_holds_is_said_to_hold(tmp_path: Path) -> None:
    done = run("check", write_contract(tmp_path), "--json")
    assert done.returncode == 0, done.stderr
    facts = json.loads(done.stdout)
    assert facts["ok"] is True
    assert facts["target"] == "esp32s3, 8 bits, weights per tensor, rounding half-up"


def test_every_fault_is_in_the_table_and_in_the_json(command: Command, tmp_path: Path) -> None:
    config = {**CONFIG, "device": "tpu", "target": "esp32s9", "calib_steps": "4"}
    path = write_contract(tmp_path, config=config)
    table = command("check", path)
    assert table.returncode == 3
    for word in ("device", "'tpu'", "esp32s9", "esp32p4", "calib_steps", "'4' (str)"):
        assert word in table.stderr
    faults = json.loads(command("check", path, "--json").stdout)["faults"]
    assert len(faults) == 3
    assert set(faults[0]) == {"key", "found", "expected", "example"}


def test_a_baked_batch_size_is_found_before_anything_long(command: Command, tmp_path: Path) -> None:
    model = """import torch
    class Baked(torch.nn.Module):
        def forward(self, x):
            return x.view(int(x.shape[0]), -1) @ torch.ones(784, 10)
    return Baked().eval()"""
    done = command("check", write_contract(tmp_path, model=model))
    assert done.returncode == 3
    assert "batch size 1 of the export baked in" in done.stderr
    assert "x.flatten(1)" in done.stderr


@pytest.mark.parametrize(
    ("model", "told"),
    [
        ("return None", "expected a torch.nn.Module"),
        ("import torch\n    return torch.nn.Linear(28, 3).train()", "training mode"),
        ("raise RuntimeError('no weights')", "no weights"),
        (
            "import torch\n    return torch.nn.Conv2d(3, 8, 3).eval()",
            "the torch model fails on one calibration batch",
        ),
    ],
)
def test_a_model_that_does_not_fit_is_named(
    command: Command, tmp_path: Path, model: str, told: str
) -> None:
    done = command("check", write_contract(tmp_path, model=model))
    assert done.returncode == 3
    assert told in done.stderr
    assert "Traceback" not in done.stderr


def test_an_error_is_one_line_and_its_mend(command: Command, tmp_path: Path) -> None:
    done = command("check", tmp_path / "nothing.py")
    assert done.returncode == 3
    # On a busy machine, a stage that took long is a line as well.
    lines = [line for line in done.stderr.strip().splitlines() if " failed after " not in line]
    assert lines[0].startswith("error: contract")
    assert lines[1].startswith("  hint: ")
    assert len(lines) == 2


def test_the_help_loads_no_library_of_the_work() -> None:
    code = "import espdl_quantize.cli, sys; print(*sys.modules)"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    loaded = set(done.stdout.split())
    assert not loaded & {"torch", "numpy", "pydantic", "espdl_quantize.record"}
