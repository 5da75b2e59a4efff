"""Which code does the work: esp-ppq's own, or the fast engine with the same results."""

from __future__ import annotations

import contextlib
from contextlib import AbstractContextManager
from typing import Literal

Engine = Literal["fast", "reference"]
"""The fast engine, or plain esp-ppq."""


def at_work(engine: Engine) -> AbstractContextManager[None]:
    """Return a context in which esp-ppq's executors compute as the engine does."""
    if engine == "reference":
        return contextlib.nullcontext()
    from espdl_quantize.quantize.fast import fast_engine

    return fast_engine()
