"""``float_reference.json``: the float model's scores, which all iterations of a folder share."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from espdl_quantize.core import Json, write_json
from espdl_quantize.record._values import number, read_any, text
from espdl_quantize.record.files import FLOAT_REFERENCE

KEYS = {
    "key": "stands for the contract and the float model, the `float_reference_key` of iterations",
    "scores": "by function of the contract, the `metrics` that it returned and the "
    "`primary_value` in them",
}


@dataclass(frozen=True)
class FloatScore:
    """One score of the float model; the value is None where it is not of the expected type."""

    value: float | None
    metrics: Mapping[str, Any] = field(default_factory=dict)


@dataclass(frozen=True)
class FloatScores:
    """The content of float_reference.json.

    Attributes:
        key: stands for the contract and the float model.
        scores: by the contract's function.
    """

    key: str | None = None
    scores: Mapping[str, FloatScore] = field(default_factory=dict)

    def value(self, function: str) -> float | None:
        """Return the score by one function of the contract; None where there is none."""
        score = self.scores.get(function)
        return None if score is None else score.value

    def with_score(self, function: str, score: FloatScore) -> FloatScores:
        """Return these scores and one more, which takes the place of an earlier one."""
        return FloatScores(self.key, {**self.scores, function: score})

    def to_json(self) -> Json:
        """Return the content of float_reference.json."""
        scores = {
            function: {"metrics": dict(score.metrics), "primary_value": score.value}
            for function, score in self.scores.items()
        }
        return {"key": self.key, "scores": scores}

    def write(self, outputs: Path) -> None:
        """Write float_reference.json into an output folder.

        Raises:
            OSError: it cannot be written.
        """
        write_json(outputs / FLOAT_REFERENCE, self.to_json())


def read_float_scores(outputs: Path) -> tuple[FloatScores, str | None]:
    """Read float_reference.json; what is not of the expected type is left out.

    Returns:
        The scores, and what is wrong with the file, in words that follow its name.
    """
    form, problem = read_any(outputs / FLOAT_REFERENCE)
    if problem == "is missing":
        return FloatScores(), None
    scores = form.get("scores") if isinstance(form, dict) else None
    if not isinstance(scores, dict):
        return FloatScores(), problem or "has no object 'scores'"
    read = {
        function: FloatScore(number(score.get("primary_value")), _metrics(score.get("metrics")))
        for function, score in scores.items()
        if isinstance(score, dict)
    }
    return FloatScores(text(form.get("key")), read), None


def _metrics(value: object) -> Mapping[str, Any]:
    return value if isinstance(value, dict) else {}
