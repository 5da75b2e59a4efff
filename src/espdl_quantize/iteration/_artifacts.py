"""The artifact files of one iteration."""

from __future__ import annotations

from dataclasses import asdict
from pathlib import Path
from typing import Any

from espdl_quantize.analysis import graphwise_jumps, non_computing_hot_ops, worst_layer_stats
from espdl_quantize.chip import ChipCheck
from espdl_quantize.contract import QuantConfig
from espdl_quantize.core import Json, write_json
from espdl_quantize.iteration._score import Score
from espdl_quantize.ppq import QuantizedModel, computing_op_types, esp_ppq_version
from espdl_quantize.ppq.measure import Measurements
from espdl_quantize.setting import ResolvedSetting, Setting
from espdl_quantize.targets import TargetFacts


def write_setting(folder: Path, setting: Setting) -> None:
    """Write setting.json: what was asked for, without what was left out."""
    write_json(folder / "setting.json", setting.model_dump(exclude_unset=True))


def write_applied(
    folder: Path,
    resolved: ResolvedSetting,
    model: QuantizedModel,
    target: TargetFacts,
    warnings: list[str],
    seed: int,
) -> None:
    """Write applied_setting_summary.json and simplified_ops.json."""
    summary = {
        "resolved_setting": resolved.setting.model_dump(exclude_none=True),
        "warnings": warnings,
        "target": asdict(target),
        "seed": seed,
        "esp_ppq_version": esp_ppq_version(),
        "esp_ppq_setting": model.esp_ppq_setting,
    }
    write_json(folder / "applied_setting_summary.json", summary)
    ops = [asdict(op) for op in model.simplified_ops]
    write_json(folder / "simplified_ops.json", {"count": len(ops), "ops": ops})


def write_analyses(
    folder: Path, measured: Measurements, model: QuantizedModel, config: QuantConfig
) -> dict[str, int]:
    """Write the six files of the error analyses.

    Returns:
        The counts that iteration_index.json repeats.
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
        "layerwise_error": measured.layerwise,
        "graphwise_error": measured.graphwise,
        "layer_stats_full": measured.statistics,
        "layer_stats": worst_layer_stats(
            measured.statistics, measured.layerwise, config.top_k_layers
        ),
        "non_computing_hot_ops": hot_ops,
        "graphwise_jumps": jumps,
    }
    for name, content in files.items():
        write_json(folder / f"{name}.json", content)
    return {"non_computing_hot_ops_count": len(hot_ops), "graphwise_jumps_count": len(jumps)}


def write_chip_check(folder: Path, found: ChipCheck) -> Json:
    """Write chip_check.json.

    Returns:
        What iteration_index.json repeats of it.
    """
    write_json(folder / "chip_check.json", found.as_json())
    return found.summary()


def write_metrics(
    folder: Path, config: QuantConfig, scored: Score | None, error: str, facts: Json
) -> None:
    """Write metrics.json; without a score it holds ``_error`` and no primary value."""
    metrics: dict[str, Any] = dict(scored.metrics) if scored else {"_error": error}
    metrics |= {
        "_used": scored.used if scored else None,
        "_primary_key": config.primary_metric,
        "_primary_value": scored.value if scored else None,
        "metric_direction": config.metric_direction,
        "_signals": facts.get("signals") if scored else None,
    }
    write_json(folder / "metrics.json", metrics)
