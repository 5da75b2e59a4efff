"""Keeps esp-ppq's statistical analysis from failing on tensors that have no statistics.

It takes the mean of every input of every op, and torch has no mean of integers. Since opset 18 the
axes of a ReduceMean are such an input, so that many classifiers cannot be analysed as they are.
"""

from __future__ import annotations

import contextlib
from collections.abc import Iterator
from typing import Any


@contextlib.contextmanager
def only_float_tensors() -> Iterator[None]:
    """Make ``statistical_analyse`` skip integer, boolean and empty tensors within the block."""
    from esp_ppq.quantization.analyse import graphwise

    recorder = graphwise.DetailedRecorder

    class FloatRecorder(recorder):  # type: ignore[misc, valid-type]
        def pre_forward_hook(self, inputs: list[Any], **kwargs: Any) -> list[Any]:
            super().pre_forward_hook([_float_or_none(value) for value in inputs], **kwargs)
            return inputs

        def post_forward_hook(self, outputs: list[Any], **kwargs: Any) -> list[Any]:
            super().post_forward_hook([_float_or_none(value) for value in outputs], **kwargs)
            return outputs

    graphwise.DetailedRecorder = FloatRecorder
    try:
        yield
    finally:
        graphwise.DetailedRecorder = recorder


def _float_or_none(value: Any) -> Any:
    usable = value is not None and value.dtype.is_floating_point and value.numel() > 0
    return value if usable else None
