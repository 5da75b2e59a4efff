"""Iterations by esp-ppq in a process of their own."""

from __future__ import annotations

import tempfile
from dataclasses import asdict, replace
from pathlib import Path
from typing import Any

from espdl_quantize.contract import NO_OVERRIDES, Overrides, require_file
from espdl_quantize.core import Json, Progress
from espdl_quantize.iteration import RunOptions
from espdl_quantize.record import Budgets, History, IterationRecord, read_history
from espdl_quantize.search import TimeModel, describe_seconds
from espdl_quantize.setting import Setting
from espdl_quantize.tuning._backend import BackendFacts
from espdl_quantize.worker import CONTRACT_JOB, Runner

_TIMES = 10.0
_AT_LEAST = 600.0
"""Seconds: what is foreseen is a median of few runs, on a machine that may do other things, too."""


class IsolatedBackend:
    """Quantizes, analyses and scores in a worker process; this one imports no torch.

    Use it as a context manager: its end is the worker's.

    Args:
        contract: the user's module, which the worker loads.
        options: how every iteration runs.
        limit: seconds that one iteration may take; None for ten times what was measured before,
            and ten minutes at least, as soon as anything was. The contract may take as long to
            load, where it is given.
        overrides: what holds in place of the contract's own.

    Raises:
        ContractError: there is no such file.
    """

    def __init__(
        self,
        contract: Path,
        options: RunOptions | None = None,
        limit: float | None = None,
        *,
        overrides: Overrides = NO_OVERRIDES,
    ) -> None:
        path = require_file(contract)
        # Of this process, so that nothing is left of a worker that is killed.
        self._scratch = tempfile.TemporaryDirectory(prefix="espdl-quantize-")
        self._runner = Runner(
            CONTRACT_JOB,
            {"path": str(path), "scratch": self._scratch.name, "overrides": asdict(overrides)},
            asdict(options or RunOptions()),
            describe_seconds,
            limit,
        )
        self._overwrite = options is not None and options.overwrite
        self._full_eval = options is not None and options.full_eval
        self._limit = limit

    def __enter__(self) -> IsolatedBackend:
        return self

    def __exit__(self, kind: type[BaseException] | None, *rest: object) -> None:
        self._runner.__exit__(kind, *rest)
        self._scratch.cleanup()

    @property
    def facts(self) -> BackendFacts:
        """What the contract says; starts the worker.

        Raises:
            ContractError: it does not load, or breaks the contract.
            InstallationError: esp-ppq is missing or lacks something.
        """
        stated = self._runner.facts
        facts = BackendFacts(**{**stated, "budgets": Budgets(**stated["budgets"])})
        # Its worker does not know the options.
        same = facts.final_by == "evaluate" and self._full_eval
        return replace(facts, final_by=None) if same else facts

    @property
    def pid(self) -> int | None:
        """The worker's number, where there is one."""
        return self._runner.pid

    @property
    def peak(self) -> Json:
        """Return what :attr:`espdl_quantize.worker.Runner.peak` says."""
        return self._runner.peak

    def run(
        self, setting: Setting, folder: Path, progress: Progress, **changed: Any
    ) -> IterationRecord:
        """Run one iteration."""
        limit = self._limit
        if limit is None and folder.parent.is_dir():
            limit = derived_limit(read_history(folder.parent), setting)
        return self._runner.run(
            setting, folder, progress, overwrite=self._overwrite, limit=limit, changed=changed
        )

    def run_auxiliary(
        self, setting: Setting, folder: Path, progress: Progress, **changed: Any
    ) -> IterationRecord:
        """Run beside the search."""
        return self._runner.run(
            setting, folder, progress, overwrite=True, limit=self._limit, changed=changed
        )


def derived_limit(history: History, setting: Setting) -> float | None:
    """Return the seconds after which an iteration is taken to hang; None where nobody can tell."""
    estimate = TimeModel(history).estimate(setting)
    if estimate is None or not estimate.complete:
        return None
    return max(_TIMES * estimate.seconds, _AT_LEAST)
