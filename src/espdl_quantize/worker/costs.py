"""Costs of an output folder's models, computed in a process of their own.

Reading a model takes esp-ppq and with it torch, which commands that only read a folder do without.
"""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path

from espdl_quantize.record import History
from espdl_quantize.record.files import MODEL

_PROGRAM = """
import json, sys
sys.path[:] = sys.argv[1:]
sys.argv[:] = ["espdl-quantize"]
from pathlib import Path
order = json.loads(sys.stdin.read())
from espdl_quantize.iteration import captured
with captured(None):
    from espdl_quantize.chip.cost import keep_costs
    notes = keep_costs(Path(order["outputs"]), again=order["again"])
print(json.dumps([str(note) for note in notes]))
"""
_SECONDS = 300.0
_HEADER = 16
"""Bytes of an .espdl before its content."""


def has_models(history: History) -> bool:
    """Tell whether there is a model that costs could be read from."""
    return any(_begins_well(record.folder) for record in history.iterations)


def lacks_costs(history: History) -> bool:
    """Tell whether there is a model of which it is not known what it costs, and could be."""
    return any(
        record.cost is None and record.target_chip is not None and _begins_well(record.folder)
        for record in history.iterations
    )


def _begins_well(folder: Path) -> bool:
    """Tell whether a model has more than a header; starting a process takes seconds."""
    try:
        with (folder / MODEL).open("rb") as file:
            return len(head := file.read(_HEADER + 1)) > _HEADER and head.startswith(b"EDL")
    except OSError:
        return False


def keep_costs_apart(outputs: Path, *, again: bool = False) -> list[str]:
    """Write what each iteration's model costs; see :func:`espdl_quantize.chip.cost.keep_costs`.

    Returns:
        What could not be done, in words; no search depends on it.
    """
    order = {"outputs": str(Path(outputs).resolve()), "again": again}
    try:
        done = subprocess.run(
            [sys.executable, "-c", _PROGRAM, *sys.path],
            input=json.dumps(order).encode(),
            capture_output=True,
            timeout=_SECONDS,
            check=False,
        )
        notes = json.loads(done.stdout) if done.returncode == 0 else None
    except (OSError, ValueError, subprocess.TimeoutExpired) as error:
        return [f"what the models cost on the chip is not known: {type(error).__name__}"]
    if not isinstance(notes, list):
        last = done.stderr.decode("utf-8", "replace").strip().splitlines()[-1:]
        return [f"what the models cost on the chip is not known: {' '.join(last)[:300]}"]
    return [str(note) for note in notes]
