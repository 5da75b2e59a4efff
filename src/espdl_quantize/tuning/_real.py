"""Iterations by esp-ppq."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import Any

from espdl_quantize.contract import Contract
from espdl_quantize.core import Direction, Priority, Progress
from espdl_quantize.gate import examine_first
from espdl_quantize.iteration import Prepared, RunOptions, final_evaluator, run_iteration
from espdl_quantize.record import IterationRecord, budgets_of
from espdl_quantize.setting import Setting
from espdl_quantize.tuning._backend import BackendFacts


class RealBackend:
    """Quantizes, analyses and scores; reads the data and exports the model once.

    Args:
        contract: the user's module.
        options: how every iteration runs.
    """

    def __init__(self, contract: Contract, options: RunOptions | None = None) -> None:
        self._contract = contract
        self._options = options or RunOptions()
        self._prepared = Prepared(contract)

    @property
    def facts(self) -> BackendFacts:
        """What the contract says."""
        config = self._contract.config
        return BackendFacts(
            metric=config.primary_metric,
            direction=Direction(config.metric_direction),
            model_name=self._contract.model_name,
            target_chip=config.target,
            target_given=self._contract.target_given,
            esp_dl_version=config.esp_dl_version,
            contract_path=self._contract.command_path,
            target=config.target_metric,
            priority=Priority(config.deploy_runtime_priority),
            final_by=final_evaluator(self._contract, full=self._options.full_eval),
            contract_key=self._contract.fingerprint,
            num_of_bits=config.num_of_bits,
            budgets=budgets_of(config),
            device=config.device,
        )

    def run(
        self, setting: Setting, folder: Path, progress: Progress, **changed: Any
    ) -> IterationRecord:
        """Run one iteration."""
        return run_iteration(
            self._contract,
            setting,
            folder,
            replace(self._options, **changed),
            progress,
            self._prepared,
            examine=examine_first,
        )

    def run_auxiliary(
        self, setting: Setting, folder: Path, progress: Progress, **changed: Any
    ) -> IterationRecord:
        """Run beside the search."""
        options = replace(self._options, overwrite=True, **changed)
        return run_iteration(self._contract, setting, folder, options, progress, self._prepared)
