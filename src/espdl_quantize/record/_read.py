"""Reads an output folder into a :class:`History`."""

from __future__ import annotations

import re
from dataclasses import replace
from pathlib import Path

from espdl_quantize.core import Hint, Option, OutputFolderError
from espdl_quantize.record._comparable import reference_key, split_by_origin
from espdl_quantize.record._history import History, HistoryWarning
from espdl_quantize.record._iteration import Iteration
from espdl_quantize.record._read_finals import read_finals
from espdl_quantize.record._read_iteration import read_iteration
from espdl_quantize.record._values import number, read_any, text

GENERATOR = "espdl-quantize"
"""Value of the key ``generated_by`` in every JSON summary that this package writes."""

_ITERATION_NAME = re.compile(r"iter_(0|[1-9][0-9]{0,8})")


def read_history(outputs: Path) -> History:
    """Read every iteration of an output folder; nothing is kept between calls.

    Args:
        outputs: the folder that holds ``iter_0``, ``iter_1`` and so on.

    Raises:
        OutputFolderError: the folder does not exist or cannot be listed.
    """
    outputs = Path(outputs)
    try:
        entries = sorted(entry for entry in outputs.iterdir())
    except OSError as error:
        raise OutputFolderError(
            f"the output folder {outputs} cannot be read: {error.strerror or error}",
            Hint("give ", Option.OUTPUT_DIR, " the folder that holds iter_0"),
        ) from error

    warnings: list[HistoryWarning] = []
    rows: list[Iteration] = []
    reserved: list[int] = []
    for entry in entries:
        iteration_id = _iteration_id(entry, outputs, warnings)
        if iteration_id is None:
            continue
        try:
            if _is_only_planned(entry):
                continue
            row, notes = read_iteration(entry, iteration_id)
        except OSError as error:
            told = f"{entry.name} cannot be read: {error.strerror or error}"
            row, notes = None, [HistoryWarning("unreadable", told, iteration_id)]
        warnings += notes
        if row is None:
            reserved.append(iteration_id)
        else:
            rows.append(row)
    rows.sort(key=lambda row: row.id)
    ranked, excluded, notes = split_by_origin(rows)
    warnings += notes
    reserved += [row.id for row in excluded]
    history = History(
        iterations=tuple(ranked),
        folder=outputs,
        reserved_ids=tuple(sorted(reserved)),
        float_scores=_float_scores(outputs, reference_key(ranked), warnings),
        excluded=tuple(excluded),
        finals=read_finals(outputs, ranked),
    )
    warnings += _gaps(history)
    warnings += _disagreements(history)
    if is_foreign_comparison(outputs / "comparison.json"):
        warnings.append(
            HistoryWarning(
                "foreign-comparison",
                "comparison.json was not written by this tool; it is kept under another name when "
                "a new one is written",
            )
        )
    return replace(history, warnings=tuple(warnings))


def is_foreign_comparison(path: Path) -> bool:
    """Tell whether a file is there that this package did not write."""
    value, problem = read_any(path)
    if problem == "is missing":
        return False
    return not isinstance(value, dict) or value.get("generated_by") != GENERATOR


def _iteration_id(entry: Path, outputs: Path, warnings: list[HistoryWarning]) -> int | None:
    match = _ITERATION_NAME.fullmatch(entry.name)
    if match is None or not entry.is_dir():
        if entry.name.lower().startswith("iter") and not entry.name.startswith("iteration"):
            warnings.append(
                HistoryWarning(
                    "foreign-folder",
                    f"{entry.name!r} is no folder named iter_<number>; it is not read",
                )
            )
        return None
    if not entry.resolve().is_relative_to(outputs.resolve()):
        warnings.append(
            HistoryWarning(
                "foreign-folder",
                f"{entry.name} is a link that leads out of the output folder; it is not read",
                int(match[1]),
            )
        )
        return None
    return int(match[1])


def _is_only_planned(folder: Path) -> bool:
    """Tell whether a folder holds nothing but the setting of a run that has not begun."""
    return {entry.name for entry in folder.iterdir()} <= {"setting.json"}


def _float_scores(
    outputs: Path, key: str | None, warnings: list[HistoryWarning]
) -> dict[str, float]:
    """Read the float model's scores, unless they are of another contract than the iterations."""
    reference, problem = read_any(outputs / "float_reference.json")
    if problem == "is missing":
        return {}
    scores = reference.get("scores") if isinstance(reference, dict) else None
    if not isinstance(scores, dict):
        told = problem or "has no object 'scores'"
        warnings.append(HistoryWarning("broken-json", f"float_reference.json {told}"))
        return {}
    if key is not None and text(reference.get("key")) not in (None, key):
        return {}
    found = {
        name: number(score.get("primary_value"))
        for name, score in scores.items()
        if isinstance(score, dict)
    }
    return {name: value for name, value in found.items() if value is not None}


def _gaps(history: History) -> list[HistoryWarning]:
    taken = sorted({row.id for row in history.iterations} | set(history.reserved_ids))
    gaps = [
        f"iter_{before + 1}" if after - before == 2 else f"iter_{before + 1} to iter_{after - 1}"
        for before, after in zip([-1, *taken], taken, strict=False)
        if after - before > 1
    ]
    if not gaps:
        return []
    told = ", ".join(gaps[:10]) + (f" and {len(gaps) - 10} more" if len(gaps) > 10 else "")
    return [HistoryWarning("gap", f"the numbering has gaps: {told} not there")]


def _disagreements(history: History) -> list[HistoryWarning]:
    """Compare every scored iteration with the first one, which the ranking follows."""
    warnings: list[HistoryWarning] = []
    if history.scored and not any(row.direction for row in history.scored):
        warnings.append(
            HistoryWarning(
                "direction",
                f"no iteration states metric_direction; {history.direction!r} is assumed",
            )
        )
    judge = history.scored[0].evaluated_by if history.scored else None
    for row in history.scored:
        if row.direction is not None and row.direction != history.direction:
            warnings.append(
                HistoryWarning(
                    "direction",
                    f"{row.name} says metric_direction {row.direction!r}, the first scored "
                    f"iteration says {history.direction!r}, which is used for the ranking",
                    row.id,
                )
            )
        if row.metric is not None and row.metric != history.metric:
            warnings.append(
                HistoryWarning(
                    "metric-name",
                    f"{row.name} reports {row.metric!r}, the first scored iteration "
                    f"{history.metric!r}: their values are ranked together but may not compare",
                    row.id,
                )
            )
        if judge is not None and row.evaluated_by is not None and row.evaluated_by != judge:
            warnings.append(
                HistoryWarning(
                    "evaluated-by",
                    f"{row.name} was scored by {row.evaluated_by}(), the first scored iteration "
                    f"by {judge}(): their values may not compare",
                    row.id,
                )
            )
    return warnings + _moved_float_scores(history) + _not_held_out(history)


def _not_held_out(history: History) -> list[HistoryWarning]:
    """Warn once where calibration samples were scored."""
    rows = [row for row in history.scored if row.samples_shared_with_calibration]
    if not rows:
        return []
    names = ", ".join(row.name for row in rows[:6]) + (", ..." if len(rows) > 6 else "")
    most = max(row.samples_shared_with_calibration or 0 for row in rows)
    return [
        HistoryWarning(
            "overlap",
            f"calibration samples are among those that were scored, up to {most} of them "
            f"({names}): these scores are not of held-out data",
        )
    ]


def _moved_float_scores(history: History) -> list[HistoryWarning]:
    """Warn where the same function scored the float model otherwise than before.

    Contract and model are the same by now, so it is the data that changed, or the scoring is not
    deterministic.
    """
    first: dict[str, Iteration] = {}
    warnings = []
    for row in history.scored:
        if row.float_value is None or row.evaluated_by is None:
            continue
        before = first.setdefault(row.evaluated_by, row)
        if before.float_value != row.float_value:
            warnings.append(
                HistoryWarning(
                    "float-value",
                    f"{row.name} has the float model at {row.float_value:.6g}, {before.name} at "
                    f"{before.float_value:.6g}: the images that {row.evaluated_by}() scores may "
                    "have changed in between, and their values may not compare",
                    row.id,
                )
            )
    return warnings
