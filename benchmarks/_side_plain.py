"""Plain esp-ppq: the public calls that a user would write."""

from __future__ import annotations

import tempfile
from pathlib import Path
from typing import Any

import torch
from esp_ppq.api import espdl_quantize_torch, get_target_platform
from esp_ppq.api.interface import export_ppq_graph
from esp_ppq.quantization.analyse import (
    graphwise_error_analyse,
    layerwise_error_analyse,
    statistical_analyse,
)

from benchmarks._side import Clock, contract_of, exponents_of, read_job, write_result
from espdl_quantize.contract import Contract
from espdl_quantize.ppq import prepare_device, probe_target
from espdl_quantize.ppq._quantize import to_esp_ppq
from espdl_quantize.ppq.patches import When, installed
from espdl_quantize.setting import parse_setting, resolve


def _iterate(contract: Contract, fields: dict[str, Any], clock: Clock) -> dict[str, Any]:
    config = contract.config
    # Full float32 on a GPU, as the other side computes.
    prepare_device(config.device)
    resolved = resolve(parse_setting({"iteration_id": 0, **fields}), probe_target(config.target))
    setting, _ = to_esp_ppq(resolved.setting, config.target, config.num_of_bits)
    loader = contract.call("create_calib_dataloader")
    inputs = [torch.zeros([1, *shape]) for shape in config.input_shapes]
    with tempfile.TemporaryDirectory() as folder, clock("all"):
        with clock("quantize"):
            graph = espdl_quantize_torch(
                model=contract.call("get_torch_model"),
                espdl_export_file=str(Path(folder) / "model.espdl"),
                calib_dataloader=loader,
                calib_steps=config.calib_steps,
                input_shape=[[1, *shape] for shape in config.input_shapes],
                inputs=inputs,
                target=config.target,
                num_of_bits=config.num_of_bits,
                device=config.device,
                setting=setting,
                collate_fn=contract.collate,
                error_report=False,
                skip_export=True,
            )
        common = {
            "graph": graph,
            "running_device": config.device,
            "dataloader": loader,
            "collate_fn": contract.collate,
            "steps": config.analyse_steps,
        }
        with clock("layerwise"):
            layerwise = layerwise_error_analyse(**common)
        with clock("graphwise"):
            graphwise_error_analyse(**common)
        with clock("statistics"), installed(When.ANALYSIS):
            statistical_analyse(**common)
        with clock("export"):
            export_ppq_graph(
                graph=graph,
                platform=get_target_platform(config.target, config.num_of_bits),
                graph_save_to=str(Path(folder) / "model.espdl"),
            )
        with clock("evaluate"):
            score = contract.call("evaluate", graph)[config.primary_metric]
    return {"layerwise": layerwise, "score": score, "exponents": exponents_of(graph)}


def main() -> None:
    """Run every setting."""
    job, clock = read_job(), Clock()
    contract = contract_of(job)
    results = [_iterate(contract, fields, clock) for fields in job["settings"]]
    write_result(job, results, clock)


if __name__ == "__main__":
    main()
