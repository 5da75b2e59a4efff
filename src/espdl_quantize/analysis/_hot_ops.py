"""Ops that the layerwise analysis cannot see, ranked by the error of their activations."""

from __future__ import annotations

import math
from collections.abc import Collection
from typing import Any

from espdl_quantize.ppq.measure import Row

SNR = "Noise:Signal Power Ratio"


def non_computing_hot_ops(
    statistics: list[Row], computing_types: Collection[str], top_k: int
) -> list[dict[str, Any]]:
    """Rank the non-computing ops by the highest SNR among their activations.

    Constants (the limits of a Clip, factors) are listed and have no say: their noise is the same
    for every input, and no lever changes it.

    Args:
        statistics: rows of the statistical analysis.
        computing_types: op types that the layerwise analysis covers.
        top_k: how many ops to keep.

    Returns:
        ``op_name, op_type, max_snr, per_var_snrs, inputs_float_std_ratio`` per op, by max_snr
        descending. ``max_snr`` is 0 where none of its activations has a number. The ratio is the
        largest over the smallest "Float Std" of the inputs that are no constants; None below two
        such inputs or where the smallest is 0.
    """
    by_op: dict[str, list[Row]] = {}
    for row in statistics:
        if row["Op type"] not in computing_types:
            by_op.setdefault(row["Op name"], []).append(row)
    ops = [_describe(name, rows) for name, rows in by_op.items()]
    ops.sort(key=lambda op: -op["max_snr"])
    return ops[:top_k]


def _describe(name: str, rows: list[Row]) -> dict[str, Any]:
    snrs = [row[SNR] for row in rows if not row["Is parameter"] and math.isfinite(row[SNR])]
    return {
        "op_name": name,
        "op_type": rows[0]["Op type"],
        "max_snr": max(snrs, default=0.0),
        "per_var_snrs": [
            {
                "var": row["Variable name"],
                "is_input": row["Is input"],
                "is_output": row["Is output"],
                "is_parameter": row["Is parameter"],
                "snr": row[SNR],
            }
            for row in rows
        ],
        "inputs_float_std_ratio": _std_ratio(rows),
    }


def _std_ratio(rows: list[Row]) -> float | None:
    stds = [row["Float Std"] for row in rows if row["Is input"] and not row["Is parameter"]]
    if len(stds) < 2 or not all(math.isfinite(std) for std in stds) or min(stds) <= 0:
        return None
    return float(max(stds) / min(stds))
