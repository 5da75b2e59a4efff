"""Iterations of a contract by esp-ppq, in the worker process."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import asdict
from pathlib import Path

from espdl_quantize.contract import Contract, Overrides, load_contract
from espdl_quantize.core import EspdlQuantizeError, Json, Progress
from espdl_quantize.gate import examine_first
from espdl_quantize.iteration import Prepared, RunOptions, captured, final_evaluator, run_staged
from espdl_quantize.ppq import check_installation, target_names
from espdl_quantize.record import IterationRecord, budgets_of
from espdl_quantize.worker._job import Order


class ContractJob:
    """Holds a loaded contract."""

    def __init__(self, contract: Contract, scratch: Path) -> None:
        self._contract = contract
        self._prepared = Prepared(contract, scratch)

    @property
    def facts(self) -> Json:
        """What the contract says."""
        config = self._contract.config
        return {
            "metric": config.primary_metric,
            "direction": config.metric_direction,
            "model_name": self._contract.model_name,
            "target_chip": config.target,
            "target_given": self._contract.target_given,
            "esp_dl_version": config.esp_dl_version,
            "contract_path": self._contract.command_path,
            "target": config.target_metric,
            "priority": config.deploy_runtime_priority,
            "final_by": final_evaluator(self._contract, full=False),
            "contract_key": self._contract.fingerprint,
            "num_of_bits": config.num_of_bits,
            "budgets": asdict(budgets_of(config)),
            "device": config.device,
        }

    def run(
        self, order: Order, progress: Progress, on_draft: Callable[[IterationRecord], None]
    ) -> tuple[IterationRecord, EspdlQuantizeError | None]:
        """Run one iteration."""
        return run_staged(
            self._prepared,
            order.setting,
            order.folder,
            order.staging,
            RunOptions(**order.options),
            progress,
            on_draft=on_draft,
            notes=order.notes,
            examine=examine_first,
        )


def open_contract(
    path: str, scratch: str, overrides: Mapping[str, str | None] | None = None
) -> ContractJob:
    """Load a contract against the chips of the installed esp-ppq.

    Args:
        path: of the contract.
        scratch: a folder for what is needed only while the process lives; its parent removes it.
        overrides: the fields of :class:`~espdl_quantize.contract.Overrides`.

    Raises:
        ContractError: it does not load, or breaks the contract.
        InstallationError: esp-ppq is missing or lacks something.
    """
    with captured(None):
        check_installation()
        contract = load_contract(Path(path), target_names(), Overrides(**overrides or {}))
        return ContractJob(contract, Path(scratch))
