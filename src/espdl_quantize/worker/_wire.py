"""What goes over the pipes: one JSON object per line, errors among them."""

from __future__ import annotations

import json
from typing import Any

from espdl_quantize.contract import ContractFaultsError, Fault
from espdl_quantize.core import EspdlQuantizeError, IterationError, Json, errors, to_jsonable


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
    faults = [vars(fault) for fault in getattr(error, "faults", ())]
    kind = next(base.__name__ for base in type(error).__mro__ if base.__module__ == errors.__name__)
    return {"kind": kind, "cause": error.cause, "hint": error.hint, "faults": faults}


def unpack_error(form: Any) -> EspdlQuantizeError:
    """Make an error of its plain data, of the kind that it was."""
    form = form if isinstance(form, dict) else {}
    cause, hint = str(form.get("cause", "it failed")), str(form.get("hint", ""))
    if form.get("faults"):
        error = ContractFaultsError("", [Fault(**fault) for fault in form["faults"]])
        error.cause, error.hint, error.args = cause, hint, (cause,)
        return error
    kind = getattr(errors, str(form.get("kind")), None)
    if isinstance(kind, type) and issubclass(kind, EspdlQuantizeError):
        return kind(cause, hint)
    return IterationError(cause, hint)
