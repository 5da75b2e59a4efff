"""Saves the next setting, ready for ``run --setting``."""

from __future__ import annotations

from pathlib import Path

from espdl_quantize.errors import EspdlQuantizeError, SettingError
from espdl_quantize.history import History
from espdl_quantize.jsonio import write_json
from espdl_quantize.report._commands import next_command
from espdl_quantize.report._comparison import ready_to_save
from espdl_quantize.search import Decision
from espdl_quantize.setting import load_setting


def write_next_setting(path: Path, history: History, decision: Decision) -> list[str]:
    """Write the setting that the search asks for; an older setting in its place is replaced.

    Returns:
        What was done, and the command that runs it.

    Raises:
        EspdlQuantizeError: the phase has no ready setting, or ``path`` holds something else.
    """
    if decision.setting is None:
        over = decision.stop is not None
        raise EspdlQuantizeError(
            f"{decision.phase} has no next setting to write",
            "the search is over; see best/setting.json"
            if over
            else "write one by hand: 'compare' says what the data suggests, 'lint' checks it",
        )
    if path.exists() and not _is_setting(path):
        raise EspdlQuantizeError(
            f"{path} exists and holds no setting", "give another path; it is not overwritten"
        )
    path.parent.mkdir(parents=True, exist_ok=True)
    write_json(path, ready_to_save(decision.setting))
    number = decision.setting.iteration_id
    told = f"to run it: {next_command(history, number, path)}"
    return [f"wrote {path}: the setting of iter_{number}", told]


def _is_setting(path: Path) -> bool:
    try:
        load_setting(path)
    except SettingError:
        return False
    return True
