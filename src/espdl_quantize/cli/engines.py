"""``espdl-quantize engines``: plain esp-ppq and the fast engine, side by side on one model."""

from __future__ import annotations

import contextlib
import json
import math
import subprocess
import sys
import tempfile
from collections.abc import Mapping
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer
from rich.console import Console
from rich.table import Table

from espdl_quantize.cli._options import AsJson, ContractPath
from espdl_quantize.cli._paths import whole, whole_if_given
from espdl_quantize.cli._progress import TerminalProgress
from espdl_quantize.cli.terminal import escape
from espdl_quantize.core import (
    EXIT_OK,
    EXIT_REFUSED,
    Engine,
    IterationError,
    Json,
    NoProgress,
    OutputFolderError,
    dumps,
)

if TYPE_CHECKING:
    from espdl_quantize.record import IterationRecord

TOLERANCE = 1e-6
"""Difference of a noise amplitude that counts as agreement; see :func:`largest_difference`."""

_ENGINES = (Engine.REFERENCE, Engine.FAST)


@dataclass(frozen=True)
class Agreement:
    """How near the two engines came.

    Attributes:
        values: the score by each engine.
        layerwise: the largest difference of a noise amplitude in the layerwise errors.
        graphwise: the same in the graphwise errors.
        same_model: the two .espdl files are equal to the last byte.
        seconds: by stage, of each engine.
        ratio: whole time of the reference over that of the fast engine.
        fallbacks: what plain esp-ppq did for the fast engine: there it was compared with itself.
    """

    values: tuple[Any, Any]
    layerwise: float
    graphwise: float
    same_model: bool
    seconds: dict[str, tuple[float, float]]
    ratio: float
    fallbacks: tuple[str, ...] = ()

    @property
    def holds(self) -> bool:
        """Tell whether score and analyses agree."""
        worst = max(self.layerwise, self.graphwise)
        return self.values[0] == self.values[1] and worst <= TOLERANCE


def engines(
    *,
    contract: ContractPath,
    setting: Annotated[
        Path | None, typer.Option(help="A JSON setting; without it, the baseline.")
    ] = None,
    output_dir: Annotated[
        Path | None, typer.Option(help="Keep both iterations in this new folder.")
    ] = None,
    as_json: AsJson = False,
) -> None:
    """Run one setting by plain esp-ppq and by the fast engine; compare results and times.

    Exits with 1 where the scores differ, or, in an analysis, a noise amplitude (the root of noise
    power over signal power) by more than 1e-6 of the signal.
    """
    if output_dir is not None and output_dir.exists() and any(output_dir.iterdir()):
        raise OutputFolderError(f"{output_dir} is not empty", "give a new --output-dir")
    contract, setting = whole(contract), whole_if_given(setting)
    with tempfile.TemporaryDirectory() as scratch:
        outputs = whole(output_dir or Path(scratch))
        indices = []
        with contextlib.nullcontext(NoProgress()) if as_json else TerminalProgress() as progress:
            for engine in _ENGINES:
                with progress.stage(f"{engine} engine"):
                    indices.append(_run(contract, setting, outputs, engine))
        agreement = _agreement(outputs, *indices)
    if as_json:
        print(dumps({"agrees": agreement.holds, **asdict(agreement)}), end="")
    else:
        print_agreement(agreement)
    sys.exit(EXIT_OK if agreement.holds else EXIT_REFUSED)


def _folder(outputs: Path, engine: Engine) -> Path:
    from espdl_quantize.record import iteration_folder

    return iteration_folder(outputs / engine.value, 0)


def _run(contract: Path, setting: Path | None, outputs: Path, engine: Engine) -> IterationRecord:
    # In a process of its own: what the fast engine sets up would speed plain esp-ppq up, too.
    what = ["--baseline"] if setting is None else ["--setting", str(setting)]
    command = [sys.executable, "-m", "espdl_quantize", "run", str(contract), *what, "--json"]
    folder = _folder(outputs, engine)
    done = subprocess.run(
        [*command, "--output-dir", str(folder), "--engine", engine],
        capture_output=True,
        text=True,
        check=False,
    )
    if done.returncode != EXIT_OK:
        raise IterationError(
            f"the {engine} engine failed: {_cause(done.stdout, done.stderr)}",
            f"see what is wrong: espdl-quantize run {contract} --engine {engine}",
        )
    from espdl_quantize.record import record_from_json

    return record_from_json(json.loads(done.stdout))


def _cause(stdout: str, stderr: str) -> str:
    try:
        return str(json.loads(stdout)["error"]["message"])
    except (ValueError, KeyError, TypeError):
        # It was killed, or crashed.
        return (stderr.strip().splitlines() or ["it said nothing"])[-1]


def _agreement(outputs: Path, plain: IterationRecord, fast: IterationRecord) -> Agreement:
    from espdl_quantize.record.files import GRAPHWISE, LAYERWISE, MODEL

    folders = [_folder(outputs, engine) for engine in _ENGINES]
    stages = [record.elapsed_by_stage for record in (plain, fast)]
    models = [(folder / MODEL).read_bytes() for folder in folders]
    return Agreement(
        values=(plain.value, fast.value),
        layerwise=largest_difference(*_errors(folders, LAYERWISE)),
        graphwise=largest_difference(*_errors(folders, GRAPHWISE)),
        same_model=models[0] == models[1],
        seconds={name: (stages[0][name], stages[1][name]) for name in stages[0]},
        ratio=(plain.elapsed_seconds or 0.0) / (fast.elapsed_seconds or 1.0),
        fallbacks=tuple(
            f"{each.part} ({each.layer}): {each.reason}" for each in fast.engine_fallbacks
        ),
    )


def _errors(folders: list[Path], name: str) -> list[Json]:
    return [json.loads((folder / name).read_text(encoding="utf-8")) for folder in folders]


def largest_difference(plain: Mapping[str, float], fast: Mapping[str, float]) -> float:
    """Return the largest difference of a noise amplitude in two error analyses, an error per op.

    An error is noise power over signal power, its root the noise's amplitude in units of the
    signal's. Adding floating-point numbers in another order changes outputs by a few units in their
    last place, 1.2e-7 of them, however small the noise is: the amplitude by no more than that, but
    the error by any percentage.

    Returns:
        Infinite where the ops differ, or an error is not a number in one analysis alone.
    """
    if plain.keys() != fast.keys():
        return float("inf")
    largest = 0.0
    for op, value in plain.items():
        if math.isnan(value) or math.isnan(fast[op]):
            if math.isnan(value) != math.isnan(fast[op]):
                return float("inf")
        elif value != fast[op]:
            largest = max(largest, abs(math.sqrt(value) - math.sqrt(fast[op])))
    return largest


def print_agreement(agreement: Agreement) -> None:
    """Print the times by stage, what was compared, and a line that sums up."""
    console = Console(highlight=False)
    table = Table()
    table.add_column("stage")
    for column in ("esp-ppq, s", "fast, s", "ratio"):
        table.add_column(column, justify="right")
    for name, (plain, fast) in agreement.seconds.items():
        ratio = f"{plain / fast:.1f}" if fast >= 0.05 else ""
        table.add_row(escape(name), f"{plain:.2f}", f"{fast:.2f}", ratio)
    console.print(table)
    console.print(f"score: {agreement.values[0]:.6g} and {agreement.values[1]:.6g}")
    console.print(
        f"largest difference of a noise amplitude: layerwise {agreement.layerwise:.1e}, "
        f"graphwise {agreement.graphwise:.1e} of the signal"
    )
    console.print(f"the .espdl files are {'equal' if agreement.same_model else 'not equal'}")
    for fallback in agreement.fallbacks:
        line = f"plain esp-ppq did for the fast engine, which failed: {fallback}"
        console.print(escape(line), style="yellow")
    verdict = "agree"
    if agreement.values[0] != agreement.values[1]:
        verdict = "do not agree: the scores differ"
    elif not agreement.holds:
        verdict = f"do not agree: noise amplitudes differ by more than {TOLERANCE:g}"
    console.print(
        f"the engines {verdict}; the fast one is {agreement.ratio:.1f} times as fast in all",
        style="bold" if agreement.holds else "bold red",
    )
