"""``espdl-quantize tune``: the whole search."""

from __future__ import annotations

import contextlib
from pathlib import Path
from typing import Annotated

import typer

from espdl_quantize.cli._options import (
    AllowMismatch,
    AsJson,
    DryRun,
    EngineName,
    EspDlVersion,
    InProcess,
    IterationLimit,
    NoFloatScore,
    NoReuse,
    ProgressJson,
    SearchByName,
    Target,
)
from espdl_quantize.cli._paths import whole, whole_if_given
from espdl_quantize.cli._progress import shown
from espdl_quantize.core import Engine, Strategy


def tune(
    *,
    contract: Annotated[
        Path | None, typer.Argument(metavar="USER_QUANT.PY", help="The contract module.")
    ] = None,
    output_dir: Annotated[
        Path | None,
        typer.Option(
            help="The folder that holds iter_0; without it outputs, with --target outputs-CHIP."
        ),
    ] = None,
    target: Target = None,
    iterations: Annotated[
        int | None,
        typer.Option(
            help="How many iterations this call may run; call it again for more. "
            # As tune.BUDGET_RULE, which is not imported so that the help comes at once.
            "A failed iteration counts; its repetition in place does not count again."
        ),
    ] = None,
    time: Annotated[
        str | None,
        typer.Option(help="How long this call may take: 45m, 1h30m, 90s, or seconds."),
    ] = None,
    strategy: Annotated[
        Strategy | None,
        typer.Option(
            help="Whose rules decide the next step: swift tries what is cheap first and trains "
            "what came out of it; seed pairs each calibration with training. Without it, the "
            "strategy that the output folder or the recorded table names; swift where none does."
        ),
    ] = None,
    policy: Annotated[
        str, typer.Option(help="Who explores once the strategy is through: evidence or optuna.")
    ] = "evidence",
    seed: Annotated[int, typer.Option(help="Of every random generator.")] = 0,
    use_full_eval: Annotated[
        bool, typer.Option("--use-full-eval", help="Score by evaluate, not by evaluate_fast.")
    ] = False,
    ignore_plateau: Annotated[
        bool, typer.Option("--ignore-plateau", help="Go on where the metric has stopped moving.")
    ] = False,
    dry_run: DryRun = False,
    search_by: SearchByName = "metric",
    confirm_draws: Annotated[
        int,
        typer.Option(
            help="Run best and its nearest rival on so many draws of the calibration data, too."
        ),
    ] = 0,
    no_final: Annotated[
        bool, typer.Option("--no-final", help="Take no final score at the end.")
    ] = False,
    no_float_score: NoFloatScore = False,
    allow_mismatch: AllowMismatch = False,
    esp_dl_version: EspDlVersion = None,
    iteration_limit: IterationLimit = None,
    in_process: InProcess = False,
    parallel: Annotated[
        int | None,
        typer.Option(
            min=1,
            metavar="N",
            help="Run up to N iterations at once, on Ray; the extra 'ray' installs it.",
        ),
    ] = None,
    ray: Annotated[
        str | None,
        typer.Option(
            metavar="ADDRESS",
            help="Of the cluster: auto, ray://HOST:10001 or HOST:PORT. Without it, a Ray on this "
            "machine starts and ends with the command.",
        ),
    ] = None,
    engine: EngineName = Engine.FAST,
    recorded: Annotated[
        Path | None,
        typer.Option(
            metavar="TABLE.ZIP",
            help="Replay recorded iterations instead of running a contract; quantizes nothing. "
            "--time counts the time that they took.",
        ),
    ] = None,
    pace: Annotated[
        float | None,
        typer.Option(help="With --recorded: at so many times the recorded speed, not at once."),
    ] = None,
    progress_json: ProgressJson = None,
    open_page: Annotated[
        bool,
        typer.Option("--open", help="Open the report in a browser, renewed while the search runs."),
    ] = False,
    no_reuse: NoReuse = False,
    as_json: AsJson = False,
) -> None:
    """Search by itself to a stop; best/ holds the best model so far at any time.

    Without --iterations and --time it stops at the target, or when every step was taken; the
    strategy seed also at a plateau. Ctrl-C leaves everything in order, and the same command goes
    on from there.
    """
    from espdl_quantize.cli._backend import ProcessOptions, backend_of
    from espdl_quantize.cli._dry_run import preview_search
    from espdl_quantize.cli.search import search_and_print
    from espdl_quantize.contract import Overrides
    from espdl_quantize.iteration import RunOptions
    from espdl_quantize.search import RankBy
    from espdl_quantize.search.policies import make_policy
    from espdl_quantize.tuning import (
        Budget,
        RecordedBackend,
        TuneOptions,
        default_outputs,
        parse_duration,
    )

    options = TuneOptions(
        Budget(iterations, None if time is None else parse_duration(time)),
        policy=policy,
        seed=seed,
        ignore_plateau=ignore_plateau,
        final=not no_final,
        rank_by=RankBy(search_by),
        strategy=strategy,
        confirm_draws=confirm_draws,
    )
    if (contract is None) == (recorded is None):
        raise typer.BadParameter("give one of USER_QUANT.PY and --recorded TABLE.ZIP")
    if pace is not None and recorded is None:
        raise typer.BadParameter("--pace is of --recorded TABLE.ZIP")
    if target is not None and recorded is not None:
        raise typer.BadParameter("--target is of a contract; a recorded table has its chip")
    output_dir = default_outputs(target) if output_dir is None else output_dir
    process = ProcessOptions.of(iteration_limit, in_process=in_process, parallel=parallel, ray=ray)
    explorer = make_policy(options.policy)
    if recorded is not None:
        if ray is not None:
            raise typer.BadParameter("--ray is of a contract; a recorded table is replayed here")
        replay = RecordedBackend(recorded, pace=pace, slots=parallel or 1)
        if dry_run:
            preview_search(replay, output_dir, options, as_json=as_json)
            return
        # Its times count as time spent.
        search_and_print(
            replay,
            explorer,
            output_dir,
            options,
            as_json=as_json,
            progress_lines=progress_json,
            clock=replay.clock,
            open_page=open_page,
        )
        return
    assert contract is not None
    run_options = RunOptions(
        full_eval=use_full_eval,
        seed=seed,
        engine=engine,
        score_float=not no_float_score,
        allow_mismatch=allow_mismatch,
        reuse=not no_reuse,
    )
    overrides = Overrides(target=target, esp_dl_version=esp_dl_version)
    contract, place = whole(contract), whole(output_dir)
    progress_lines = whole_if_given(progress_json)
    with contextlib.ExitStack() as held:
        with shown(None, as_json=as_json or progress_lines is not None) as progress:
            backend = held.enter_context(
                backend_of(contract, run_options, process, progress, overrides=overrides)
            )
        if dry_run:
            preview_search(backend, place, options, as_json=as_json, shown_as=output_dir)
            return
        search_and_print(
            backend,
            explorer,
            output_dir,
            options,
            as_json=as_json,
            progress_lines=progress_lines,
            open_page=open_page,
        )
