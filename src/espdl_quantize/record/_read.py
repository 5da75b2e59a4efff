"""Reads an output folder into a :class:`History`."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

from espdl_quantize.contract import Conflict, common_origin
from espdl_quantize.core import Hint, Option, OutputFolderError
from espdl_quantize.core.digests import sha256_of
from espdl_quantize.record._history import FinalScore, History, HistoryWarning
from espdl_quantize.record._read_iteration import read_iteration
from espdl_quantize.record._values import read_any
from espdl_quantize.record.files import (
    COMPARISON,
    FINAL,
    FLOAT_REFERENCE,
    MODEL,
    SETTING,
    iteration_name,
    iteration_number,
)
from espdl_quantize.record.float_reference import read_float_scores
from espdl_quantize.record.iteration_record import NO_LABELS, Iteration

GENERATOR = "espdl-quantize"
"""Value of the key ``generated_by`` in every JSON summary that this package writes."""


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
    records: list[Iteration] = []
    reserved: list[int] = []
    for entry in entries:
        iteration_id = _iteration_id(entry, outputs, warnings)
        if iteration_id is None:
            continue
        try:
            if _is_only_planned(entry):
                continue
            record, notes = read_iteration(entry, iteration_id)
        except OSError as error:
            message = f"{entry.name} cannot be read: {error.strerror or error}"
            record, notes = None, [HistoryWarning("unreadable", message, iteration_id)]
        warnings += notes
        if record is None:
            reserved.append(iteration_id)
        else:
            records.append(record)
    records.sort(key=lambda record: record.id)
    ranked, excluded, notes = split_by_origin(records)
    warnings += notes
    reserved += [record.id for record in excluded]
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
    warnings += _mismatches(history)
    if is_foreign_comparison(outputs / COMPARISON):
        warnings.append(
            HistoryWarning(
                "foreign-comparison",
                f"{COMPARISON} was not written by this tool; it is kept under another name when "
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
    number = iteration_number(entry)
    if number is None or not entry.is_dir():
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
                number,
            )
        )
        return None
    return number


def _is_only_planned(folder: Path) -> bool:
    """Tell whether a folder holds nothing but the setting of a run that has not begun."""
    return {entry.name for entry in folder.iterdir()} <= {SETTING}


def _float_scores(
    outputs: Path, key: str | None, warnings: list[HistoryWarning]
) -> dict[str, float]:
    """Read the float model's scores, unless they are of another contract than the iterations."""
    read, problem = read_float_scores(outputs)
    if problem is not None:
        warnings.append(HistoryWarning("broken-json", f"{FLOAT_REFERENCE} {problem}"))
    if key is not None and read.key not in (None, key):
        return {}
    values = {function: score.value for function, score in read.scores.items()}
    return {function: value for function, value in values.items() if value is not None}


def split_by_origin(
    records: list[Iteration],
) -> tuple[list[Iteration], list[Iteration], list[HistoryWarning]]:
    """Separate the iterations of another chip, contract or model than the first scored one's.

    Args:
        records: ascending by id.

    Returns:
        Those that are ranked, those that are not, and a warning for each of the latter.
    """
    scored = [record for record in records if record.value is not None]
    reference = common_origin(record.origin for record in scored)
    ranked, excluded, warnings = [], [], []
    for record in records:
        conflicts = record.origin.conflicts(reference)
        if not conflicts:
            ranked.append(record)
            continue
        excluded.append(record)
        reason = "; ".join(_describe_conflict(conflict, scored) for conflict in conflicts)
        warnings.append(
            HistoryWarning(
                "other-origin",
                f"{record.name} is excluded from the ranking and the search: {reason}",
                record.id,
            )
        )
    return ranked, excluded, warnings


def reference_key(records: list[Iteration]) -> str | None:
    """Return the key that the ranked iterations share, None where they are older than keys."""
    return common_origin(
        record.origin for record in records if record.value is not None
    ).float_reference_key


def _describe_conflict(conflict: Conflict, scored: list[Iteration]) -> str:
    name, _, expected = conflict
    here, there = conflict.shown()
    if conflict.is_of_versions:
        return f"it is for another version of ESP-DL ({here}) than what was scored first ({there})"
    first = next(record for record in scored if getattr(record.origin, name) == expected)
    if conflict.is_of_chips:
        return f"its target_chip is {here}, that of {first.name} is {there}"
    return (
        "the contract or its model was edited in between "
        f"({name} {here}, that of {first.name} is {there})"
    )


def read_finals(outputs: Path, records: list[Iteration]) -> dict[int, FinalScore]:
    """Read the final scores of the ranked iterations.

    One is left out that failed, or is of another contract or of another setting than the iteration
    has now.
    """
    finals = {}
    for record in records:
        folder = outputs / FINAL / record.name
        if record.value is None or not folder.is_dir():
            continue
        score, _ = read_iteration(folder, record.id)
        if score is None or score.value is None or score.origin.conflicts(record.origin):
            continue
        if _plain(score) != _plain(record):
            continue
        digest = model_digest(record.folder / MODEL)
        is_known = digest is not None and score.model_sha256 is not None
        finals[record.id] = FinalScore(score, digest == score.model_sha256 if is_known else None)
    return finals


def _plain(record: Iteration) -> object:
    """Return what was asked for, less what only names it."""
    if record.setting is None:
        return None
    return record.setting.model_dump(exclude={"iteration_id", "rationale"}), record.seed


def model_digest(file: Path) -> str | None:
    """Return the SHA-256 of an exported model; None where there is none."""
    try:
        return sha256_of(file)
    except OSError:
        return None


def _gaps(history: History) -> list[HistoryWarning]:
    taken = sorted({record.id for record in history.iterations} | set(history.reserved_ids))
    gaps = [
        iteration_name(before + 1)
        if after - before == 2
        else f"{iteration_name(before + 1)} to {iteration_name(after - 1)}"
        for before, after in zip([-1, *taken], taken, strict=False)
        if after - before > 1
    ]
    if not gaps:
        return []
    missing = ", ".join(gaps[:10]) + (f" and {len(gaps) - 10} more" if len(gaps) > 10 else "")
    return [HistoryWarning("gap", f"the numbering has gaps: {missing} not there")]


def _disagreements(history: History) -> list[HistoryWarning]:
    """Compare every scored iteration with the first one, which the ranking follows."""
    warnings: list[HistoryWarning] = []
    if history.scored and not any(record.direction for record in history.scored):
        warnings.append(
            HistoryWarning(
                "direction",
                f"no iteration states metric_direction; {history.direction!r} is assumed",
            )
        )
    judge = history.scored[0].evaluated_by if history.scored else None
    for record in history.scored:
        if record.direction is not None and record.direction != history.direction:
            warnings.append(
                HistoryWarning(
                    "direction",
                    f"{record.name} says metric_direction {record.direction!r}, the first scored "
                    f"iteration says {history.direction!r}, which is used for the ranking",
                    record.id,
                )
            )
        if record.metric is not None and record.metric != history.metric:
            warnings.append(
                HistoryWarning(
                    "metric-name",
                    f"{record.name} reports {record.metric!r}, the first scored iteration "
                    f"{history.metric!r}: their values are ranked together but may not compare",
                    record.id,
                )
            )
        if judge is not None and record.evaluated_by is not None and record.evaluated_by != judge:
            warnings.append(
                HistoryWarning(
                    "evaluated-by",
                    f"{record.name} was scored by {record.evaluated_by}(), the first scored "
                    f"iteration by {judge}(): their values may not compare",
                    record.id,
                )
            )
    if judge == NO_LABELS:
        warnings.append(
            HistoryWarning(
                "no-labels",
                f"no label was used: {history.metric} is agreement with the float model on "
                "held-out samples, and says nothing of how often either is right",
            )
        )
    return warnings + _moved_float_scores(history) + _not_held_out(history)


def _mismatches(history: History) -> list[HistoryWarning]:
    """Warn where a model was scored that is not the contract's own."""
    records = [record for record in history.iterations if record.float_mismatch]
    if not records:
        return []
    names = ", ".join(record.name for record in records[:6]) + (", ..." if len(records) > 6 else "")
    return [
        HistoryWarning(
            "float-mismatch",
            f"these are scores of another model than yours, by allow_mismatch ({names}): "
            f"{records[-1].float_mismatch}",
        )
    ]


def _not_held_out(history: History) -> list[HistoryWarning]:
    """Warn once where calibration samples were scored."""
    records = [record for record in history.scored if record.samples_shared_with_calibration]
    if not records:
        return []
    names = ", ".join(record.name for record in records[:6]) + (", ..." if len(records) > 6 else "")
    most = max(record.samples_shared_with_calibration or 0 for record in records)
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
    for record in history.scored:
        if record.float_value is None or record.evaluated_by is None:
            continue
        before = first.setdefault(record.evaluated_by, record)
        if before.float_value != record.float_value:
            warnings.append(
                HistoryWarning(
                    "float-value",
                    f"{record.name} has the float model at {record.float_value:.6g}, "
                    f"{before.name} at {before.float_value:.6g}: the samples that "
                    f"{record.evaluated_by}() scores may have changed in between, and their values "
                    "may not compare",
                    record.id,
                )
            )
    return warnings
