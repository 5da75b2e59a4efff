"""Where a contract is loaded and its iterations run: a worker process, or this one."""

from __future__ import annotations

import contextlib
import os
import signal
import threading
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

from espdl_quantize.contract import NO_OVERRIDES, Contract, Overrides, load_contract
from espdl_quantize.core import NoProgress, Progress, UsageError
from espdl_quantize.iteration import RunOptions, captured
from espdl_quantize.tuning import (
    Backend,
    IsolatedBackend,
    RayBackend,
    RealBackend,
    parse_duration,
)


@dataclass(frozen=True)
class ProcessOptions:
    """Where iterations run, and for how long each.

    Attributes:
        limit: seconds that one may take; None for what the measured times suggest.
        in_process: run them in this process, which then shares their fate.
        parallel: run so many at once, on Ray; None for one after another, without it.
        ray: address of the cluster; None starts a Ray on this machine.
    """

    limit: float | None = None
    in_process: bool = False
    parallel: int | None = None
    ray: str | None = None

    @classmethod
    def of(
        cls,
        limit: str | None,
        *,
        in_process: bool,
        parallel: int | None = None,
        ray: str | None = None,
    ) -> ProcessOptions:
        """Read the command's options.

        Raises:
            UsageError: the limit is no duration, or there is no process that it could end; or
                iterations are to run in this process, and at once.
        """
        if in_process and parallel is not None:
            raise UsageError(
                "iterations at once run in processes of their own",
                "leave out --in-process, or --parallel",
            )
        if ray is not None and parallel is None:
            raise UsageError(
                "--ray says where iterations run at once, and not how many", "give --parallel, too"
            )
        if in_process and limit is not None:
            raise UsageError(
                "--iteration-limit cannot end an iteration that runs in this process",
                "leave out --in-process, or the limit",
            )
        seconds = None if limit is None else parse_duration(limit)
        return cls(seconds, in_process, parallel, ray)


def load(path: Path, overrides: Overrides = NO_OVERRIDES) -> Contract:
    """Load a contract against the chips of the installed esp-ppq; what that prints is not seen.

    Args:
        path: of the contract.
        overrides: what holds in place of the contract's own.

    Raises:
        ContractError: it does not load, or breaks the contract.
        InstallationError: esp-ppq is missing or lacks something.
    """
    from espdl_quantize.ppq import check_installation, target_names

    with captured(Path(os.devnull)):
        check_installation()
        return load_contract(path, target_names(), overrides)


def chip_of(outputs: Path) -> Overrides:
    """Return the chip, and the version of ESP-DL on it, that a folder's iterations are for.

    They hold in place of the contract's own.
    """
    from espdl_quantize.record import read_history

    if not outputs.is_dir():
        return NO_OVERRIDES
    history = read_history(outputs)
    records = [*reversed(history.scored), *reversed(history.iterations)]
    first = next((each for each in records if each.target_chip), None)
    if first is None:
        return NO_OVERRIDES
    return Overrides(target=first.target_chip, esp_dl_version=first.esp_dl_version)


@contextlib.contextmanager
def _terminated_as_interrupted() -> Iterator[None]:
    """Take SIGTERM, which service managers and schedulers send, for Ctrl-C within the block."""

    def interrupt(*_: object) -> None:
        raise KeyboardInterrupt

    if threading.current_thread() is not threading.main_thread():
        yield
        return
    before = signal.signal(signal.SIGTERM, interrupt)
    try:
        yield
    finally:
        signal.signal(signal.SIGTERM, before)


@contextlib.contextmanager
def backend_of(
    contract: Path,
    options: RunOptions,
    process: ProcessOptions,
    progress: Progress | None = None,
    *,
    overrides: Overrides = NO_OVERRIDES,
) -> Iterator[Backend]:
    """Load the contract where its iterations will run; the end of the block ends that process.

    Raises:
        ContractError: it does not load, or breaks the contract.
        InstallationError: esp-ppq is missing or lacks something.
    """
    if process.in_process:
        yield RealBackend(load(contract, overrides), options)
        return
    if process.parallel is not None:
        with (
            RayBackend(
                contract,
                options,
                slots=process.parallel,
                address=process.ray,
                limit=process.limit,
                overrides=overrides,
            ) as at_once,
            # Ray has an answer to that signal of its own.
            _terminated_as_interrupted(),
        ):
            with (progress or NoProgress()).stage("load the contract"):
                _ = at_once.facts
            yield at_once
        return
    with (
        _terminated_as_interrupted(),
        IsolatedBackend(contract, options, process.limit, overrides=overrides) as backend,
    ):
        # Before anything is claimed or made for it.
        with (progress or NoProgress()).stage("load the contract"):
            _ = backend.facts
        yield backend
