"""The command and its subcommands; modules that need torch load only when they run."""

from __future__ import annotations

import sys
from pathlib import Path
from typing import Annotated

import typer

from espdl_quantize import __version__
from espdl_quantize.cli._aside import add_commands
from espdl_quantize.cli._cost import add_cost
from espdl_quantize.cli._deploy import add_board_commands
from espdl_quantize.cli._folder_commands import add_folder_commands
from espdl_quantize.cli._options import (
    AsJson,
    ContractPath,
    DryRun,
    EngineName,
    InProcess,
    IterationLimit,
    NoFloatScore,
    NoReuse,
    OutputFolder,
    ProgressJson,
    SearchByName,
)
from espdl_quantize.cli._skill import skill_app
from espdl_quantize.core import EspdlQuantizeError

app = typer.Typer(
    no_args_is_help=True,
    pretty_exceptions_enable=False,
    add_completion=False,
    help="Searches esp-ppq settings for the best int8 accuracy that an ESP32 chip can run.",
    epilog="Exit codes: 0 done, 1 refused, 2 usage, 3 contract, 4 setting, 5 iteration failed, "
    "6 installation or device, 7 output folder, 130 interrupted.",
)

app.add_typer(skill_app, name="skill")


def _print_version(asked: bool) -> None:
    if asked:
        print(f"espdl-quantize {__version__}")
        raise typer.Exit


@app.callback()
def _root(
    version: Annotated[
        bool, typer.Option("--version", callback=_print_version, is_eager=True, help="Print it.")
    ] = False,
) -> None:
    pass


@app.command()
def init(
    torch: Annotated[bool, typer.Option("--torch", help="For a torch model.")] = False,
    onnx: Annotated[bool, typer.Option("--onnx", help="For an ONNX file.")] = False,
    path: Annotated[Path, typer.Argument(help="Where to write it.")] = Path("user_quant.py"),
) -> None:
    """Write a commented starter contract."""
    from espdl_quantize.contract import starter_contract

    if torch == onnx:
        raise typer.BadParameter("give one of --torch and --onnx")
    if path.exists():
        raise EspdlQuantizeError(f"{path} exists", "give another path; it is not overwritten")
    path.write_text(starter_contract("torch" if torch else "onnx"), encoding="utf-8")
    print(f"wrote {path}; fill it in, then run: espdl-quantize check {path}")


@app.command()
def schema() -> None:
    """Print the JSON Schema of a setting."""
    from espdl_quantize.setting import json_schema

    print(json_schema(), end="")


@app.command()
def check(
    contract: ContractPath,
    no_score: Annotated[
        bool, typer.Option("--no-score", help="Do not call evaluate() on the float model.")
    ] = False,
    progress_json: ProgressJson = None,
    as_json: AsJson = False,
) -> None:
    """Check a contract: all of its form at once, one batch through the model, the float score.

    The score may take long; --no-score leaves it out.
    """
    from espdl_quantize.cli._check import check_contract

    sys.exit(check_contract(contract, not no_score, as_json, progress_json))


@app.command()
def run(
    contract: ContractPath,
    output_dir: Annotated[
        Path,
        typer.Option(help="The iteration's folder, outputs/iter_<N>; 'compare' sees no other."),
    ],
    baseline: Annotated[
        bool, typer.Option("--baseline", help="esp-ppq's default setting and nothing else.")
    ] = False,
    setting: Annotated[Path | None, typer.Option(help="A JSON setting.")] = None,
    use_full_eval: Annotated[
        bool, typer.Option("--use-full-eval", help="Score by evaluate, not by evaluate_fast.")
    ] = False,
    seed: Annotated[int, typer.Option(help="Of every random generator.")] = 0,
    info: Annotated[
        bool,
        typer.Option("--info", help="Export .info (text) and .json beside the .espdl."),
    ] = False,
    native: Annotated[
        bool, typer.Option("--native", help="Export esp-ppq's .native graph, too.")
    ] = False,
    test_values: Annotated[
        bool,
        typer.Option(
            "--test-values/--no-test-values",
            help="Write model_test.espdl, too: the model with a recorded input and output, for "
            "ESP-DL's model->test().",
        ),
    ] = True,
    overwrite: Annotated[
        bool, typer.Option("--overwrite", help="Replace a finished iteration.")
    ] = False,
    allow: Annotated[
        bool, typer.Option("--allow", help="Run a setting that breaks a rule of the search.")
    ] = False,
    dry_run: DryRun = False,
    no_float_score: NoFloatScore = False,
    iteration_limit: IterationLimit = None,
    in_process: InProcess = False,
    engine: EngineName = "fast",
    progress_json: ProgressJson = None,
    no_reuse: NoReuse = False,
    as_json: AsJson = False,
) -> None:
    """Quantize, analyse and score once; leaves a model and every artifact that explains it."""
    from espdl_quantize.cli._backend import ProcessOptions
    from espdl_quantize.cli._discipline import check_discipline
    from espdl_quantize.cli._run import run_once
    from espdl_quantize.iteration import RunOptions

    process = ProcessOptions.of(iteration_limit, in_process)
    if baseline == (setting is not None):
        raise typer.BadParameter("give one of --baseline and --setting FILE")
    if setting is not None and not allow:
        check_discipline(setting, output_dir)
    options = RunOptions(
        use_full_eval,
        seed,
        info,
        native,
        overwrite,
        engine,
        score_float=not no_float_score,
        reuse=not no_reuse,
        test_values=test_values,
    )
    if dry_run:
        from espdl_quantize.cli._dry_run import preview_iteration

        preview_iteration(contract, output_dir, setting, options, as_json)
        return
    run_once(contract, output_dir, setting, options, process, as_json, progress_json)


@app.command()
def tune(
    contract: Annotated[
        Path | None, typer.Argument(metavar="USER_QUANT.PY", help="The contract module.")
    ] = None,
    output_dir: OutputFolder = Path("outputs"),
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
    policy: Annotated[
        str, typer.Option(help="Who explores once the levers are used up: evidence or optuna.")
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
            help="Run best and its nearest rival on so many draws of the calibration images, too."
        ),
    ] = 0,
    no_final: Annotated[
        bool, typer.Option("--no-final", help="Take no final score at the end.")
    ] = False,
    no_float_score: NoFloatScore = False,
    iteration_limit: IterationLimit = None,
    in_process: InProcess = False,
    engine: EngineName = "fast",
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
    no_reuse: NoReuse = False,
    as_json: AsJson = False,
) -> None:
    """Search by itself to a stop; best/ holds the best model so far at any time.

    Without --iterations and --time it stops at the target, at a plateau, or when nothing is left
    to try. Ctrl-C leaves everything in order, and the same command goes on from there.
    """
    from espdl_quantize.search import RankBy
    from espdl_quantize.tune import Budget, TuneOptions, parse_duration

    budget = Budget(iterations, None if time is None else parse_duration(time))
    options = TuneOptions(
        budget,
        policy=policy,
        seed=seed,
        ignore_plateau=ignore_plateau,
        final=not no_final,
        rank_by=RankBy(search_by),
        confirm_draws=confirm_draws,
    )

    if (contract is None) == (recorded is None):
        raise typer.BadParameter("give one of USER_QUANT.PY and --recorded TABLE.ZIP")
    if pace is not None and recorded is None:
        raise typer.BadParameter("--pace is of --recorded TABLE.ZIP")
    from espdl_quantize.cli._backend import ProcessOptions
    from espdl_quantize.cli._tune import replay, tune_contract

    process = ProcessOptions.of(iteration_limit, in_process)
    if recorded is not None:
        replay(recorded, pace, output_dir, options, as_json, progress_json, dry_run)
        return
    assert contract is not None
    from espdl_quantize.iteration import RunOptions

    run_options = RunOptions(
        use_full_eval,
        seed,
        engine=engine,
        score_float=not no_float_score,
        reuse=not no_reuse,
    )
    tune_contract(
        contract, output_dir, options, run_options, process, as_json, progress_json, dry_run
    )


@app.command()
def engines(
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
    from espdl_quantize.cli._engines import compare_engines

    sys.exit(compare_engines(contract, setting, output_dir, as_json))


@app.command()
def verify(
    contract: ContractPath,
    output_dir: Annotated[
        Path,
        typer.Option(help="The output folder, whose best is verified, or one iteration's folder."),
    ] = Path("outputs"),
    samples: Annotated[
        int, typer.Option(min=1, help="Calibration samples whose integers are computed.")
    ] = 16,
    as_json: AsJson = False,
) -> None:
    """Make an iteration's model again, and hold the file in its folder against it and the chip.

    Exits with 1 where the bytes differ, a rule is broken, or integers come to something else.
    """
    from espdl_quantize.cli._verify import verify as verify_folder

    sys.exit(verify_folder(contract, output_dir, samples, as_json))


add_folder_commands(app)
add_cost(app)
add_board_commands(app)
add_commands(app)


@app.command()
def mcp(
    root: Annotated[
        list[Path] | None,
        typer.Option(
            metavar="DIR",
            help="A folder that clients may name paths in; may be given several times. Without "
            "it, the current folder.",
        ),
    ] = None,
    state_dir: Annotated[
        Path | None,
        typer.Option(help="Where jobs are recorded; else .espdl-quantize in the first root."),
    ] = None,
) -> None:
    """Serve the Model Context Protocol on stdin and stdout, for an agent.

    It executes the contracts that the agent names. Jobs go on when the server ends.
    """
    from espdl_quantize.mcp import serve

    if sys.stdin.isatty():
        print("this speaks MCP on stdin: register it with a client", file=sys.stderr)
    serve(root or [Path()], state_dir)
