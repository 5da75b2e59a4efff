"""What goes over the pipes: one JSON object per line, errors among them."""

from __future__ import annotations

import json
from typing import Any

from espdl_quantize.core import EspdlQuantizeError, Json, to_jsonable


def encode(message: Json) -> bytes:
    """Return a message as one line."""
    text = json.dumps(to_jsonable(message), ensure_ascii=True, allow_nan=False)
    return text.encode("ascii") + b"\n"


def decode(line: bytes) -> Json | None:
    """Return the message of a line; None where it is none."""
    try:
        message = json.loads(line)
    except ValueError:
        return None
    return message if isinstance(message, dict) else None


def pack_error(error: EspdlQuantizeError) -> Json:
    """Write an error as plain data."""
    return error.to_json()


def unpack_error(form: Any) -> EspdlQuantizeError:
    """Make an error of its plain data, of the kind that it was."""
    return EspdlQuantizeError.from_json(form)
