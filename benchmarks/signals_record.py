"""Record what every setting of a table does to every scoring image of the demo.

    python -m benchmarks.signals_record --table benchmarks/recorded/fashion_mnist_esp32s3.zip \
        --output benchmarks/recorded/fashion_mnist_esp32s3_samples.npz

Each setting is quantized again by the real engine, with the seed that the search had. Of every
image it keeps whether the class is right, whether it is the float model's class, and the power of
the noise at the output over that of the signal (float16). May be interrupted and run again.
"""

from __future__ import annotations

import argparse
import tempfile
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor

from espdl_quantize.contract import Batch, Contract, load_contract, read_batches
from espdl_quantize.core import Engine, IterationError, NoProgress
from espdl_quantize.ppq import (
    QuantizationEngine,
    engine_for,
    prepare_float_model,
    probe_target,
    quantize,
    seed_everything,
    target_names,
)
from espdl_quantize.setting import resolve
from espdl_quantize.tuning import RecordedBackend

CONTRACT = Path("examples/fashion_mnist/user_quant.py")
_BATCH = 200


def record(table: Path, output: Path) -> int:
    """Quantize and run every setting that ``output`` does not have; return how many it has."""
    contract = load_contract(CONTRACT, target_names())
    images = contract.module.normalise(contract.module._load("test_images"))
    labels = contract.module._load("test_labels").long()
    settings = RecordedBackend(table).table.settings
    found = _load(output)
    with (
        tempfile.TemporaryDirectory() as scratch,
        engine_for(Engine.FAST).install() as engine,
    ):
        seed_everything(0)
        batches = read_batches(contract)
        model = prepare_float_model(contract, Path(scratch))
        exact = _run(model.load(), images)
        found["float_right"] = (exact.argmax(1) == labels).numpy()
        for number, (key, setting) in enumerate(settings.items(), start=1):
            if f"{key}/right" in found:
                continue
            try:
                noisy = _quantized(contract, model, setting, batches, images, engine)
            except IterationError as error:
                print(f"{number}/{len(settings)} {key[:12]} failed: {error.cause}", flush=True)
                continue
            found[f"{key}/right"] = (noisy.argmax(1) == labels).numpy()
            found[f"{key}/agrees"] = (noisy.argmax(1) == exact.argmax(1)).numpy()
            noise = (noisy - exact).pow(2).sum(1) / exact.pow(2).sum(1)
            found[f"{key}/noise"] = noise.numpy().astype(np.float16)
            right = 100.0 * found[f"{key}/right"].mean()
            print(
                f"{number}/{len(settings)} {key[:12]}: {right:.2f}, {noise.mean():.4f}", flush=True
            )
            np.savez_compressed(output, **found)
    return sum(name.endswith("/right") for name in found)


def _quantized(
    contract: Contract,
    model: Any,
    setting: Any,
    batches: list[Batch],
    images: Tensor,
    engine: QuantizationEngine,
) -> Tensor:
    config = contract.config
    resolved = resolve(setting, probe_target(config.target, config.num_of_bits), config.device)
    graph = quantize(model, config, resolved, batches, NoProgress(), engine=engine).graph
    return _run(graph, images)


def _run(graph: Any, images: Tensor) -> Tensor:
    from esp_ppq.executor import TorchExecutor

    executor = TorchExecutor(graph=graph, device="cpu")
    with torch.no_grad():
        parts = [executor.forward(inputs=part)[0] for part in torch.split(images, _BATCH)]
    return torch.cat(parts)


def _load(output: Path) -> dict[str, Any]:
    if not output.is_file():
        return {}
    with np.load(output) as stored:
        return {name: stored[name] for name in stored.files}


def main(arguments: Sequence[str] | None = None) -> None:
    """Record and say how much."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--table", type=Path, required=True, help="whose settings are run")
    parser.add_argument("--output", type=Path, required=True, help="the npz to write")
    chosen = parser.parse_args(arguments)
    count = record(chosen.table, chosen.output)
    print(f"{count} settings in {chosen.output}, {chosen.output.stat().st_size / 1e3:.0f} kB")


if __name__ == "__main__":
    main()
