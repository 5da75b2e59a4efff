"""Searches esp-ppq settings for the best accuracy that an ESP-DL chip can run.

::

    import espdl_quantize as eq

    result = eq.tune(
        model=net,  # a torch.nn.Module, or the path of an ONNX file
        calibration=loader,  # batches; labels behind the inputs are left out
        evaluate=evaluate,  # is given a graph, returns a number: see eq.forward
        target="esp32s3",
        time="20m",
    )
    result  # a table of what was tried
    result.model  # the best .espdl file
    result.report()  # writes report.html

``check`` names every fault of model, data and evaluation before anything long, ``quantize`` runs
one setting, ``tune`` searches, ``load`` reads the folder of a search, ``diff`` compares two of
them. The first three take objects, or the path of a contract file. The command ``espdl-quantize``
does the same, and more.

Importing this package stays cheap: torch and esp-ppq load only where a model is quantized.
"""

from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from espdl_quantize.api import (
        CheckResult,
        Diff,
        Result,
        check,
        diff,
        forward,
        load,
        quantize,
        tune,
    )

__version__ = "0.1.0"
__all__ = [
    "CheckResult",
    "Diff",
    "Result",
    "check",
    "diff",
    "forward",
    "load",
    "quantize",
    "tune",
]


def __getattr__(name: str) -> Any:
    if name in __all__:
        from espdl_quantize import api

        return getattr(api, name)
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")


def __dir__() -> list[str]:
    return sorted({*globals(), *__all__})
