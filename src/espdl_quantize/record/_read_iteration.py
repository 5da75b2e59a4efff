"""Reads one ``iter_<N>`` folder into an :class:`Iteration`, with a warning for whatever is odd."""

from __future__ import annotations

from dataclasses import fields
from pathlib import Path

from espdl_quantize.core import Direction, Json, Stage
from espdl_quantize.record._history import HistoryWarning
from espdl_quantize.record._values import number, read_any, text
from espdl_quantize.record.applied import applied_width, read_setting
from espdl_quantize.record.cost import read_cost
from espdl_quantize.record.device import Measurement, parse_measurement
from espdl_quantize.record.failure import FAILED, NO_EFFECT, Failure
from espdl_quantize.record.files import CHIP_COST, DEVICE, INDEX, METRICS
from espdl_quantize.record.iteration_record import Iteration, IterationRecord, record_from_json
from espdl_quantize.record.metrics import Metrics, read_metrics
from espdl_quantize.setting import DEFAULT_BITS, with_calibration


def read_iteration(
    folder: Path, number_in_name: int
) -> tuple[Iteration | None, list[HistoryWarning]]:
    """Read one folder.

    Returns:
        The iteration, or None where the folder holds no finished one; and the warnings.
    """
    notes: list[HistoryWarning] = []

    def warn(kind: str, message: str) -> None:
        notes.append(HistoryWarning(kind, f"{folder.name}: {message}", number_in_name))

    index, problem = read_any(folder / INDEX)
    if problem is None and not isinstance(index, dict):
        problem = f"holds a {type(index).__name__}, expected an object"
    if problem is not None:
        kind = "half-written" if problem == "is missing" else "broken-json"
        warn(kind, f"{INDEX} {problem}; the folder is left out of the history")
        return None, notes

    # Neither has a score, nor needs a metrics.json.
    is_marked_failed = index.get("status") in (FAILED, NO_EFFECT)
    metrics, problem = read_metrics(folder)
    if problem is not None and not is_marked_failed:
        kind = "half-written" if problem == "is missing" else "broken-json"
        warn(kind, f"{METRICS} {problem}; the folder is left out of the history")
        return None, notes

    stated_id = index.get("iteration_id")
    if stated_id != number_in_name or isinstance(stated_id, bool):
        warn("renamed", f"its {INDEX} says iteration_id {stated_id!r}; the folder's name counts")
    record = record_from_json(index)
    direction = _direction(index, metrics)
    if direction is None:
        warn("direction", "metric_direction is neither 'max' nor 'min'; the other runs' is used")
    value, failure = _score(index, metrics, record)
    if value is None and not is_marked_failed and metrics.error is None:
        warn("metric", f"{failure}; the iteration counts as failed")
    setting, problem = read_setting(folder)
    if problem is not None:
        warn("setting", f"{problem}; nothing can be derived from this iteration")
    device, problem = _device(folder)
    if problem is not None:
        warn("device", f"{problem}; what a board measured is left out")
    cost, problem = read_cost(folder)
    if problem is not None:
        warn("cost", f"{CHIP_COST} {problem}; what the model costs on the chip is not known")
    # Indices of earlier versions do not state the width.
    num_of_bits = record.num_of_bits or applied_width(folder)
    if setting is not None:
        setting = with_calibration(setting, num_of_bits or DEFAULT_BITS)
    stated = {each.name: getattr(record, each.name) for each in fields(IterationRecord)}
    changed = {
        "id": number_in_name,
        "value": value,
        "metric": record.metric or metrics.metric,
        "direction": direction,
        "failure": failure,
        "rationale": record.rationale or (setting.rationale if setting else ""),
        "evaluated_by": record.evaluated_by or metrics.used,
        "num_of_bits": num_of_bits,
    }
    iteration = Iteration(
        **{**stated, **changed},
        folder=folder,
        setting=setting,
        device=device,
        cost=cost,
        metrics=metrics.returned,
    )
    return iteration, notes


def _direction(index: Json, metrics: Metrics) -> Direction | None:
    stated = index.get("metric_direction", metrics.direction)
    return next((direction for direction in Direction if direction == stated), None)


def _score(
    index: Json, metrics: Metrics, record: IterationRecord
) -> tuple[float | None, Failure | None]:
    if record.is_without_effect:
        return None, None
    if record.failure is not None or metrics.error is not None:
        error = index.get("error")
        if isinstance(error, dict):
            return None, Failure.from_json(error)
        cause = text(error) or metrics.error or "no cause was recorded"
        return None, Failure("" if metrics.error is None else str(Stage.EVALUATE), cause)
    stated = index.get("primary_value", metrics.value)
    value = number(stated)
    if value is None:
        return None, Failure(
            str(Stage.EVALUATE),
            f"primary_value is {stated!r}, not a finite number",
            "let evaluate() return a finite int or float for the primary metric",
        )
    return value, None


def _device(folder: Path) -> tuple[Measurement | None, str | None]:
    content, problem = read_any(folder / DEVICE)
    if problem == "is missing":
        return None, None
    if problem is not None:
        return None, f"{DEVICE} {problem}"
    measurement = parse_measurement(content)
    return measurement, None if measurement is not None else f"{DEVICE} holds no measurement"
