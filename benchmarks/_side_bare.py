"""This project with training steps that quantize nothing: what torch takes for the rest."""

from __future__ import annotations

from typing import Any

from benchmarks import _side_ours
from espdl_quantize.ppq.fast import NO_BOUNDS
from espdl_quantize.ppq.fast.training import _scales, block


def _as_it_is(_scales: Any, tensor: Any, _config: Any, bounds: Any = NO_BOUNDS) -> Any:
    return bounds.of(tensor)


def _none(*_arguments: Any) -> list[Any]:
    return []


if __name__ == "__main__":
    setattr(_scales.Scales, "__call__", _as_it_is)  # noqa: B010
    setattr(block, "find_units", _none)  # noqa: B010
    _side_ours.main()
