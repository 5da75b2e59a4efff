"""One iteration, or five of a tune: plain esp-ppq against this project, in turn.

    python -m benchmarks.iteration --case demo --work tqt [--steps 500] [--repeat 3]
    ESPDL_IMAGES=images python -m benchmarks.iteration --case lite0 --work baseline

Plain esp-ppq runs the public calls that a user would write: quantize, three analyses, export, and
the contract's evaluate. Both sides run the same settings on the same contract, each in a process
of its own, one after the other, with the same number of threads, and write .espdl, .info and .json,
as esp-ppq does unless it is told not to. The results must agree, or the benchmark fails. Ratios are
medians over the repeats of plain / ours. "process" is the whole process, imports included.
"""

from __future__ import annotations

import argparse
import json
import os
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from espdl_quantize.cli.engines import TOLERANCE, largest_difference

ROOT = Path(__file__).resolve().parent.parent
CASES = {
    "demo": ROOT / "examples/fashion_mnist/user_quant.py",
    "lite0": ROOT / "examples/efficientnet_lite0/user_quant.py",
    "mobilenetv2": ROOT / "benchmarks/mobilenetv2.py",
}
SIDES = ("plain", "ours")
STAGES = (
    "quantize",
    "layerwise",
    "graphwise",
    "statistics",
    "export",
    "evaluate",
    "all",
    "process",
)


def settings_of(work: str, steps: int) -> list[dict[str, Any]]:
    """Return the settings of one kind of work."""
    tqt = {"tqt_optimization": {"enabled": True, "steps": steps}}
    sweep = [{"calib_algorithm": name, **tqt} for name in ("kl", "mse", "percentile")]
    by_work: dict[str, list[dict[str, Any]]] = {
        "baseline": [{"calib_algorithm": "kl"}],
        "tqt": sweep[:1],
        "five": [
            {"calib_algorithm": "kl"},
            *sweep,
            {"calib_algorithm": "mse", **tqt, "bias_correct": {"enabled": True}},
        ],
    }
    return by_work[work]


def run_side(
    side: str,
    case: str,
    settings: list[dict[str, Any]],
    device: str,
    analyse_steps: int | None,
) -> dict[str, Any]:
    """Run one side in a process of its own; return its stages, results and peak memory."""
    with tempfile.NamedTemporaryFile(suffix=".json") as result:
        job = {
            "contract": str(CASES[case]),
            "settings": settings,
            "analyse_steps": analyse_steps,
            "result": result.name,
        }
        environment = {**os.environ, "ESPDL_DEVICE": device}
        started = time.perf_counter()
        done = subprocess.run(
            [sys.executable, "-m", f"benchmarks._side_{side}", json.dumps(job)],
            cwd=ROOT,
            env=environment,
            capture_output=True,
            text=True,
            check=False,
        )
        if done.returncode != 0:
            raise SystemExit(f"{side} failed:\n{done.stderr[-3000:]}")
        measured = dict(json.loads(Path(result.name).read_text(encoding="utf-8")))
        measured["seconds"]["process"] = time.perf_counter() - started
        return measured


def check(plain: dict[str, Any], ours: dict[str, Any], work: str) -> list[str]:
    """Return one line per iteration on how the results compare.

    Raises:
        SystemExit: an iteration without training differs in its score, or by more than rounding.
    """
    lines = []
    for number, (a, b) in enumerate(zip(plain["results"], ours["results"], strict=True)):
        layerwise = largest_difference(a["layerwise"], b["layerwise"])
        lines.append(
            f"iteration {number}: score {a['score']:.6g} / {b['score']:.6g}, "
            f"noise amplitudes within {layerwise:.1e}, exponents that differ: "
            f"{sum(x != y for x, y in zip(a['exponents'], b['exponents'], strict=True))} "
            f"of {len(a['exponents'])}"
        )
        if work == "baseline" and (layerwise > TOLERANCE or a["score"] != b["score"]):
            raise SystemExit(f"the results do not agree: {lines[-1]}")
    return lines


def main(arguments: Sequence[str] | None = None) -> None:
    """Run, check and print."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--case", choices=list(CASES), default="demo")
    parser.add_argument("--work", choices=["baseline", "tqt", "five"], default="baseline")
    parser.add_argument("--device", choices=["cpu", "cuda"], default="cpu")
    parser.add_argument("--steps", type=int, default=500, help="of TQT")
    parser.add_argument("--repeat", type=int, default=3)
    parser.add_argument(
        "--analyse-steps",
        type=int,
        help="instead of the contract's; fewer save plain esp-ppq hours",
    )
    parser.add_argument(
        "--bare", action="store_true", help="also train the blocks without fake quantization"
    )
    chosen = parser.parse_args(arguments)
    settings = settings_of(chosen.work, chosen.steps)
    job = (chosen.case, settings, chosen.device, chosen.analyse_steps)
    by_side: dict[str, list[dict[str, Any]]] = {side: [] for side in SIDES}
    for number in range(chosen.repeat):
        for side in SIDES if number % 2 == 0 else SIDES[::-1]:
            by_side[side].append(
                run_side(side, chosen.case, settings, chosen.device, chosen.analyse_steps)
            )
    for line in check(by_side["plain"][0], by_side["ours"][0], chosen.work):
        print(line)
    print(f"{'stage':<12}{'plain, s':>10}{'ours, s':>10}{'ratio':>8}")
    for stage in STAGES:
        times = {side: [run["seconds"].get(stage, 0.0) for run in by_side[side]] for side in SIDES}
        pairs = list(zip(times["plain"], times["ours"], strict=True))
        ratio = statistics.median(a / b for a, b in pairs) if min(times["ours"]) > 0 else 0.0
        medians = [statistics.median(times[side]) for side in SIDES]
        print(f"{stage:<12}{medians[0]:>10.2f}{medians[1]:>10.2f}{ratio:>8.1f}")
    if chosen.bare:
        bare = run_side("bare", *job)
        ours = statistics.median(run["seconds"]["quantize"] for run in by_side["ours"])
        limit = bare["seconds"]["quantize"]
        print(
            f"quantize with bare training steps: {limit:.2f} s; ours takes {ours / limit:.2f} times"
        )
    peaks = [max(run["peak_mb"] for run in by_side[side]) for side in SIDES]
    print(f"{'peak MB':<12}{peaks[0]:>10.0f}{peaks[1]:>10.0f}{peaks[0] / peaks[1]:>8.1f}")


if __name__ == "__main__":
    main()
