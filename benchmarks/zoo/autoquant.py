"""AutoQuant: esp-ppq's own search of settings, mode fast, with its default space.

It is called as its documentation says, with the batches of the contract's loader and the contract's
evaluation, and ended by an alarm when the time is up; what it had scored by then counts. It runs
plain esp-ppq, by which its batches lie in memory, so that no image is read twice.
"""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import torch
from esp_ppq.autoquant import AutoQuantSearchSetting, espdl_auto_quantize_onnx

from benchmarks.zoo.clock import Clock, TimeUpError
from benchmarks.zoo.job import Evaluations, Messages, short
from benchmarks.zoo.networks import Job
from benchmarks.zoo.results import Incumbent, Result, Score
from espdl_quantize.chip.cost import cost_of
from espdl_quantize.contract import Contract
from espdl_quantize.core import Direction, EspdlQuantizeError


def search(job: Job, evaluations: Evaluations, send: Messages) -> Result:
    """Run AutoQuant for the time."""
    contract, folder = evaluations.contract, Path(job.folder)
    config = contract.config
    higher = config.metric_direction == Direction.MAX
    incumbents: list[Incumbent] = []
    scored: list[float] = []
    clock, last = Clock(job.seconds, job.clock), 0.0
    runs = folder / "autoquant"

    def evaluate(graph: Any) -> tuple[float, dict[str, float]]:
        nonlocal last
        returned = contract.call("evaluate", graph)
        value = float(returned[evaluations.metric])
        scored.append(value)
        last = clock.seconds

        def note() -> None:
            best = incumbents[-1].search.value if incumbents else None
            if best is None or (value > best if higher else value < best):
                final = None
                if evaluations.has_final:
                    final = evaluations.score(contract.call("evaluate_final", graph))
                search_score = evaluations.score(returned) or Score(value)
                incumbents.append(Incumbent(last, str(len(scored) - 1), search_score, final))
            send(seconds=last, iterations=len(scored), best=incumbents[-1].search.value)

        clock.outside(note)
        return value, {}

    error, ended = "", "ended by itself"
    setting = AutoQuantSearchSetting(
        search_mode="fast",
        score_direction="maximize" if higher else "minimize",
        run_dir=str(runs),
    )
    try:
        model = _onnx(contract, folder)
        with clock:
            espdl_auto_quantize_onnx(
                onnx_import_file=str(model),
                espdl_export_file=str(folder / "model.espdl"),
                calib_dataloader=_batches(contract),
                calib_steps=config.calib_steps,
                input_shape=_input_shape(contract),
                evaluate_fn=evaluate,
                target=config.target,
                collate_fn=contract.collate,
                setting=setting,
                device=config.device,
            )
    except TimeUpError:
        ended = "the time was up"
    except Exception as raised:
        import traceback

        traceback.print_exc()
        error = short(raised)
        ended = f"failed: {error}"
    # None of them changed a word of what was found before.
    named = [_named(each, runs, config.target) for each in incumbents]
    return evaluations.result(job, named, error, iterations=len(scored), took=last, ended=ended)


def _onnx(contract: Contract, folder: Path) -> Path:
    """Return the ONNX file; a torch model is exported as esp-ppq's espdl_quantize_torch does."""
    if contract.config.model_type == "onnx":
        # AutoQuant writes beside it.
        copy = folder / "model.onnx"
        copy.write_bytes(contract.onnx_path.read_bytes())
        return copy
    path = folder / "model.onnx"
    model = contract.call("get_torch_model")
    inputs = tuple(torch.zeros([1, *shape]) for shape in contract.config.input_shapes)
    with contract.entered():
        torch.onnx.export(
            model, inputs, str(path), opset_version=18, do_constant_folding=True, dynamo=False
        )
    return path


def _batches(contract: Contract) -> list[Any]:
    """Return as many batches as calibration reads, read once."""
    loader = contract.call("create_calib_dataloader")
    with contract.entered():
        return [batch for _, batch in zip(range(contract.config.calib_steps), loader, strict=False)]


def _input_shape(contract: Contract) -> list[Any]:
    """Return the only input's shape; of several, which AutoQuant has no place for, all shapes."""
    shapes = [list(shape) for shape in contract.config.input_shapes]
    return shapes[0] if len(shapes) == 1 else shapes


def _named(incumbent: Incumbent, runs: Path, chip: str) -> Incumbent:
    """Add what made an incumbent, and what its file costs on the chip."""
    folder = runs / f"{int(incumbent.setting):04d}"
    setting, ms = "", None
    if (folder / "config.json").is_file():
        made = json.loads((folder / "config.json").read_text(encoding="utf-8"))
        switched = [name for name, on in made["strategy"].items() if on]
        method = made["params"]["calib_algorithm"]["method"]
        skipped = ("num_of_bits", "calib_algorithm", "fusion_alignment")
        setting = " + ".join([method, *(name for name in switched if name not in skipped)])
    for file in folder.glob("*.espdl"):
        try:
            ms = cost_of(file, chip).latency.milliseconds
        except (EspdlQuantizeError, ValueError, KeyError):
            ms = None
    return Incumbent(incumbent.seconds, setting, incumbent.search, incumbent.final, ms)
