"""Checks a hand-written setting before it costs the time of an iteration."""

from __future__ import annotations

from pathlib import Path

from espdl_quantize.core import EspdlQuantizeError
from espdl_quantize.record import LazyEvidence, iteration_number, read_history
from espdl_quantize.search import SearchState, lint_setting
from espdl_quantize.setting import load_setting


def check_discipline(setting_path: Path, folder: Path) -> None:
    """Refuse a setting that breaks a rule of the search that it would be added to.

    A folder that is no ``iter_<N>``, or beside which nothing was run, belongs to no search. What is
    run again in its own folder is judged by what was known when it was first run.

    Raises:
        EspdlQuantizeError: it breaks a rule.
        SettingError: it is no setting.
    """
    setting = load_setting(setting_path)
    folder = folder.resolve()
    number = iteration_number(folder)
    if number is None or not folder.parent.is_dir():
        return
    history = read_history(folder.parent)
    history = history.upto(sum(row.id < number for row in history.iterations))
    if not history.iterations:
        return
    broken = lint_setting(setting, SearchState.of(history, LazyEvidence(history)))
    if broken:
        raise EspdlQuantizeError(
            f"{setting_path} breaks a rule of the search: " + "; ".join(map(str, broken)),
            "fix the setting, or pass --allow to run it all the same; the report will say so",
        )
