"""What both sides of the benchmark of iterations share."""

from __future__ import annotations

import contextlib
import json
import resource
import sys
import time
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import torch

from espdl_quantize.contract import Contract, load_contract
from espdl_quantize.ppq import target_names


class Clock:
    """Adds up the seconds per stage."""

    def __init__(self) -> None:
        self.seconds: dict[str, float] = {}

    @contextlib.contextmanager
    def __call__(self, stage: str) -> Iterator[None]:
        """Time a stage."""
        started = time.perf_counter()
        try:
            yield
        finally:
            passed = time.perf_counter() - started
            self.seconds[stage] = self.seconds.get(stage, 0.0) + passed


def read_job() -> dict[str, Any]:
    """Return what the benchmark asks for."""
    return dict(json.loads(sys.argv[1]))


def contract_of(job: dict[str, Any]) -> Contract:
    """Return the contract of a job, with its own number of analysis steps."""
    contract = load_contract(Path(job["contract"]), target_names())
    if job["analyse_steps"] is None:
        return contract
    config = contract.config.model_copy(update={"analyse_steps": job["analyse_steps"]})
    return replace(contract, config=config)


def exponents_of(graph: Any) -> list[float]:
    """Return the base-2 logarithm of every scale of a quantized graph, in its order."""
    exponents: list[float] = []
    for op in graph.operations.values():
        for config, _ in getattr(op, "config_with_variable", ()):
            if isinstance(config.scale, torch.Tensor):
                exponents += torch.log2(config.scale).flatten().tolist()
    return exponents


def write_result(job: dict[str, Any], results: list[dict[str, Any]], clock: Clock) -> None:
    """Hand the results over, with the peak of the memory in use."""
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024
    if sys.platform == "darwin":  # bytes there, kB elsewhere
        peak /= 1024
    content = {"results": results, "seconds": clock.seconds, "peak_mb": peak}
    Path(job["result"]).write_text(json.dumps(content), encoding="utf-8")
