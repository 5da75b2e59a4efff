"""Command lines that a reader can paste."""

from __future__ import annotations

import shlex
import shutil
import sys
from pathlib import Path

from espdl_quantize.record import History, Iteration
from espdl_quantize.record.files import SETTING, iteration_name

PROGRAM = "espdl-quantize"
CONTRACT = "user_quant.py"
"""The usual name of a contract, for an iteration that does not say where its own is."""


def program() -> str:
    """Return what starts this program in a shell.

    That is its name where the shell finds it, and else this interpreter with the module: a script
    or an agent often runs in an environment that is not activated.
    """
    command = shutil.which(PROGRAM)
    beside = Path(sys.executable).parent
    if command is not None and beside in (Path(command).parent, Path(command).resolve().parent):
        return PROGRAM
    return f"{shlex.quote(sys.executable)} -m espdl_quantize"


def early_finalize_command(outputs: Path, *, is_open: bool) -> str:
    """Return the command that ends the search now.

    Args:
        outputs: the output folder.
        is_open: it is in phase 5, where ending it has to be meant.
    """
    folder = shlex.quote(str(outputs.resolve()))
    command = f"{program()} compare --output-dir {folder} --finalize"
    return f"{command} --force-finalize" if is_open else command


def retry_command(iteration: Iteration) -> str:
    """Return the command that runs a failed iteration again, in its own folder."""
    folder = iteration.folder.resolve()
    return _run_command(iteration, folder, folder / SETTING)


def next_command(history: History, iteration_id: int, setting: Path) -> str:
    """Return the command that runs a setting file as the next iteration of a folder."""
    known = (row for row in reversed(history.iterations) if row.contract_path)
    folder = history.folder.resolve() / iteration_name(iteration_id)
    return _run_command(next(known, None), folder, setting.resolve())


def _run_command(like: Iteration | None, folder: Path, setting: Path) -> str:
    contract = CONTRACT if like is None else like.contract_path or CONTRACT
    parts = ["run", contract, "--output-dir", folder, "--setting", setting]
    if like is not None and like.target_given and like.target_chip:
        parts += ["--target", like.target_chip]
    if like is not None and like.esp_dl_version:
        # Part of what scores are compared by. The contract may name it itself: then it is the same.
        parts += ["--esp-dl-version", like.esp_dl_version]
    return f"{program()} {shlex.join(map(str, parts))}"
