"""Command lines that a reader can paste."""

from __future__ import annotations

import shlex
import shutil
import sys
from pathlib import Path

from espdl_quantize.history import Iteration

PROGRAM = "espdl-quantize"
CONTRACT = "user_quant.py"
"""The usual name of a contract, for an iteration that does not say where its own is."""


def program() -> str:
    """Return what starts this program in a shell.

    That is its name where the shell finds it, and else this interpreter with the module: a script
    or an agent often runs in an environment that is not activated.
    """
    found = shutil.which(PROGRAM)
    beside = Path(sys.executable).parent
    if found is not None and beside in (Path(found).parent, Path(found).resolve().parent):
        return PROGRAM
    return f"{shlex.quote(sys.executable)} -m espdl_quantize"


def early_finalize_command(outputs: Path, is_open: bool) -> str:
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
    setting = shlex.quote(str(folder / "setting.json"))
    contract = shlex.quote(iteration.contract_path or CONTRACT)
    return f"{program()} run {contract} --output-dir {shlex.quote(str(folder))} --setting {setting}"
