import math
from typing import Any

from espdl_quantize.analysis import graphwise_jumps, non_computing_hot_ops, worst_layer_stats
from espdl_quantize.ppq import SimplifiedOp

COMPUTING = {"Conv", "Gemm"}


def row(op: str, kind: str, var: str, snr: float, **flags: Any) -> dict[str, Any]:
    return {
        "Op name": op,
        "Op type": kind,
        "Variable name": var,
        "Is input": flags.get("inp", False),
        "Is output": not flags.get("inp", False),
        "Is parameter": flags.get("parameter", False),
        "Noise:Signal Power Ratio": snr,
        "Float Std": flags.get("std", 1.0),
    }


STATISTICS = [
    row("conv", "Conv", "x", 9.0, inp=True),
    row("add", "Add", "a", 0.1, inp=True, std=4.0),
    row("add", "Add", "b", 0.3, inp=True, std=0.5),
    row("add", "Add", "c", 0.2),
    row("relu", "Relu", "c", 0.5, inp=True),
    row("relu", "Relu", "d", math.nan),
    row("clip", "Clip", "m", 0.05, inp=True, parameter=True, std=0.1),
    row("clip", "Clip", "e", 0.05, inp=True),
]


def test_hot_ops_are_ranked_by_their_worst_variable() -> None:
    ops = non_computing_hot_ops(STATISTICS, COMPUTING, 10)
    assert [(op["op_name"], op["max_snr"]) for op in ops] == [
        ("relu", 0.5),
        ("add", 0.3),
        ("clip", 0.05),
    ]
    assert ops[1]["per_var_snrs"][0] == {
        "var": "a",
        "is_input": True,
        "is_output": False,
        "is_parameter": False,
        "snr": 0.1,
    }


def test_constants_are_listed_and_have_no_say() -> None:
    rows = [row("six", "Clip", "max", 0.98, inp=True, parameter=True), *STATISTICS]
    rows += [row("six", "Clip", "f", 0.01)]
    ops = non_computing_hot_ops(rows, COMPUTING, 10)
    assert [(op["op_name"], op["max_snr"]) for op in ops][-1] == ("six", 0.01)
    assert ops[-1]["per_var_snrs"][0]["snr"] == 0.98
    constants = [row("six", "Clip", "max", 0.98, inp=True, parameter=True)]
    assert non_computing_hot_ops(constants, COMPUTING, 10)[0]["max_snr"] == 0.0


def test_the_std_ratio_counts_inputs_that_are_no_parameters() -> None:
    ratios = {
        op["op_name"]: op["inputs_float_std_ratio"]
        for op in non_computing_hot_ops(STATISTICS, COMPUTING, 10)
    }
    assert ratios == {"add": 8.0, "relu": None, "clip": None}


def test_a_constant_input_gives_no_ratio() -> None:
    rows = [row("add", "Add", "a", 0.1, inp=True, std=0.0), row("add", "Add", "b", 0.1, inp=True)]
    assert non_computing_hot_ops(rows, COMPUTING, 10)[0]["inputs_float_std_ratio"] is None


def test_top_k_cuts_the_list() -> None:
    assert len(non_computing_hot_ops(STATISTICS, COMPUTING, 1)) == 1


def op(name: str, kind: str) -> SimplifiedOp:
    return SimplifiedOp(name, kind, (), ())


def test_a_jump_names_what_lies_between() -> None:
    ops = [op("c1", "Conv"), op("r", "Relu"), op("k", "Concat"), op("c2", "Conv"), op("g", "Gemm")]
    layerwise = {"c1": 0.01, "c2": 0.02, "g": 0.05}
    graphwise = {"c1": 0.01, "c2": 0.14, "g": 0.2}
    jumps = graphwise_jumps(ops, layerwise, graphwise, COMPUTING, 0.02)
    assert len(jumps) == 1
    jump = jumps[0]
    assert (jump["op_prev"], jump["op_next"]) == ("c1", "c2")
    assert math.isclose(jump["delta_graphwise"], 0.13)
    assert math.isclose(jump["intervening_excess"], 0.11)
    assert jump["intervening_non_computing_ops"] == [
        {"name": "r", "type": "Relu"},
        {"name": "k", "type": "Concat"},
    ]


def test_jumps_are_sorted_and_cut_at_the_threshold() -> None:
    ops = [op(name, "Conv") for name in ("a", "b", "c", "d")]
    layerwise = dict.fromkeys("abcd", 0.0)
    graphwise = {"a": 0.0, "b": 0.02, "c": 0.07, "d": 0.2}
    jumps = graphwise_jumps(ops, layerwise, graphwise, COMPUTING, 0.02)
    assert [jump["op_next"] for jump in jumps] == ["d", "c"]


def test_an_op_that_was_not_measured_makes_no_jump() -> None:
    ops = [op("a", "Conv"), op("b", "Conv")]
    assert graphwise_jumps(ops, {"a": 0.0}, {"a": 0.0}, COMPUTING, -1.0) == []


def test_layer_stats_follow_the_order_of_the_worst() -> None:
    rows = [row("a", "Conv", "x", 1), row("b", "Conv", "y", 2), row("a", "Conv", "z", 3)]
    kept = worst_layer_stats(rows, ["b", "a", "missing"], 2)
    assert [entry["Variable name"] for entry in kept] == ["y", "x", "z"]
    assert worst_layer_stats(rows, ["b", "a"], 1) == [rows[1]]
