"""Reads one ``iter_<N>`` folder into a row, with a warning for whatever is odd."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

from espdl_quantize.core import FailedPass, SettingError
from espdl_quantize.record._device import DEVICE, Measurement, parse_measurement
from espdl_quantize.record._history import HistoryWarning
from espdl_quantize.record._iteration import (
    Attempt,
    Direction,
    EngineFallback,
    Failure,
    Iteration,
    LayerError,
    OnChip,
    OutputSignal,
    Priority,
    Signals,
)
from espdl_quantize.record._read_applied import applied_width
from espdl_quantize.record._values import integer, names, number, objects, read_any, text, width
from espdl_quantize.setting import DEFAULT_BITS, Setting, parse_setting, with_calibration

_MOST_ATTEMPTS = 10
_PRIORITIES: tuple[Priority, ...] = ("balanced", "speed", "pc_time")

_OLD_KEYS = {"hint": "mend"}
"""What keys were called in folders of 2026."""


def read_iteration(
    folder: Path, number_in_name: int
) -> tuple[Iteration | None, list[HistoryWarning]]:
    """Read one folder.

    Returns:
        The row, or None where the folder holds no finished iteration; and the warnings.
    """
    notes: list[HistoryWarning] = []

    def warn(kind: str, told: str) -> None:
        notes.append(HistoryWarning(kind, f"{folder.name}: {told}", number_in_name))

    index, problem = read_any(folder / "iteration_index.json")
    if problem is None and not isinstance(index, dict):
        problem = f"holds a {type(index).__name__}, expected an object"
    if problem is not None:
        kind = "half-written" if problem == "is missing" else "broken-json"
        warn(kind, f"iteration_index.json {problem}; the folder is left out of the history")
        return None, notes

    marked_failed = index.get("status") == "failed"
    metrics, problem = read_any(folder / "metrics.json")
    if problem is None and not isinstance(metrics, dict):
        problem = f"holds a {type(metrics).__name__}, expected an object"
    if problem is not None:
        metrics = {}
        if not marked_failed:
            kind = "half-written" if problem == "is missing" else "broken-json"
            warn(kind, f"metrics.json {problem}; the folder is left out of the history")
            return None, notes

    stated_id = index.get("iteration_id")
    if stated_id != number_in_name or isinstance(stated_id, bool):
        warn(
            "renamed",
            f"its iteration_index.json says iteration_id {stated_id!r}; the folder's name counts",
        )
    direction = _direction(index, metrics)
    if direction is None:
        warn("direction", "metric_direction is neither 'max' nor 'min'; the other runs' is used")
    value, failure = _score(index, metrics, marked_failed)
    if value is None and not marked_failed and "_error" not in metrics:
        warn("metric", f"{failure}; the iteration counts as failed")
    setting, problem = _setting(folder)
    if problem is not None:
        warn("setting", f"{problem}; nothing can be derived from this iteration")
    device, problem = _device(folder)
    if problem is not None:
        warn("device", f"{problem}; what a board measured is left out")
    # Indices of earlier versions do not state the width.
    num_of_bits = width(index.get("num_of_bits")) or applied_width(folder)
    if setting is not None:
        setting = with_calibration(setting, num_of_bits or DEFAULT_BITS)
    row = Iteration(
        id=number_in_name,
        folder=folder,
        setting=setting,
        value=value,
        metric=text(index.get("primary_metric")) or text(metrics.get("_primary_key")),
        direction=direction,
        target=number(index.get("target_metric")),
        failure=failure,
        rationale=text(index.get("rationale")) or (setting.rationale if setting else ""),
        evaluated_by=text(index.get("evaluated_by")) or text(metrics.get("_used")),
        float_value=number(index.get("float_value")),
        float_reference_key=text(index.get("float_reference_key")),
        contract_key=text(index.get("contract_key")),
        elapsed_seconds=number(index.get("elapsed_seconds")),
        elapsed_by_stage=_seconds(index.get("elapsed_by_stage")),
        seconds_saved=_saved(index.get("reused")),
        top_5_error_layers=_layers(index.get("top_5_error_layers")),
        non_computing_hot_ops_count=integer(index.get("non_computing_hot_ops_count")),
        graphwise_jumps_count=integer(index.get("graphwise_jumps_count")),
        contract_path=text(index.get("contract_path")),
        model_name=text(index.get("model_name")),
        target_chip=text(index.get("target_chip")),
        num_of_bits=num_of_bits,
        deploy_runtime_priority=_priority(index.get("deploy_runtime_priority")),
        seed=integer(index.get("seed")),
        engine=text(index.get("engine")),
        engine_fallbacks=_fallbacks(index.get("engine_fallbacks")),
        esp_ppq_version=text(index.get("esp_ppq_version")),
        on_chip=_on_chip(index.get("chip_check")),
        device=device,
        metrics={key: item for key, item in metrics.items() if not key.startswith("_")},
        warnings=names(index.get("applied_setting_warnings")),
        sample_count=_count(index.get("sample_count")),
        sample_count_from=text(index.get("sample_count_from")),
        metric_unit=text(index.get("metric_unit")),
        per_sample_scale=number(index.get("per_sample_scale")),
        samples_shared_with_calibration=integer(index.get("samples_shared_with_calibration")),
        signals=_signals(index.get("signals")),
        final_by=text(index.get("final_by")),
        model_sha256=text(index.get("model_sha256")),
        samples_shared_with_search=integer(index.get("samples_shared_with_search")),
        attempts=_attempts(index.get("attempts")),
    )
    return row, notes


def _direction(index: dict[str, Any], metrics: dict[str, Any]) -> Direction | None:
    stated = index.get("metric_direction", metrics.get("metric_direction"))
    if stated == "max":
        return "max"
    return "min" if stated == "min" else None


def _fallbacks(stated: object) -> tuple[EngineFallback, ...]:
    found = (
        (text(item.get("part")), text(item.get("layer")), text(item.get("reason")))
        for item in objects(stated)
    )
    return tuple(
        EngineFallback(part, layer or "", reason or "") for part, layer, reason in found if part
    )


def _priority(stated: object) -> Priority | None:
    return next((priority for priority in _PRIORITIES if priority == stated), None)


def _score(
    index: dict[str, Any], metrics: dict[str, Any], marked_failed: bool
) -> tuple[float | None, Failure | None]:
    error = index.get("error")
    if marked_failed or "_error" in metrics:
        if isinstance(error, dict):
            return None, _failure(error)
        cause = text(error) or text(metrics.get("_error")) or "no cause was recorded"
        return None, Failure("evaluate" if "_error" in metrics else "", cause)
    stated = index.get("primary_value", metrics.get("_primary_value"))
    value = number(stated)
    if value is None:
        return None, Failure(
            "evaluate",
            f"primary_value is {stated!r}, not a finite number",
            "let evaluate() return a finite int or float for the primary metric",
        )
    return value, None


def _failure(error: dict[str, Any]) -> Failure:
    stage, cause, hint = (
        text(error.get(key, error.get(_OLD_KEYS.get(key, "")))) or ""
        for key in ("stage", "cause", "hint")
    )
    name = text(error.get("pass"))
    if not name:
        return Failure(stage, cause, hint)
    where = FailedPass(
        name,
        text(error.get("field")) or "",
        text(error.get("layer")) or "",
        names(error.get("layers")),
        names(error.get("other_layers")),
    )
    return Failure(stage, cause, hint, where)


def _attempts(value: object) -> tuple[Attempt, ...]:
    return tuple(
        Attempt(
            _failure(item), text(item.get("ended_at")) or "", number(item.get("elapsed_seconds"))
        )
        for item in objects(value)
    )[-_MOST_ATTEMPTS:]


def _setting(folder: Path) -> tuple[Setting | None, str | None]:
    payload, problem = read_any(folder / "setting.json")
    if problem is not None:
        return None, f"setting.json {problem}"
    if not isinstance(payload, dict):
        return None, f"setting.json holds a {type(payload).__name__}, expected an object"
    try:
        json.dumps(payload, ensure_ascii=False).encode()
        return parse_setting(payload), None
    except UnicodeEncodeError:
        return None, "setting.json holds text that is not Unicode"
    except SettingError as error:
        return None, f"setting.json: {text(error.cause)}"


def _device(folder: Path) -> tuple[Measurement | None, str | None]:
    content, problem = read_any(folder / DEVICE)
    if problem == "is missing":
        return None, None
    if problem is not None:
        return None, f"{DEVICE} {problem}"
    found = parse_measurement(content)
    return found, None if found is not None else f"{DEVICE} holds no measurement"


def _on_chip(value: object) -> OnChip | None:
    if not isinstance(value, dict):
        return None
    legal = value.get("legal")
    return OnChip(
        legal=legal if isinstance(legal, bool) else None,
        doubts=integer(value.get("doubts_count")),
        exact_percent=number(value.get("exact_percent")),
        largest_difference=integer(value.get("largest_difference")),
        end_to_end_exact_percent=number(value.get("end_to_end_exact_percent")),
        ops_checked=integer(value.get("ops_checked")),
        ops_skipped=integer(value.get("ops_skipped")),
        overflows=integer(value.get("overflows")),
    )


def _layers(value: object) -> tuple[LayerError, ...]:
    rows = ((text(item.get("op")), number(item.get("snr"))) for item in objects(value))
    return tuple(LayerError(op, snr) for op, snr in rows if op is not None)


def _saved(reused: object) -> float:
    saved = (number(one.get("seconds")) for one in objects(reused))
    return sum(seconds for seconds in saved if seconds is not None and seconds > 0)


def _count(value: object) -> int | None:
    count = integer(value)
    return count if count is not None and count > 0 else None


def _signals(value: object) -> Signals | None:
    if not isinstance(value, dict) or _count(value.get("samples")) is None:
        return None
    outputs = tuple(
        OutputSignal(
            text(item.get("name")) or "",
            number(item.get("noise_signal")),
            number(item.get("agreement")),
            number(item.get("cosine")),
        )
        for item in objects(value.get("outputs"))
    )
    return Signals(
        _count(value.get("samples")) or 0,
        number(value.get("noise_signal")),
        number(value.get("agreement")),
        outputs,
    )


def _seconds(value: object) -> dict[str, float]:
    if not isinstance(value, dict):
        return {}
    pairs = ((stage, number(seconds)) for stage, seconds in value.items())
    return {stage: seconds for stage, seconds in pairs if seconds is not None}
