"""``espdl-quantize check``: all faults of a contract, and one batch through the model."""

from __future__ import annotations

import tempfile
from pathlib import Path

from rich.console import Console
from rich.markup import escape
from rich.table import Table

from espdl_quantize.cli._contract import load
from espdl_quantize.cli._progress import TerminalProgress
from espdl_quantize.contract import Contract, ContractFaultsError, Fault, read_batches
from espdl_quantize.errors import EXIT_CONTRACT, EXIT_OK, EspdlQuantizeError
from espdl_quantize.iteration import captured
from espdl_quantize.jsonio import dumps


def check_contract(path: Path, as_json: bool) -> int:
    """Check a contract and print what is wrong or that nothing is.

    Returns:
        The exit code.
    """
    try:
        contract = load(path)
    except ContractFaultsError as found:
        _print_faults(found.faults, as_json)
        return EXIT_CONTRACT
    try:
        facts = _probe(contract)
    except EspdlQuantizeError as error:
        if not as_json:
            raise
        print(dumps({"ok": False, "error": {"cause": error.cause, "mend": error.mend}}), end="")
        return error.exit_code
    if as_json:
        print(dumps({"ok": True, **facts}), end="")
    else:
        for key, value in facts.items():
            print(f"{key.replace('_', ' ')}: {value}")
        print("the contract holds")
    return EXIT_OK


def _probe(contract: Contract) -> dict[str, object]:
    """Read one batch and run the model on it and on a batch of one."""
    from espdl_quantize.quantize import (
        check_device,
        prepare_float_model,
        probe_float_model,
        probe_torch_model,
    )
    from espdl_quantize.targets import probe_target

    config = contract.config
    with (
        tempfile.TemporaryDirectory() as scratch,
        TerminalProgress() as progress,
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
    if contract.ignored_keys:
        facts["ignored_keys_of_QUANT_CONFIG"] = list(contract.ignored_keys)
    return facts


def _print_faults(faults: tuple[Fault, ...], as_json: bool) -> None:
    if as_json:
        print(dumps({"ok": False, "faults": [vars(fault) for fault in faults]}), end="")
        return
    table = Table("where", "found", "expected", "example", title="faults in the contract")
    for fault in faults:
        table.add_row(*map(escape, (fault.key, fault.found, fault.expected, fault.example)))
    Console().print(table)
