"""``espdl-quantize final``: scores that take no part in the search."""

from __future__ import annotations

import sys
from pathlib import Path
from typing import Annotated

import typer

from espdl_quantize.cli._options import (
    AsJson,
    ContractPath,
    InProcess,
    IterationLimit,
    OutputFolder,
    ProgressJson,
)
from espdl_quantize.cli._paths import whole, whole_if_given
from espdl_quantize.cli._progress import say_of, shown
from espdl_quantize.cli.terminal import say
from espdl_quantize.core import (
    EXIT_OK,
    EXIT_REFUSED,
    EspdlQuantizeError,
    OutputFolderError,
    dumps,
)

_NOTHING_TO_TAKE = (
    "nothing to take: the contract has one way to score, and that chose the best; for one of "
    "samples that take no part in the search, define evaluate_final() before the first iteration "
    "(in a new output folder)"
)


def final(
    *,
    contract: ContractPath,
    output_dir: OutputFolder = Path("outputs"),
    again: Annotated[bool, typer.Option("--again", help="Score what was scored, too.")] = False,
    iteration_limit: IterationLimit = None,
    in_process: InProcess = False,
    progress_json: ProgressJson = None,
    as_json: AsJson = False,
) -> None:
    """Take the final score of best and of the baseline, which 'tune' does at its end.

    It is by the contract's evaluate_final, on samples that the search never scores; without one, by
    evaluate where the search scored by evaluate_fast. Each model is quantized once more and held
    against the iteration's, byte for byte.
    """
    from espdl_quantize.cli._backend import ProcessOptions, backend_of, chip_of
    from espdl_quantize.iteration import RunOptions
    from espdl_quantize.record import locked, read_history
    from espdl_quantize.report import final_lines, final_of
    from espdl_quantize.tuning import take_final

    process = ProcessOptions.of(iteration_limit, in_process=in_process)
    if not output_dir.is_dir():
        raise OutputFolderError(f"{output_dir} is no folder", "give the one that holds iter_0")
    contract, outputs = whole(contract), whole(output_dir)
    history = read_history(outputs)
    if history.best is None:
        raise EspdlQuantizeError(f"{outputs} has no iteration with a score", "run one first")
    with (
        shown(whole_if_given(progress_json), as_json=as_json) as progress,
        backend_of(
            contract, RunOptions(), process, progress, overrides=chip_of(outputs)
        ) as backend,
        locked(outputs),
    ):
        take_final(backend, history, progress, say_of(progress), again=again)
        is_there_any = backend.facts.final_by is not None
    history = read_history(outputs)
    finals = final_of(history)
    if not finals.taken and not is_there_any:
        # Nothing is wrong: a contract need not have a function of its own for this.
        # The key of earlier versions.
        form = {**finals.to_json(), "told": [_NOTHING_TO_TAKE]}
        print(dumps(form) if as_json else _NOTHING_TO_TAKE)
        sys.exit(EXIT_OK)
    if as_json:
        print(dumps(finals.to_json()), end="")
    else:
        for line in final_lines(history):
            say(line)
        if finals.taken:
            print("'espdl-quantize compare --finalize' puts it into the reports")
    sys.exit(EXIT_OK if finals.taken else EXIT_REFUSED)
