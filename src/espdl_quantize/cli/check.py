"""``espdl-quantize check``: all faults of a contract, one batch, and the float model's score."""

from __future__ import annotations

import sys
import tempfile
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer
from rich.console import Console
from rich.table import Table

from espdl_quantize.cli._options import AsJson, ContractPath, ProgressJson
from espdl_quantize.cli._paths import whole, whole_if_given
from espdl_quantize.cli._progress import shown
from espdl_quantize.cli.terminal import escape
from espdl_quantize.core import EXIT_CONTRACT, EspdlQuantizeError, Progress, dumps

if TYPE_CHECKING:
    from espdl_quantize.contract import Contract, Fault
    from espdl_quantize.iteration import Score


def check(
    *,
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
    from espdl_quantize.cli._backend import load
    from espdl_quantize.contract import ContractFaultsError, located

    progress_lines = whole_if_given(progress_json)
    try:
        loaded = load(whole(contract))
    except ContractFaultsError as error:
        if as_json:
            raise
        _print_faults(error.faults)
        sys.exit(EXIT_CONTRACT)
    try:
        with shown(progress_lines, as_json=as_json) as progress:
            facts = _probe(loaded, progress, with_score=not no_score)
    except EspdlQuantizeError as error:
        raise located(error, loaded) from error.__cause__
    if as_json:
        print(dumps({"ok": True, **facts}), end="")
        return
    for key, value in facts.items():
        print(f"{key.replace('_', ' ')}: {value}")
    print("the contract holds" + ("; evaluate() was not called" if no_score else ""))


def _probe(contract: Contract, progress: Progress, *, with_score: bool) -> dict[str, object]:
    """Read one batch, run the model on it and on a batch of one, and score the float graph."""
    from espdl_quantize.contract import count_samples, read_batches, warn_of_few
    from espdl_quantize.iteration import RunOptions, captured, facts_of, score_float
    from espdl_quantize.ppq import (
        batch_digests,
        check_device,
        prepare_float_model,
        probe_float_model,
        probe_target,
        probe_torch_model,
        seed_everything,
    )
    from espdl_quantize.record.files import LOG

    config = contract.config
    scored: Score | None = None
    final: Score | None = None
    with (
        tempfile.TemporaryDirectory() as scratch,
        captured(Path(scratch) / LOG),
    ):
        check_device(config.device)
        target = probe_target(config.target, config.num_of_bits)
        with progress.stage("read one calibration batch"):
            batch = read_batches(contract, limit=1)[0]
        if config.model_type == "torch":
            with progress.stage("run the torch model"):
                probe_torch_model(contract, batch)
        with progress.stage("run the exported graph"):
            model = prepare_float_model(contract, Path(scratch))
            graph = probe_float_model(model, batch)
        if with_score:
            with progress.stage("score the float model"):
                seed_everything(RunOptions().seed)
                scored = score_float(contract, graph, full=False)
            if contract.has_evaluate_final:
                with progress.stage("score the float model by evaluate_final"):
                    seed_everything(RunOptions().seed)
                    final = score_float(contract, graph, full=False, final=True)
    weights = "per channel" if target.per_channel_weights else "per tensor"
    facts: dict[str, object] = {
        "model": contract.model_name,
        "target": f"{config.target}, {config.num_of_bits} bits, weights {weights}, "
        f"rounding {target.rounding}",
        "ops": len(graph.operations),
        "inputs": config.input_shapes,
        "outputs": list(graph.outputs),
        "metric": f"{config.primary_metric} ({config.metric_direction})",
    }
    # Of one batch: a run counts all of them.
    warnings = warn_of_few(count_samples([batch]) * config.calib_steps)
    if scored is not None:
        facts["float_value"] = scored.value
        facts["evaluated_by"] = f"{scored.used}()"
        if final is not None:
            facts["float_value_of_evaluate_final"] = final.value
        # Of one batch alone: a run looks at all of them.
        _, doubts = facts_of(scored, set(batch_digests(batch, list(graph.inputs))), config)
        warnings += [*scored.warnings, *doubts]
    if warnings:
        facts["warnings"] = warnings
    if contract.ignored_keys:
        facts["ignored_keys_of_QUANT_CONFIG"] = list(contract.ignored_keys)
    return facts


def _print_faults(faults: tuple[Fault, ...]) -> None:
    table = Table(title="faults in the contract")
    for column in ("where", "found", "expected", "example"):
        # A name that is cut off cannot be looked up.
        table.add_column(column, overflow="fold")
    for fault in faults:
        table.add_row(*map(escape, (fault.key, fault.found, fault.expected, fault.example)))
    Console().print(table)
