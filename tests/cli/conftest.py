"""The command without a process of its own, which would import torch each time."""

import sys
from collections.abc import Callable
from pathlib import Path
from typing import NamedTuple

import pytest

from espdl_quantize.cli import main


class Done(NamedTuple):
    """How a command ended."""

    returncode: int
    stdout: str
    stderr: str


Command = Callable[..., Done]


@pytest.fixture
def command(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capfd: pytest.CaptureFixture[str]
) -> Command:
    """Run the command in ``tmp_path`` and return how it ended."""
    monkeypatch.chdir(tmp_path)

    def run(*arguments: object, columns: int = 200) -> Done:
        monkeypatch.setenv("COLUMNS", str(columns))
        monkeypatch.setattr(sys, "argv", ["espdl-quantize", *map(str, arguments)])
        capfd.readouterr()
        with pytest.raises(SystemExit) as ended:
            main()
        return Done(int(ended.value.code or 0), *capfd.readouterr())

    return run
