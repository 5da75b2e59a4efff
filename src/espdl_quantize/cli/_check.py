"""``espdl-quantize check``: all faults of a contract, one batch, and the float model's score."""

from __future__ import annotations

import tempfile
from pathlib import Path

from rich.console import Console
from rich.table import Table

from espdl_quantize.cli._contract import load
from espdl_quantize.cli._paths import whole, whole_if_given
from espdl_quantize.cli._progress import shown
from espdl_quantize.cli._terminal import escape
from espdl_quantize.contract import (
    Contract,
    ContractFaultsError,
    Fault,
    count_samples,
    located,
    read_batches,
    warn_of_few,
)
from espdl_quantize.core import EXIT_CONTRACT, EXIT_OK, EspdlQuantizeError, dumps
from espdl_quantize.iteration import RunOptions, Score, captured, facts_of, score_float


def check_contract(
    path: Path, with_score: bool, as_json: bool, progress_lines: Path | None = None
) -> int:
    """Check a contract and print what is wrong or that nothing is.

    Args:
        path: the contract module.
        with_score: score the float model, too, which may take long.
        as_json: print one JSON object.
        progress_lines: write progress there instead of onto the terminal.

    Returns:
        The exit code.

    Raises:
        EspdlQuantizeError: what is wrong, where it is not a table of faults.
    """
    progress_lines = whole_if_given(progress_lines)
    try:
        contract = load(whole(path))
    except ContractFaultsError as found:
        if as_json:
            raise
        _print_faults(found.faults)
        return EXIT_CONTRACT
    try:
        facts = _probe(contract, with_score, as_json, progress_lines)
    except EspdlQuantizeError as error:
        raise located(error, contract) from error.__cause__
    if as_json:
        print(dumps({"ok": True, **facts}), end="")
    else:
        for key, value in facts.items():
            print(f"{key.replace('_', ' ')}: {value}")
        print("the contract holds" + ("" if with_score else "; evaluate() was not called"))
    return EXIT_OK


def _probe(
    contract: Contract, with_score: bool, as_json: bool, progress_lines: Path | None
) -> dict[str, object]:
    """Read one batch, run the model on it and on a batch of one, and score the float graph."""
    from espdl_quantize.ppq import (
        batch_digests,
        check_device,
        prepare_float_model,
        probe_float_model,
        probe_target,
        probe_torch_model,
        seed_everything,
    )

    config = contract.config
    scored: Score | None = None
    final: Score | None = None
    with (
        tempfile.TemporaryDirectory() as scratch,
        shown(as_json, progress_lines) as progress,
        captured(Path(scratch) / "console.log"),
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
        _, told = facts_of(scored, set(batch_digests(batch, list(graph.inputs))), config)
        warnings += [*scored.warnings, *told]
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
