"""Why an iteration failed, and how often it did before in its folder."""

from __future__ import annotations

import re
from functools import cached_property
from typing import Literal

from pydantic.dataclasses import dataclass

from espdl_quantize.core import EspdlQuantizeError, FailedPass, Json, PassError, Stage
from espdl_quantize.record._values import names, number, text
from espdl_quantize.record.lenient import CONFIG

MOST_ATTEMPTS = 10
"""So many of the latest failed attempts are kept."""

FAILED: Literal["failed"] = "failed"
NO_EFFECT: Literal["no effect"] = "no effect"

_BEFORE_THE_SETTING = (
    Stage.EXAMINE,
    Stage.READ_CALIBRATION,
    Stage.PREPARE_FLOAT_MODEL,
    Stage.RUN_ONE_BATCH,
    Stage.SCORE_FLOAT_MODEL,
)
_MOST_TEXT = 500
_MOST_LAYERS = 64
_QUOTED = re.compile(r"(?<!\w)('[^']*'|\"[^\"]*\")")
_WORD = re.compile(r"[\w./:-]+")


@dataclass(frozen=True, config=CONFIG)
class Failure:
    """Why an iteration has no score; in which pass of esp-ppq, where the folder says so.

    Attributes:
        stage: a :class:`espdl_quantize.core.Stage`, as far as this version knows it.
        cause: what happened.
        hint: what to do about it.
        failed_pass: which pass of esp-ppq, and where.
    """

    stage: str
    cause: str
    hint: str = ""
    failed_pass: FailedPass | None = None

    @classmethod
    def of(cls, stage: str, error: EspdlQuantizeError) -> Failure:
        """Return what an iteration's index says of an error."""
        failed_pass = error.failed_pass if isinstance(error, PassError) else None
        return cls(str(stage), error.cause, error.hint, failed_pass)

    @classmethod
    def from_json(cls, value: object) -> Failure:
        """Read the value of ``error``, as leniently as the rest of a folder."""
        if not isinstance(value, dict):
            return cls("", text(value) or "no cause was recorded")
        # In folders of 2026 the hint is called mend.
        hint = text(value.get("hint", value.get("mend"))) or ""
        stage, cause = (text(value.get(name)) or "" for name in ("stage", "cause"))
        pass_name = text(value.get("pass"))
        if not pass_name:
            return cls(stage, cause, hint)
        failed_pass = FailedPass(
            pass_name,
            text(value.get("field")) or "",
            text(value.get("layer")) or "",
            names(value.get("layers")),
            names(value.get("other_layers")),
        )
        return cls(stage, cause, hint, failed_pass)

    def to_json(self) -> Json:
        """Return the value of ``error``."""
        form: Json = {"stage": self.stage, "cause": self.cause, "hint": self.hint}
        place = self.failed_pass
        if place is not None:
            form |= {
                "pass": place.name,
                "field": place.field or None,
                "layer": place.layer or None,
                "layers": list(place.layers),
                "other_layers": list(place.other_layers),
            }
        return form

    @property
    def kind(self) -> str:
        """Return the stage, the pass and the cause; equal for failures that are alike."""
        if self.failed_pass is None:
            return f"{self.stage}: {self.cause}"
        return f"{self.stage}: {self.failed_pass.name}: {self.kind_of_cause}"

    @cached_property
    def kind_of_cause(self) -> str:
        """The cause without names and numbers.

        One cause may show in another layer, or after more steps.
        """
        cause, place = self.cause, self.failed_pass
        ops: frozenset[str] = frozenset()
        if place is not None:
            cause = cause.replace(f" at {place.layer}", "") if place.layer else cause
            ops = frozenset((*place.layers, *place.other_layers))
        cause = _QUOTED.sub("~", cause)
        return _WORD.sub(lambda word: "~" if _is_name(word[0], ops) else word[0], cause)

    @property
    def is_of_contract(self) -> bool:
        """Return whether no setting can change it: it came before the setting had any part."""
        return self.stage in _BEFORE_THE_SETTING

    @property
    def is_of_setting(self) -> bool:
        """Return whether another setting may do better: the model is not legal on the chip."""
        return self.stage == Stage.CHECK_MODEL

    def __str__(self) -> str:
        message = f"{self.stage}: {self.cause}" if self.stage else self.cause
        return f"{message} -> {self.hint}" if self.hint else message


def _is_name(word: str, ops: frozenset[str]) -> bool:
    """Tell whether a word of a message is a number, or names an op or a file."""
    return word in ops or "/" in word or any(letter.isdigit() for letter in word)


@dataclass(frozen=True, config=CONFIG)
class Attempt:
    """A failed attempt at an iteration that was run again in its folder.

    Attributes:
        failure: why it failed.
        ended_at: when, as local time.
        seconds: how long it took.
    """

    failure: Failure
    ended_at: str = ""
    seconds: float | None = None

    @classmethod
    def from_json(cls, form: Json) -> Attempt:
        """Read one entry of ``attempts``."""
        seconds = number(form.get("elapsed_seconds"))
        return cls(Failure.from_json(form), text(form.get("ended_at")) or "", seconds)

    def to_json(self) -> Json:
        """Return one entry of ``attempts``; long texts are cut."""
        form = self.failure.to_json()
        layers = form.get("layers", [])[:_MOST_LAYERS]
        texts = ("stage", "pass", "field", "layer", "cause", "hint")
        return {
            "ended_at": self.ended_at,
            "elapsed_seconds": self.seconds,
            **{name: _cut(form.get(name)) for name in texts},
            "layers": list(map(_cut, layers)),
        }


def _cut(value: str | None) -> str | None:
    return value[:_MOST_TEXT] if value else None
