"""Which code does the work: esp-ppq's own, or the fast engine with the same results."""

from __future__ import annotations

import contextlib
from collections.abc import Iterator

from espdl_quantize.core import Engine as Engine
from espdl_quantize.ppq._fallback import ENGINE, Fallback, installed


@contextlib.contextmanager
def at_work(engine: Engine) -> Iterator[Fallback]:
    """Make esp-ppq's executors compute as the engine does within the block.

    Yields:
        What tells which parts plain esp-ppq had to do for the fast engine; of the reference engine
        it has no records.
    """
    fallback = Fallback()
    with contextlib.ExitStack() as stack:
        stack.enter_context(installed(fallback))
        if engine == "fast":

            def start() -> None:
                from espdl_quantize.ppq.fast import fast_engine

                stack.enter_context(fast_engine(fallback))

            fallback.attempt(ENGINE, start, fallback.give_up)
        else:
            fallback.give_up()
        yield fallback
