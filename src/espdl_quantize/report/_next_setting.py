"""Saves the next setting, ready for ``run --setting``."""

from __future__ import annotations

from pathlib import Path

from espdl_quantize.core import EspdlQuantizeError, SettingError, write_json
from espdl_quantize.record import History
from espdl_quantize.report._commands import next_command
from espdl_quantize.report._comparison import ready_to_save
from espdl_quantize.search import Decision, Stop
from espdl_quantize.setting import Setting, load_setting


def write_next_setting(path: Path, history: History, setting: Setting) -> list[str]:
    """Write the setting that the search asks for; an older setting in its place is replaced.

    Returns:
        What was done, and the command that runs it.

    Raises:
        EspdlQuantizeError: ``path`` holds something else.
    """
    if path.exists() and not _is_setting(path):
        raise EspdlQuantizeError(
            f"{path} exists and holds no setting", "give another path; it is not overwritten"
        )
    path.parent.mkdir(parents=True, exist_ok=True)
    write_json(path, ready_to_save(setting))
    number = setting.iteration_id
    told = f"to run it: {next_command(history, number, path)}"
    return [f"wrote {path}: the setting of iter_{number}", told]


def why_none(decision: Decision) -> str:
    """Say why a phase has no ready setting, and what to do."""
    if isinstance(decision, Stop):
        return "no next setting was written: the search is over; see best/setting.json"
    return (
        f"no next setting was written: {decision.phase} has none; write one by hand from what is "
        "said above, 'espdl-quantize lint' checks it"
    )


def _is_setting(path: Path) -> bool:
    try:
        load_setting(path)
    except SettingError:
        return False
    return True
