"""Output folders in which every part of a comparison has something to say."""

from __future__ import annotations

import json
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

from espdl_quantize.record import Jump, Measurement, write_measurement
from tests.search.made_runs import (
    EQUALIZED,
    SWEEP,
    evidence,
    history,
    hot,
    make,
    run,
    swept,
    trained,
    weight,
    write_cost,
    write_history,
    write_run,
)

ALIGNED = {"align_concat_to": "Align to Large"}
INT16 = [{"op": "conv0", "bits": 16}]
FOUND = evidence(
    hot_ops=(hot("Add", 0.264),),
    jumps=(Jump("conv0", "conv1", 0.03, ("relu",)),),
    stats=(weight("conv0", 40.0), weight("conv1", 3.0)),
)
LONG = swept(
    *SWEEP,
    rest=(
        (0.72, trained(bias_correct={"enabled": True})),
        (None, trained(equalization=EQUALIZED)),
        (0.76, trained(dispatching_table=INT16)),
        (0.7605, trained(dispatching_table=[*INT16, {"op": "conv1", "bits": 16}])),
        (0.75, trained(weight_split={"enabled": True, "interested_layers": ["conv2"]})),
    ),
    target=0.9,
)
CRASH = {
    "stage": "quantize",
    "pass": "equalization",
    "field": "equalization",
    "layer": "conv2",
    "cause": "no layer `conv2` of <this> | name",
    "hint": "leave it out",
    "layers": ["conv2"],
}
FACTS: dict[int, dict[str, Any]] = {
    0: {
        "samples_shared_with_calibration": 3,
        "engine": "fast",
        "sample_count": 200,
        "metric_unit": "fraction",
    },
    2: {
        "engine": "fast",
        "engine_fallbacks": [
            {"part": "calibration", "layer": "conv1", "reason": "RuntimeError: no"},
            {"part": "training", "layer": "", "reason": "ValueError"},
        ],
        "attempts": [
            {**CRASH, "ended_at": "2026-11-20T10:00:00+0000", "elapsed_seconds": 3.5},
            {"stage": "export", "cause": "the disk is full"},
        ],
    },
    5: {"error": CRASH},
    7: {
        "sample_count": 200,
        "metric_unit": "fraction",
        "final_by": "final_evaluate",
        "signals": {
            "samples": 200,
            "noise_signal": 0.0123,
            "agreement": 0.95,
            "outputs": [
                {"name": "y", "noise_signal": 0.0123, "agreement": 0.95, "cosine": 0.99},
                {"name": "z", "noise_signal": float("nan")},
            ],
        },
        "chip_check": {"legal": True, "doubts_count": 2, "exact_percent": 99.5, "ops_checked": 8},
        "applied_setting_warnings": ["a pass did nothing"],
    },
    6: {"sample_count": 200, "metric_unit": "fraction"},
}


def write_long(outputs: Path) -> None:
    """Open exploration: a failure, attempts, no effect, a fallback, a board, a final score."""
    for row in LONG.iterations:
        write_run(outputs, row, FOUND, **FACTS.get(row.id, {}))
    idle = replace(run(9, 0.0, trained(fusion_alignment=ALIGNED)), value=None, same_as=4)
    write_run(outputs, idle, FOUND, same_as=4)
    measured = Measurement(chip="esp32p4", runs_us=(1500, 1510), test="passed", loaded=True)
    write_measurement(outputs / "iter_6", measured)
    final: dict[str, Any] = {
        "sample_count": 500,
        "metric_unit": "fraction",
        "evaluated_by": "final_evaluate",
    }
    best = LONG.iterations[6]
    write_run(outputs / "final", best, **final, samples_shared_with_search=2)


def write_swept(outputs: Path) -> None:
    """The sweep, a failure, and what the models cost."""
    past = swept(*SWEEP, rest=((None, trained(equalization=EQUALIZED)),))
    for row in past.iterations:
        budgets = {"max_latency_ms": 12.0, "max_ram_kb": None, "max_flash_kb": 100, "max_drop": 1}
        folder = write_run(outputs, row, FOUND, budgets=budgets)
        if row.value is not None:
            write_cost(folder, 10.0 + row.id / 10)


def write_target(outputs: Path) -> None:
    """A search that its target has ended."""
    write_history(outputs, swept(*SWEEP, target=0.69), FOUND)


def write_other_chip(outputs: Path) -> None:
    """An iteration of another chip is left out of the ranking."""
    write_history(outputs, swept(*SWEEP[:3]), FOUND)
    write_run(outputs, run(3, 0.9, make()), FOUND, target_chip="esp32s3")


SCENES: dict[str, Callable[[Path], object]] = {
    "empty": lambda outputs: outputs.mkdir(parents=True, exist_ok=True),
    "first": lambda outputs: write_history(outputs, swept(0.5), FOUND),
    "failed": lambda outputs: write_history(outputs, history(run(0, None)), FOUND),
    "swept": lambda outputs: write_swept(outputs),
    "target": write_target,
    "other-chip": write_other_chip,
    "long": write_long,
}
FLAGS: dict[str, dict[str, Any]] = {
    "looked": {},
    "refused": {"finalize": True},
    "ended": {"finalize": True, "force_finalize": True},
}


def anonymous(text: str, outputs: Path, program: str) -> str:
    """Put in words for what differs from machine to machine."""
    named = json.dumps(program)[1:-1], json.dumps(str(outputs))[1:-1]
    return text.replace(named[0], "PROGRAM").replace(named[1], "OUTPUTS")
