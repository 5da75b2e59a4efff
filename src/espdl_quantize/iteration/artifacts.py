"""The artifact files of one iteration."""

from __future__ import annotations

import traceback
from collections.abc import Mapping
from dataclasses import asdict
from pathlib import Path
from typing import Any

from espdl_quantize.analysis import graphwise_jumps, non_computing_hot_ops, worst_layer_stats
from espdl_quantize.chip import WITH_16_BITS, ChipCheck, ChipModel
from espdl_quantize.chip.cost import calibration_of, conversion_times, cost_in, shipped_constants
from espdl_quantize.contract import Batch, QuantConfig, first_samples
from espdl_quantize.core import EspdlQuantizeError, Progress, write_json
from espdl_quantize.ppq import (
    QuantizedModel,
    computing_op_types,
    describe_failure,
    esp_ppq_version,
)
from espdl_quantize.ppq.measure import Measurements
from espdl_quantize.record import OnChip, Widths, read_history, write_applied, write_widths
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


_MOST_SAMPLES = 16
"""Samples that other widths are measured on: enough to rank groups that differ by tenths."""


def write_widths_of(
    folder: Path,
    outputs: Path,
    model: QuantizedModel,
    exported: ChipModel | None,
    batches: list[Batch],
    config: QuantConfig,
    layerwise: Mapping[str, float],
    progress: Progress,
) -> list[str]:
    """Write int16_groups.json.

    Returns:
        Why there is none; nothing but the levers of 16 bits depends on it.
    """
    beyond = batches[config.calib_steps :]
    pool = beyond or batches[::-1]
    try:
        # Here, so that an engine that cannot be imported costs this file alone.
        from espdl_quantize.ppq.measure.widths import MeasuredWidths, measure_widths

        def measure(chosen: Batch) -> MeasuredWidths:
            return measure_widths(
                model.graph, chosen, config.device, WITH_16_BITS, layerwise, progress
            )

        with progress.stage("widths"):
            try:
                found = measure(Batch.joined(first_samples(pool, _MOST_SAMPLES)))
            except (RuntimeError, ValueError):
                # A batch size may be baked into the graph.
                found = measure(pool[0])
        conversions: dict[str, float] = {}
        if exported is not None:
            calibration = calibration_of(read_history(outputs), config.target)
            constants = calibration.constants or shipped_constants(config.target)
            conversions = conversion_times(exported, constants, calibration.deployment)
    except Exception as error:
        traceback.print_exc()
        return [f"what 16 bits would win was not measured: {describe_failure(error)}"]
    write_widths(
        folder,
        Widths(
            found.noise,
            found.samples,
            bool(beyond),
            found.promotions,
            found.demotions,
            conversions,
        ),
    )
    return []


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
