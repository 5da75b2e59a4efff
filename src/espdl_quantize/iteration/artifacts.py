"""The artifact files of one iteration."""

from __future__ import annotations

from dataclasses import asdict
from pathlib import Path
from typing import Any

from espdl_quantize.analysis import graphwise_jumps, non_computing_hot_ops, worst_layer_stats
from espdl_quantize.chip import ChipCheck
from espdl_quantize.chip.cost import calibration_of, cost_in
from espdl_quantize.contract import QuantConfig
from espdl_quantize.core import EspdlQuantizeError, write_json
from espdl_quantize.ppq import QuantizedModel, computing_op_types, esp_ppq_version
from espdl_quantize.ppq.measure import Measurements
from espdl_quantize.record import OnChip, read_history, write_applied
from espdl_quantize.record.files import (
    ALL_STATISTICS,
    CHIP_CHECK,
    CHIP_COST,
    GRAPHWISE,
    HOT_OPS,
    JUMPS,
    LAYERWISE,
    MODEL,
    OPS,
    STATISTICS,
)
from espdl_quantize.setting import ResolvedSetting
from espdl_quantize.targets import TargetFacts


def write_graph_and_setting(
    folder: Path,
    resolved: ResolvedSetting,
    model: QuantizedModel,
    target: TargetFacts,
    warnings: list[str],
    seed: int,
) -> None:
    """Write applied_setting_summary.json and simplified_ops.json."""
    write_applied(
        folder,
        resolved=resolved.setting,
        warnings=warnings,
        target=asdict(target),
        seed=seed,
        esp_ppq_version=esp_ppq_version(),
        esp_ppq_setting=model.esp_ppq_setting,
    )
    ops = [asdict(op) for op in model.simplified_ops]
    write_json(folder / OPS, {"count": len(ops), "ops": ops})


def write_analyses(
    folder: Path, measured: Measurements, model: QuantizedModel, config: QuantConfig
) -> tuple[int, int]:
    """Write the six files of the error analyses.

    Returns:
        How many hot ops and how many jumps there are.
    """
    hot_ops = non_computing_hot_ops(
        measured.statistics, computing_op_types(), config.non_computing_top_k
    )
    jumps = graphwise_jumps(
        model.simplified_ops,
        measured.layerwise,
        measured.graphwise,
        computing_op_types(),
        config.graphwise_intervening_excess_threshold,
    )
    files: dict[str, Any] = {
        LAYERWISE: measured.layerwise,
        GRAPHWISE: measured.graphwise,
        ALL_STATISTICS: measured.statistics,
        STATISTICS: worst_layer_stats(measured.statistics, measured.layerwise, config.top_k_layers),
        HOT_OPS: hot_ops,
        JUMPS: jumps,
    }
    for name, content in files.items():
        write_json(folder / name, content)
    return len(hot_ops), len(jumps)


def write_chip_check(folder: Path, check: ChipCheck) -> OnChip:
    """Write chip_check.json.

    Returns:
        What the record repeats of it.
    """
    write_json(folder / CHIP_CHECK, check.as_json())
    return check.summary()


def write_chip_cost(folder: Path, outputs: Path, chip: str) -> list[str]:
    """Write chip_cost.json, by what boards measured of the output folder where any did.

    Returns:
        Why it is not known what the model costs; nothing else depends on it.
    """
    try:
        calibration = calibration_of(read_history(outputs), chip)
        write_json(folder / CHIP_COST, cost_in(calibration, folder / MODEL).to_json())
    except EspdlQuantizeError as error:
        return [f"what the model costs on the chip is not known: {error.cause}"]
    return list(calibration.notes)
