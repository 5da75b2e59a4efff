"""Says whose fault a failure is: esp-ppq's, or this program's own."""

from __future__ import annotations

import importlib.util
from pathlib import Path

from espdl_quantize.core import Hint, IterationError, Option, is_out_of_memory, remedy_for
from espdl_quantize.ppq import _fallback
from espdl_quantize.ppq._graph import describe_failure

_OWN = Path(__file__).parents[1]
_GUARD = Path(_fallback.__file__)


def failure_of(error: BaseException, message: str, doing: str, hint: str = "") -> IterationError:
    """Return what is reported of an error that no engine could do anything about.

    Args:
        error: the error.
        message: what is said of esp-ppq where the fault is its own.
        doing: what was being done, such as "export the model".
        hint: how to go on where the fault is esp-ppq's and its cause is not known.
    """
    if is_out_of_memory(error):
        return IterationError(f"memory is too short to {doing}: {describe_failure(error)}")
    if is_own_fault(error):
        return IterationError(
            f"espdl-quantize itself fails to {doing}: {describe_failure(error)}",
            Hint(
                "this is a fault of espdl-quantize, not of esp-ppq or of the model: please report "
                "it; ",
                Option.ENGINE.of("reference"),
                " may work",
            ),
        )
    return IterationError(f"{message}: {describe_failure(error)}", remedy_for(error) or hint)


def is_own_fault(error: BaseException) -> bool:
    """Tell whether an error was raised by code of this project, or by what that called.

    It is esp-ppq's where the last of the two that was called is esp-ppq. The guard of the fast
    engine's hooks lies between any two functions, and counts for neither.
    """
    while error.__cause__ is not None:
        error = error.__cause__
    trace, own = error.__traceback__, False
    esp_ppq = _esp_ppq()
    while trace is not None:
        file = Path(trace.tb_frame.f_code.co_filename)
        if file == _GUARD:
            pass
        elif file.is_relative_to(_OWN):
            own = True
        elif esp_ppq is not None and file.is_relative_to(esp_ppq):
            own = False
        trace = trace.tb_next
    return own


def _esp_ppq() -> Path | None:
    spec = importlib.util.find_spec("esp_ppq")
    return None if spec is None or spec.origin is None else Path(spec.origin).parent
