"""The row of esp-ppq's ``statistical_analyse`` for one variable of one op."""

from __future__ import annotations

from typing import Any

import torch
from esp_ppq.quantization.measure import torch_snr_error
from torch import Tensor

from espdl_quantize.ppq.measure._measurements import Row

_BINS = 32


def statistics_row(op: Any, variable: Any, float_values: Tensor, quantized: Tensor) -> Row:
    """Describe a variable by the same elements in the float and in the quantized graph.

    Args:
        op: the op that reads or writes the variable.
        variable: the variable.
        float_values: ``[count]`` elements.
        quantized: the same elements after quantization.
    """
    row: Row = {
        "Op name": op.name,
        "Op type": op.type,
        "Is parameter": variable.is_parameter,
        "Is input": variable in op.inputs,
        "Is output": variable in op.outputs,
        "Variable name": variable.name,
        "Noise:Signal Power Ratio": torch_snr_error(quantized, float_values).item(),
    }
    for name, values in (
        ("Noise", quantized - float_values),
        ("Quantized", quantized),
        ("Float", float_values),
    ):
        row |= {f"{name} {key}": value for key, value in _moments(values).items()}
    return row


def _moments(values: Tensor) -> dict[str, Any]:
    mean, deviation = values.mean().item(), values.std().item()
    low, high = values.min().item(), values.max().item()
    normal = (values - mean) / deviation
    return {
        "Mean": mean,
        "Std": deviation,
        "Skewness": torch.pow(normal, 3).mean().item(),
        "Kurtosis": (torch.pow(normal, 4).mean() - 3).item(),
        "Hist": torch.histc(values, bins=_BINS, min=low, max=high).cpu().tolist(),
        "Max": high,
        "Min": low,
    }
