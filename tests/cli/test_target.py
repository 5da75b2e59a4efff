"""``--target``: a contract on another chip than its own, in a folder of its own."""

import json
import shlex
from pathlib import Path

import pytest

import espdl_quantize as eq
from espdl_quantize.core import ContractError, OutputFolderError
from espdl_quantize.record import read_history
from espdl_quantize.report import retry_command
from tests.cli.conftest import Command
from tests.contracts import write_contract


def test_check_examines_the_chip_that_is_named(command: Command, tmp_path: Path) -> None:
    path = write_contract(tmp_path)
    facts = json.loads(command("check", path, "--no-score", "--target", "ESP32P4", "--json").stdout)
    assert facts["target"].startswith("esp32p4, 8 bits")
    own = json.loads(command("check", path, "--no-score", "--json").stdout)
    assert own["target"].startswith("esp32s3, 8 bits")


@pytest.mark.parametrize(
    ("where", "name"),
    [("check", ""), ("check", "esp32p5"), ("run", "esp32p5"), ("tune", "../esp32p4")],
)
def test_an_unknown_chip_is_the_fault_that_it_is_in_the_contract(
    command: Command, tmp_path: Path, name: str, where: str
) -> None:
    path = write_contract(tmp_path)
    more = ["--baseline", "--output-dir", "o/iter_0"] if where == "run" else []
    done = command(where, path, *more, f"--target={name}")
    assert done.returncode == 3
    assert 'QUANT_CONFIG["target"]' in done.stderr
    assert "(given in place of the contract's own)" in done.stderr
    assert ("'esp32p4'" in done.stderr) or not name
    assert {each.name for each in tmp_path.iterdir()} <= {path.name, "__pycache__", "o"}


@pytest.mark.slow
@pytest.mark.usefixtures("short_training")
def test_a_search_on_another_chip_has_its_own_folder(command: Command, tmp_path: Path) -> None:
    path = write_contract(tmp_path)
    done = command(
        "tune", path, "--target", "esp32p4", "--iterations", "1", "--json", "--in-process"
    )
    assert done.returncode == 0, done.stderr
    outputs = tmp_path / "outputs-esp32p4"
    index = json.loads((outputs / "iter_0" / "iteration_index.json").read_text())
    assert (index["target_chip"], index["target_given"]) == ("esp32p4", True)
    assert not (tmp_path / "outputs").exists()
    history = read_history(outputs)
    assert shlex.split(retry_command(history.iterations[0]))[-2:] == ["--target", "esp32p4"]

    # The folder's chip, without a word of it.
    verified = command("verify", path, "--output-dir", outputs, "--samples", "1")
    assert verified.returncode == 0, verified.stderr
    assert "the rules of esp32p4" in verified.stdout
    assert command("final", path, "--output-dir", outputs, "--in-process").returncode == 0
    repeated = command("repeat", path, "--output-dir", outputs, "--draws", "2", "--in-process")
    assert repeated.returncode == 0, repeated.stderr
    draw = next((outputs / "repeat").rglob("iteration_index.json"))
    assert json.loads(draw.read_text())["target_chip"] == "esp32p4"
    cost = json.loads(command("cost", outputs, "--json").stdout)
    assert "esp32p4" in json.dumps(cost)

    # No second chip beside it.
    second = ["--baseline", "--output-dir", outputs / "iter_1"]
    for arguments in (
        ["run", path, *second],
        ["run", path, *second, "--in-process"],
        ["run", path, *second, "--dry-run"],
        ["tune", path, "--output-dir", outputs, "--iterations", "1"],
    ):
        refused = command(*arguments)
        assert refused.returncode == 7, refused.stderr
        assert "'esp32p4', this run has 'esp32s3'" in refused.stderr
        assert "--target esp32p4" in refused.stderr
    assert not (outputs / "iter_1").exists()
    with pytest.raises(OutputFolderError, match="another chip"):
        eq.quantize(contract=path, outputs=outputs, progress=False)


def test_python_takes_another_chip_with_a_contract_file(tmp_path: Path) -> None:
    path = write_contract(tmp_path)
    assert eq.check(path, target="esp32p4", score=False, progress=False)
    assert not eq.check(path, target="esp32p5", score=False, progress=False)
    with pytest.raises(ContractError, match="looks like 'esp32p4'"):
        eq.quantize(contract=path, target="esp32p5", outputs=tmp_path / "o", progress=False)
