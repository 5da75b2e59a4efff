"""One strategy on one network, in a process of its own: ``python -m benchmarks.zoo.job JOB``.

It prints a JSON object a line: how far it is, and at last the result. What esp-ppq prints goes to a
file. The clock runs from the strategy's first step, with the contract and all packages loaded, and
not while a model is scored on the samples of the final score.
"""

from __future__ import annotations

import contextlib
import json
import os
import platform
import sys
import time
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any, TextIO

# Puts the folder of the packages on the path, for contracts outside of this folder, too.
import benchmarks.zoo.contracts.sources  # noqa: F401
from benchmarks.zoo.clock import CPU, count_processor_time
from benchmarks.zoo.networks import Job
from benchmarks.zoo.results import NOTHING, Incumbent, Result, Score
from espdl_quantize.contract import Contract, load_contract
from espdl_quantize.core import Direction
from espdl_quantize.iteration import captured
from espdl_quantize.ppq import target_names


class Evaluations:
    """Sees all that the contract's functions return; a strategy keeps a part of it.

    Args:
        contract: its functions are replaced by ones that remember.
    """

    def __init__(self, contract: Contract) -> None:
        self.contract = contract
        self.metric = contract.config.primary_metric
        self._module: Any = contract.module
        self._returned: dict[str, list[dict[str, Any]]] = {}
        self._aggregate = getattr(self._module, "aggregate", None)
        for name in ("evaluate", "evaluate_final"):
            if hasattr(self._module, name):
                self._remember(name)

    @property
    def has_final(self) -> bool:
        """Whether there is a final score."""
        return self.contract.has_evaluate_final

    def _remember(self, name: str) -> None:
        function = getattr(self._module, name)
        returned = self._returned.setdefault(name, [])

        def remembering(quant_graph: Any) -> Any:
            result = function(quant_graph)
            if isinstance(result, dict):
                returned.append(result)
                # A search keeps an iteration's own; a long one must not keep them all.
                del returned[:-64]
            return result

        setattr(self._module, name, remembering)

    def last(self, name: str, value: float | None) -> dict[str, Any] | None:
        """Return what a function returned last with that value of the metric."""
        kept = reversed(self._returned.get(name, []))
        fitting = (each for each in kept if value is None or each.get(self.metric) == value)
        return next(fitting, None)

    def result(self, job: Job, incumbents: Sequence[Incumbent], error: str, **more: Any) -> Result:
        """Return the result of a search; an error counts only where no model was scored."""
        config = self.contract.config
        return Result.of(
            job,
            chip=config.target,
            metric=self.metric,
            higher=config.metric_direction == Direction.MAX,
            incumbents=tuple(incumbents),
            error="" if incumbents else error or f"{NOTHING} {job.seconds:.0f} s",
            **more,
        )

    def score(self, returned: dict[str, Any] | None) -> Score | None:
        """Return the score of what a function returned."""
        if returned is None:
            return None
        with self.contract.entered():
            return Score.of(returned, self.metric, self._aggregate)


class Messages:
    """Writes lines for the process that waits."""

    def __init__(self, stream: TextIO) -> None:
        self._stream = stream

    def __call__(self, **what: Any) -> None:
        """Write one."""
        self._stream.write(json.dumps(what) + "\n")
        self._stream.flush()


def machine() -> dict[str, Any]:
    """Return what this runs on."""
    import esp_ppq
    import torch

    return {
        "cpus": os.cpu_count(),
        "threads": torch.get_num_threads(),
        "processor": _processor(),
        "load": round(os.getloadavg()[0], 2),
        "python": platform.python_version(),
        "torch": torch.__version__,
        "esp_ppq": getattr(esp_ppq, "__version__", "") or _version("esp-ppq"),
    }


def _processor() -> str:
    with contextlib.suppress(OSError):
        for line in Path("/proc/cpuinfo").read_text(encoding="utf-8").splitlines():
            if line.startswith("model name"):
                return line.partition(":")[2].strip()
    return platform.processor()


def _version(package: str) -> str:
    from importlib.metadata import version

    return version(package)


def run(job: Job, send: Messages) -> Result:
    """Run a job; a failure is a result, too."""
    contract = load_contract(Path(job.contract), target_names())
    evaluations = Evaluations(contract)
    if job.strategy == "autoquant":
        from benchmarks.zoo.autoquant import search
    else:
        from benchmarks.zoo.tuned import search
    started = machine()
    result = search(job, evaluations, send)
    load = [started["load"], round(os.getloadavg()[0], 2)]
    return replace(result, machine={**started, "load": load})


def main() -> None:
    """Run the job of the command line."""
    job = Job(**json.loads(sys.argv[1]))
    folder = Path(job.folder)
    with os.fdopen(os.dup(1), "w", encoding="utf-8") as stream:
        send = Messages(stream)
        with captured(folder / "job.log"):
            begun = time.monotonic()
            if job.clock == CPU:
                count_processor_time()
            try:
                result = run(job, send)
            except Exception as error:
                import traceback

                traceback.print_exc()
                took = max(time.monotonic() - begun, 0.0)
                result = Result.of(job, error=short(error), took=took)
        send(result=result.to_json())


def short(error: BaseException) -> str:
    """Say in one line what was raised."""
    text = " ".join(str(error).split())
    return f"{type(error).__name__}: {text[:300]}" if text else type(error).__name__


if __name__ == "__main__":
    main()
