"""The ranking of hot ops on a network whose ReLU6 has a constant that quantizes badly."""

from __future__ import annotations

from pathlib import Path

from esp_ppq.core.common import COMPUTING_OP

from espdl_quantize.analysis import non_computing_hot_ops
from espdl_quantize.core import NoProgress
from espdl_quantize.ppq import FastEngine
from tests.chip.made import make_export


def test_an_add_outranks_the_constants_of_relu6(tmp_path: Path) -> None:
    made = make_export(tmp_path, "relu6 residual", "esp32s3")
    statistics = FastEngine().measure(made.graph, made.batches, "cpu", 1, NoProgress()).statistics
    ops = non_computing_hot_ops(statistics, COMPUTING_OP, 10)
    kinds = [op["op_type"] for op in ops]
    assert {"Add", "Clip"} <= set(kinds)
    # With the limits counted, every Clip would come before every Add.
    limits = [
        max(one["snr"] for one in op["per_var_snrs"] if one["is_parameter"])
        for op in ops
        if op["op_type"] == "Clip"
    ]
    assert min(limits) > max(op["max_snr"] for op in ops if op["op_type"] == "Add")
    assert kinds[0] == "Add"
