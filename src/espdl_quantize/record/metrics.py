"""``metrics.json``: what the contract's evaluation returned, and the score in it."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from espdl_quantize.core import Json, write_json
from espdl_quantize.record._values import read_any, text
from espdl_quantize.record.files import METRICS
from espdl_quantize.record.iteration_record import IterationRecord

KEYS = {
    "_used": "the contract's function that scored",
    "_primary_key": "name of the score",
    "_primary_value": "the score; null where it failed",
    "metric_direction": "whether a larger or a smaller one is better",
    "_signals": "as in iteration_index.json",
    "_error": "only where there is no score: why",
}
"""The keys beside those that evaluate returned."""


@dataclass(frozen=True)
class Metrics:
    """The content of metrics.json, as far as it is of the expected types.

    Attributes:
        returned: what the evaluation returned.
        used: the contract's function.
        metric: name of the score.
        value: the score as it stands there, of whatever type.
        direction: whether a larger or a smaller one is better.
        error: why there is no score; None where nothing says that it failed.
    """

    returned: Mapping[str, Any] = field(default_factory=dict)
    used: str | None = None
    metric: str | None = None
    value: Any = None
    direction: str | None = None
    error: str | None = None

    @classmethod
    def from_json(cls, form: Json) -> Metrics:
        """Read the content of a metrics.json."""
        return cls(
            {key: item for key, item in form.items() if not key.startswith("_")},
            text(form.get("_used")),
            text(form.get("_primary_key")),
            form.get("_primary_value"),
            text(form.get("metric_direction")),
            (text(form["_error"]) or "") if "_error" in form else None,
        )


def write_metrics(
    folder: Path, record: IterationRecord, returned: Mapping[str, Any] | None, error: str = ""
) -> None:
    """Write metrics.json.

    Args:
        folder: the iteration's.
        record: says which score it is.
        returned: by the evaluation; None where there is no score.
        error: why there is none.

    Raises:
        OSError: it cannot be written.
    """
    is_scored = returned is not None and record.value is not None
    form: Json = dict(returned or {}) if is_scored else {"_error": error}
    form |= {
        "_used": record.evaluated_by if is_scored else None,
        "_primary_key": record.metric,
        "_primary_value": record.value,
        "metric_direction": record.direction,
        "_signals": record.to_json().get("signals") if is_scored else None,
    }
    write_json(folder / METRICS, form)


def read_metrics(folder: Path) -> tuple[Metrics, str | None]:
    """Read metrics.json.

    Returns:
        What it says, and what is wrong with it, in words that follow the file's name.
    """
    form, problem = read_any(folder / METRICS)
    if problem is None and not isinstance(form, dict):
        problem = f"holds a {type(form).__name__}, expected an object"
    return (Metrics(), problem) if problem is not None else (Metrics.from_json(form), None)
