"""What is left of an iteration that ended badly: on a full disk, or with its whole process."""

from __future__ import annotations

import shutil
from collections.abc import Mapping
from pathlib import Path

from espdl_quantize.core import (
    EspdlQuantizeError,
    IterationError,
    Json,
    PassError,
    is_full_disk,
    write_json,
)
from espdl_quantize.record._staging import INDEX
from espdl_quantize.setting import Setting

SPILLED = "spilled"
"""The folder of what lies on the disk while memory is short."""

_WORKING_FILES = ("float_model.onnx", "float_model.onnx.data", SPILLED)
_WHILE_A_MODEL_IS_MADE = ("export", "check model")
_HALF_WRITTEN = ".*.tmp"
"""What :func:`espdl_quantize.core.write_json` writes to before it renames."""


def full_disk(outputs: Path, stage: str) -> IterationError:
    """Return the error that names a full disk."""
    return IterationError(
        f"the disk that holds {outputs} is full (while: {stage})",
        "free some space and run the same command again",
    )


def error_of(stage: str, failure: EspdlQuantizeError) -> Json:
    """Return what iteration_index.json says of a failure."""
    error: Json = {"stage": stage, "cause": failure.cause, "hint": failure.hint}
    where = failure.failed_pass if isinstance(failure, PassError) else None
    if where is not None:
        error |= {
            "pass": where.name,
            "field": where.field or None,
            "layer": where.layer or None,
            "layers": list(where.layers),
            "other_layers": list(where.other_layers),
        }
    return error


def sweep_up(staging: Path, failed_at: str | None) -> None:
    """Remove what is no artifact.

    Args:
        staging: the iteration's folder.
        failed_at: the stage that did not come to its end. Half a model, or one that no chip can
            run, must not be taken for one; and on a full disk this frees the space for what is
            still to be written.
    """
    for name in _WORKING_FILES:
        _remove(staging / name)
    for file in staging.glob(_HALF_WRITTEN):
        _remove(file)
    if failed_at in _WHILE_A_MODEL_IS_MADE:
        for file in staging.glob("model.*"):
            _remove(file)


def record_lost(
    staging: Path,
    setting: Setting,
    draft: Mapping[str, object],
    stage: str,
    failure: EspdlQuantizeError,
    elapsed: float,
    seconds: Mapping[str, float],
) -> Json:
    """Record a failed iteration on behalf of a process that is no more.

    Args:
        staging: what it has written so far.
        setting: what it ran.
        draft: the index as it last stood.
        stage: the last one that was heard of.
        failure: what became of the process.
        elapsed: seconds from begin to end.
        seconds: by stage.

    Returns:
        The content of iteration_index.json.

    Raises:
        IterationError: the disk is full.
    """
    index = {
        **draft,
        "status": "failed",
        "error": error_of(stage, failure),
        "model_path": None,
        "primary_value": None,
        "elapsed_seconds": round(elapsed, 3),
        "elapsed_by_stage": dict(seconds),
    }
    sweep_up(staging, failed_at=stage)
    metrics = {
        "_error": str(failure),
        "_used": None,
        "_primary_key": index.get("primary_metric"),
        "_primary_value": None,
        "metric_direction": index.get("metric_direction"),
    }
    try:
        if not (staging / "setting.json").exists():
            write_json(staging / "setting.json", setting.model_dump(exclude_unset=True))
        write_json(staging / "metrics.json", metrics)
        write_json(staging / INDEX, index)
    except OSError as error:
        if is_full_disk(error):
            raise full_disk(staging.parent, stage) from error
        raise
    return index


def _remove(path: Path) -> None:
    if path.is_dir() and not path.is_symlink():
        shutil.rmtree(path, ignore_errors=True)
    else:
        path.unlink(missing_ok=True)
