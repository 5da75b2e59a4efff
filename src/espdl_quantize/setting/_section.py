"""The base of every group of fields in a setting, and the nearest of their names."""

from __future__ import annotations

import difflib
from collections.abc import Iterable

from pydantic import BaseModel, ConfigDict


class Section(BaseModel):
    """A group of fields: strict, unknown fields refused, immutable."""

    model_config = ConfigDict(
        extra="forbid", strict=True, frozen=True, use_attribute_docstrings=True
    )


def nearest(name: str, valid: Iterable[str]) -> str | None:
    """Return the valid name that looks most like ``name``, if any looks like it."""
    names = list(valid)
    close = difflib.get_close_matches(name.lower(), names, n=1, cutoff=0.4)
    close += [candidate for candidate in names if candidate.startswith(name.lower())]
    return close[0] if close else None
