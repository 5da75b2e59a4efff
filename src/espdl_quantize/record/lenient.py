"""Typed records of JSON files: strict when they are made, lenient when they are read.

A folder may be of an earlier version, of another program, or edited by hand. What is not of the
expected type is then as good as absent, and never an error.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import Annotated, Any, TypeVar

from pydantic import (
    BeforeValidator,
    ConfigDict,
    Field,
    StrictFloat,
    StrictInt,
    StrictStr,
    TypeAdapter,
    ValidationError,
    ValidationInfo,
    field_validator,
)

RecordT = TypeVar("RecordT")

CONFIG = ConfigDict(populate_by_name=True, extra="ignore", use_attribute_docstrings=True)
_LENIENT = {"lenient": True}


def _finite(value: object) -> object:
    """Return None for NaN and infinities, which JSON cannot say."""
    return None if isinstance(value, float) and not math.isfinite(value) else value


Text = StrictStr
Integer = StrictInt
Count = Annotated[StrictInt, Field(gt=0)]
Number = Annotated[StrictFloat | None, BeforeValidator(_finite)]


def key(name: str, default: Any = None, **more: Any) -> Any:
    """Declare a field that has another name in JSON."""
    return Field(default=default, validation_alias=name, serialization_alias=name, **more)


class Lenient:
    """The base of a pydantic dataclass whose fields take their defaults for what does not fit.

    Of a list or an object, only the entries that do not fit are left out.
    """

    @field_validator("*", mode="wrap")
    @classmethod
    def _read(cls, value: Any, handler: Callable[[Any], Any], info: ValidationInfo) -> Any:
        value = tuple(value) if isinstance(value, list) else value
        try:
            return handler(value)
        except (ValidationError, OverflowError):
            if info.context != _LENIENT:
                raise
        if isinstance(value, tuple) and _try(handler, ()) == ():
            kept = (_try(handler, (item,)) for item in value)
            return tuple(entry for entries in kept for entry in entries or ())
        if isinstance(value, dict) and _try(handler, {}) == {}:
            kept = (_try(handler, {name: item}) for name, item in value.items())
            return {name: item for items in kept for name, item in (items or {}).items()}
        return _default(cls, info.field_name or "")


def _try(handler: Callable[[Any], Any], value: Any) -> Any:
    """Return what the field makes of a value; None where it does not take it."""
    try:
        return handler(value)
    except (ValidationError, OverflowError):
        return None


def _default(owner: type, name: str) -> Any:
    field = owner.__pydantic_fields__[name]  # type: ignore[attr-defined]
    if field.is_required():
        # The record as a whole is of no use.
        raise ValueError(f"{name} is missing")
    return field.get_default(call_default_factory=True)


def read_as(adapter: TypeAdapter[RecordT], value: object) -> RecordT:
    """Read JSON of unknown origin."""
    return adapter.validate_python(value, context=_LENIENT)


def clean(value: Any) -> Any:
    """Copy JSON without halves of surrogate pairs, which no file can hold as UTF-8."""
    if isinstance(value, str):
        return value.encode("utf-8", "replace").decode("utf-8")
    if isinstance(value, list):
        return [clean(item) for item in value]
    if isinstance(value, dict):
        return {clean(name): clean(item) for name, item in value.items()}
    return value
