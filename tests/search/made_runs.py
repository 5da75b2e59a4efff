"""Made-up iterations: as rows, and as folders on disk."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any, TypeVar

from espdl_quantize.record import (
    Evidence,
    Failure,
    GraphOp,
    History,
    HotOp,
    Iteration,
    LayerError,
    VariableStats,
)
from espdl_quantize.search import (
    Decision,
    Open,
    Proposal,
    SearchOptions,
    SearchState,
    decide,
    sweep_setting,
)
from espdl_quantize.setting import Setting, baseline, parse_setting

Run = tuple[float | None, Setting]
"""A score, or None for a failure, and the setting that it is of."""

T = TypeVar("T")


def known(value: T | None) -> T:
    """The value, which has to be there."""
    assert value is not None
    return value


def make(**fields: Any) -> Setting:
    """A setting with these fields."""
    return parse_setting({"iteration_id": 0, **fields})


def tqt(**fields: Any) -> dict[str, Any]:
    return {"enabled": True, "lr": 1e-5, "steps": 500, "block_size": 4, **fields}


def trained(calib: str = "mse", **fields: Any) -> Setting:
    """A calibration with the default TQT, and further fields."""
    return make(calib_algorithm=calib, tqt_optimization=tqt(), **fields)


EQUALIZED = {"enabled": True, "iterations": 10, "value_threshold": 0.5, "opt_level": 2}


def run(
    number: int, value: float | None, setting: Setting | None = None, **fields: Any
) -> Iteration:
    """One row; without a value it has failed."""
    if value is None:
        fields.setdefault("failure", Failure("quantize", "out of memory", "take a smaller batch"))
    fields = {"metric": "top1", "direction": "max", **fields}
    return Iteration(id=number, value=value, setting=setting or baseline(number), **fields)


def history(*rows: Iteration, **fields: Any) -> History:
    return History(iterations=rows, folder=Path("outputs"), **fields)


def swept(*values: float, rest: tuple[Run, ...] = (), **fields: Any) -> History:
    """A baseline, the sweep, and ``rest``."""
    settings = [baseline(), sweep_setting("kl"), sweep_setting("mse"), sweep_setting("percentile")]
    rows = [run(i, v, s, **fields) for i, (v, s) in enumerate(zip(values, settings, strict=False))]
    rows += [run(len(rows) + i, v, s, **fields) for i, (v, s) in enumerate(rest)]
    return history(*rows)


SWEEP = (0.50, 0.60, 0.70, 0.65)
"""mse wins; the last two are not both worse than best."""


def evidence(**fields: Any) -> Evidence:
    """Artifacts in which no trigger matches, unless ``fields`` say otherwise."""
    plain: dict[str, Any] = {
        "layerwise": tuple(LayerError(f"conv{i}", 0.04 - i / 1000) for i in range(5)),
        "ops": tuple(
            GraphOp(f"conv{i}", "Conv", (f"x{i}", f"w{i}", f"b{i}"), (f"x{i + 1}",))
            for i in range(40)
        ),
    }
    return Evidence(**{**plain, **fields})


def weight(op: str, kurtosis: float | None, **fields: Any) -> VariableStats:
    number = op.removeprefix("conv")
    return VariableStats(
        op,
        "Conv",
        f"w{number}",
        is_parameter=True,
        is_input=True,
        float_kurtosis=kurtosis,
        **fields,
    )


def hot(op_type: str, snr: float, ratio: float | None = None, name: str = "") -> HotOp:
    return HotOp(name or f"{op_type.lower()}_1", op_type, snr, ratio)


def state_of(past: History, found: Evidence | None = None, **options: Any) -> SearchState:
    """The state with the same artifacts for every iteration."""
    every = dict.fromkeys((item.id for item in past.iterations), found or evidence())
    return SearchState.of(past, every, SearchOptions(**options))


def decide_on(past: History, found: Evidence | None = None, **options: Any) -> Decision:
    """Decide with the same artifacts for every iteration."""
    return decide(state_of(past, found, **options))


def propose_on(past: History, found: Evidence | None = None, **options: Any) -> Proposal:
    """Decide where a setting has to come next."""
    decision = decide_on(past, found, **options)
    assert isinstance(decision, Proposal)
    return decision


def open_on(past: History, found: Evidence | None = None, **options: Any) -> Open:
    """Decide where the search has to be open."""
    decision = decide_on(past, found, **options)
    assert isinstance(decision, Open)
    return decision


def lever_of(decision: Decision) -> str | None:
    """The lever that is pulled next, if one is."""
    return decision.lever if isinstance(decision, Proposal) else None


def drive(
    score: Callable[[Setting, int], float | None],
    found: Evidence,
    steps: int = 40,
    direction: str = "max",
    **fields: Any,
) -> tuple[History, Decision]:
    """Let the search run phases 1 to 3 on a made-up metric."""
    past = history()
    for number in range(steps):
        decision = decide_on(past, found)
        if not isinstance(decision, Proposal):
            return past, decision
        value = score(decision.setting, number)
        row = run(number, value, decision.setting, direction=direction, **fields)
        past = history(*past.iterations, row)
    raise AssertionError("phases 1 to 3 do not end")


def write_cost(
    folder: Path,
    time: float,
    *,
    chip: str = "esp32p4",
    published: bool = True,
    wide: tuple[str, ...] = (),
    arena: int = 64 << 10,
    flash: int = 200 << 10,
) -> None:
    """Write what an iteration's file costs, as it is written beside an export."""
    layers = [
        {
            "name": f"conv{number}",
            "op_type": "Conv",
            "width": "S16" if f"conv{number}" in wide else "S8",
            "time": time / 4,
            "time_at_16_bits": None if f"conv{number}" in wide else time / 2,
        }
        for number in range(4)
    ]
    content = {
        "chip": chip,
        "flash": {"file": flash, "weights": {"int8": flash - 512}, "rest": 512},
        "ram": {"arena": arena, "internal": 0, "weights_copied": flash, "peak_layer": "conv1"},
        "latency": {
            "milliseconds": time if published else None,
            "low": time * 0.8 if published else None,
            "high": time * 1.25 if published else None,
            "source": "published figures",
            "residual": None,
        },
        "time": time,
        "layers": layers,
        "notes": [],
    }
    (folder / "chip_cost.json").write_text(json.dumps(content), encoding="utf-8")


def write_run(outputs: Path, row: Iteration, found: Evidence | None = None, **index: Any) -> Path:
    """Write a row as the folder that an iteration leaves."""
    folder = outputs / f"iter_{row.id}"
    folder.mkdir(parents=True)
    failed = row.value is None
    assert row.setting is not None
    content = {
        "setting.json": row.setting.model_dump(exclude_none=True) | {"iteration_id": row.id},
        "metrics.json": {
            "top1": row.value,
            "top5": 0.9,
            **({"_error": "boom"} if failed else {}),
            "_used": "evaluate",
            "_primary_key": row.metric,
            "_primary_value": row.value,
            "metric_direction": row.direction,
        },
        "iteration_index.json": {
            "iteration_id": row.id,
            "status": row.status,
            "error": (
                {"stage": "quantize", "cause": "out of memory", "hint": "take a smaller batch"}
                if failed
                else None
            ),
            "rationale": row.setting.rationale,
            "model_path": None if failed else "model.espdl",
            "model_name": "tiny",
            "target_chip": "esp32p4",
            "elapsed_seconds": 12.5,
            "elapsed_by_stage": {"quantize": 10.0},
            "primary_metric": row.metric,
            "primary_value": row.value,
            "float_value": 0.82,
            "evaluated_by": "evaluate",
            "metric_direction": row.direction,
            "target_metric": row.target,
            "deploy_runtime_priority": "balanced",
            "non_computing_hot_ops_count": 1,
            "graphwise_jumps_count": 0,
            "top_5_error_layers": [{"op": "conv0", "snr": 0.04}],
            "applied_setting_warnings": [],
            "seed": 0,
            "engine": "reference",
            "esp_ppq_version": "1.3.12",
            **index,
        },
    }
    if found is not None:
        content |= _artifacts(found)
    for name, value in content.items():
        (folder / name).write_text(json.dumps(value), encoding="utf-8")
    if not failed:
        (folder / "model.espdl").write_bytes(b"EDL2" + bytes([row.id % 256]))
    return folder


def write_history(outputs: Path, past: History, found: Evidence | None = None) -> Path:
    for row in past.iterations:
        write_run(outputs, row, found)
    return outputs


def _artifacts(found: Evidence) -> dict[str, Any]:
    return {
        "layerwise_error.json": {layer.op: layer.snr for layer in found.layerwise},
        "graphwise_error.json": {},
        "layer_stats_full.json": [
            {
                "Op name": stat.op,
                "Op type": stat.op_type,
                "Is parameter": stat.is_parameter,
                "Is input": stat.is_input,
                "Is output": stat.is_output,
                "Variable name": stat.variable,
                "Noise:Signal Power Ratio": stat.snr,
                "Noise Mean": stat.noise_mean,
                "Noise Std": stat.noise_std,
                "Float Skewness": None,
                "Float Kurtosis": stat.float_kurtosis,
                "Float Hist": list(stat.float_hist),
            }
            for stat in found.stats
        ],
        "non_computing_hot_ops.json": [
            {
                "op_name": op.op,
                "op_type": op.op_type,
                "max_snr": op.max_snr,
                "per_var_snrs": [],
                "inputs_float_std_ratio": op.inputs_float_std_ratio,
            }
            for op in found.hot_ops
        ],
        "graphwise_jumps.json": [
            {
                "op_prev": jump.op_prev,
                "op_next": jump.op_next,
                "intervening_excess": jump.excess,
                "intervening_non_computing_ops": [
                    {"name": name, "type": "Relu"} for name in jump.between
                ],
            }
            for jump in found.jumps
        ],
        "simplified_ops.json": {
            "count": len(found.ops),
            "ops": [
                {
                    "name": op.name,
                    "op_type": op.op_type,
                    "inputs": list(op.inputs),
                    "outputs": list(op.outputs),
                }
                for op in found.ops
            ],
        },
    }
