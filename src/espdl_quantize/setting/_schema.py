"""The setting's JSON Schema, for editors and agents."""

from __future__ import annotations

from espdl_quantize.core import dumps
from espdl_quantize.setting._model import Setting


def json_schema() -> str:
    """Return the JSON Schema of a setting as text."""
    return dumps(Setting.model_json_schema(by_alias=False))
