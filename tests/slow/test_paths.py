"""Every command with relative paths, on contracts that change the working directory."""

from __future__ import annotations

import json
import os
import runpy
import sys
from pathlib import Path

import pytest

from espdl_quantize.cli import main
from tests.contracts import write_contract

pytestmark = pytest.mark.slow

SCRIPTS = Path(__file__).parents[2] / "skill" / "espdl-quantize" / "scripts"
RUN = ("run", "user_quant.py", "--baseline", "--output-dir")
COMMANDS: dict[str, tuple[tuple[str, ...], str | None]] = {
    "init": (("init", "--torch", "other.py"), "other.py"),
    "check": (("check", "user_quant.py", "--progress-json", "check.jsonl"), "check.jsonl"),
    "run in a worker": ((*RUN, "outputs/iter_0"), "outputs/iter_0/model.espdl"),
    "run": ((*RUN, "other/iter_0", "--in-process"), "other/iter_0/model.espdl"),
    "run --dry-run": ((*RUN, "none/iter_0", "--dry-run"), None),
    "tune --dry-run": (("tune", "user_quant.py", "--in-process", "--dry-run"), None),
    "tune": (
        (
            "tune",
            "user_quant.py",
            "--in-process",
            "--iterations",
            "1",
            "--progress-json",
            "t.jsonl",
        ),
        "outputs/report.html",
    ),
    "final": (("final", "user_quant.py", "--in-process", "--again"), "outputs/final/iter_0"),
    "verify": (("verify", "user_quant.py", "--output-dir", "outputs"), None),
    "verify an iteration": (("verify", "user_quant.py", "--output-dir", "outputs/iter_0"), None),
    "repeat": (("repeat", "user_quant.py", "--draws", "2", "--in-process"), "outputs/repeat"),
    "compare": (("compare", "--write-next", "next.json"), "outputs/comparison.json"),
    "lint": (("lint", "next.json", "--output-dir", "outputs"), None),
    "run a setting": (
        (
            *("run", "user_quant.py", "--setting", "next.json", "--in-process"),
            *("--output-dir", "outputs/iter_9"),
        ),
        "outputs/iter_9/model.espdl",
    ),
    "schema": (("schema",), None),
    "skill install": (("skill", "install", "--path", "skills"), "skills/espdl-quantize/SKILL.md"),
}
"""In the order of a session: what to run, and what is there afterwards."""


def _write(home: Path) -> Path:
    """Write a contract that goes away at its import, and again in each of its functions."""
    away = home / "away"
    away.mkdir()
    leave = f"import os, sys; os.chdir({str(away)!r}); sys.path.insert(0, {str(away)!r})"
    early, late = f"{leave}\n", f"{leave}\n    "
    final = (
        f"def evaluate_final(quant_graph):\n    {late}from tests.networks import agreement\n"
        "    return {'top1': agreement(quant_graph, 128)}\n"
        f"def collate_fn(batch):\n    {late}return batch\n"
    )
    write_contract(
        home,
        prelude=early,
        calibration=late + "from tests.networks import calibration_images\n"
        "    return (image for image in calibration_images(64).split(16))",
        model=late + "from tests.networks import depthwise_cnn\n    return depthwise_cnn()",
        evaluate=late + "from tests.networks import agreement\n"
        "    return {'top1': agreement(quant_graph, 256)}",
        extra=final,
    )
    return away


@pytest.mark.usefixtures("short_training")
def test_relative_paths_are_of_the_callers_directory(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capfd: pytest.CaptureFixture[str]
) -> None:
    away = _write(tmp_path)
    monkeypatch.chdir(tmp_path)
    entries = [one for one in sys.path if "site-packages" not in one]
    monkeypatch.setenv("PYTHONPATH", os.pathsep.join(entries))
    for name, (arguments, left) in COMMANDS.items():
        monkeypatch.setattr(sys, "argv", ["espdl-quantize", *arguments])
        code: object = 0
        try:
            main()
        except SystemExit as ended:
            code = ended.code or 0
        assert code == 0, name
        assert Path.cwd() == tmp_path, name
        assert [one for one in sys.path if "site-packages" not in one] == entries, name
        assert left is None or Path(left).exists(), name
        assert not [*away.iterdir()], name
    assert not Path("none").exists()
    assert Path("t.jsonl").stat().st_size > 0
    flags = ["--user-quant", "user_quant.py", "--baseline", "--output-dir", "by_script/iter_0"]
    script = SCRIPTS / "run_iteration.py"
    monkeypatch.setattr(sys, "argv", [str(script), *flags, "--json", "--in-process"])
    monkeypatch.syspath_prepend(SCRIPTS)
    monkeypatch.setattr(sys, "dont_write_bytecode", sys.dont_write_bytecode)
    capfd.readouterr()
    with pytest.raises(SystemExit) as ending:
        runpy.run_path(str(script), run_name="__main__")
    assert not ending.value.code
    assert json.loads(capfd.readouterr().out)["status"] == "ok"
    assert Path("by_script/iter_0/model.espdl").is_file()
    assert not [*away.iterdir()]
