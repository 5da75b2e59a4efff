"""This project: whole iterations, as ``run`` and ``tune`` do them."""

from __future__ import annotations

import json
import tempfile
from pathlib import Path
from typing import Any

# Imported before the clock runs, as esp-ppq is on the other side.
import espdl_quantize.ppq.fast  # noqa: F401
from benchmarks._side import Clock, contract_of, exponents_of, read_job, write_result
from espdl_quantize.core import NoProgress
from espdl_quantize.iteration import RunOptions, _run, run_iteration
from espdl_quantize.iteration._score import score_quantized
from espdl_quantize.setting import parse_setting

_STAGES = {
    "layerwise error": "layerwise",
    "graphwise error": "graphwise",
    "statistics": "statistics",
    "export": "export",
    "evaluate": "evaluate",
    "prepare float model": "quantize",
    "quantize": "quantize",
    "read calibration data": "quantize",
}


class _Timed(NoProgress):
    def __init__(self, clock: Clock) -> None:
        self._clock = clock

    def stage(self, name: str) -> Any:
        """Time the stages that plain esp-ppq has, too."""
        return self._clock(_STAGES.get(name, "other"))


def main() -> None:
    """Run every setting into one output folder; the float model is scored before the clock runs."""
    job, clock = read_job(), Clock()
    contract = contract_of(job)
    graphs: list[Any] = []

    def keeping(*arguments: Any, **options: Any) -> Any:
        graphs.append(arguments[1])
        return score_quantized(*arguments, **options)

    # The graph itself is nowhere else to be had.
    setattr(_run, score_quantized.__name__, keeping)
    results = []
    with tempfile.TemporaryDirectory() as outputs:
        for number, fields in enumerate(job["settings"]):
            folder = Path(outputs) / f"iter_{number}"
            setting = parse_setting({"iteration_id": number, **fields})
            options = RunOptions(full_eval=True, with_info=True, score_float=False)
            with clock("all"):
                record = run_iteration(contract, setting, folder, options, _Timed(clock))
            layerwise = json.loads((folder / "layerwise_error.json").read_text(encoding="utf-8"))
            results.append(
                {
                    "layerwise": layerwise,
                    "score": record.value,
                    "exponents": exponents_of(graphs[-1]),
                }
            )
    write_result(job, results, clock)


if __name__ == "__main__":
    main()
