"""The nodes that Ray has, how they are joined, and which share of them one iteration takes."""

from __future__ import annotations

import contextlib
import importlib
import logging
import math
import os
import socket
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from espdl_quantize.core import ContractError, EspdlQuantizeError, InstallationError
from espdl_quantize.core.digests import sha256_of
from espdl_quantize.tuning.ray.worker import find_contract

LARGEST_PACKED = 100 << 20
"""Bytes of a contract's folder that Ray carries to the nodes, at most."""

_NOT_PACKED = (".git", ".venv", "__pycache__", "outputs", "outputs-*", ".mypy_cache")
"""Names in a contract's folder that are no part of it."""

_MARGIN = 1.25
"""What an iteration is given of memory, times what the first one took."""

_MIB = 1 << 20

_LONGEST_KNOCK = 10.0
"""Seconds in which a cluster has to answer."""


@dataclass(frozen=True)
class Share:
    """What one iteration is given of a node.

    Attributes:
        cpus: cores, and so the threads that it computes on.
        gpus: one, or a fraction of one.
        memory: bytes.
    """

    cpus: int
    gpus: float
    memory: int

    def covers(self, other: Share) -> bool:
        """Tell whether an iteration of the other share may run on this one."""
        as_much = self.cpus >= other.cpus and self.memory >= other.memory
        return as_much and self.gpus == other.gpus

    def count_in(self, resources: Mapping[str, float]) -> int:
        """Return how many fit onto a node with these resources of Ray."""
        counts = [int(resources.get("CPU", 0) // self.cpus)]
        if self.memory:
            counts.append(int(resources.get("memory", 0) // self.memory))
        if self.gpus:
            each = 1 if self.gpus >= 1 else round(1 / self.gpus)
            counts.append(int(resources.get("GPU", 0)) * each)
        return min(counts)

    def __str__(self) -> str:
        parts = [f"{self.cpus} core{'s' if self.cpus > 1 else ''}"]
        parts += [f"{self.memory // _MIB} MiB"] if self.memory else []
        parts += [f"{self.gpus:.3g} GPU"] if self.gpus else []
        return ", ".join(parts)


class Cluster:
    """A Ray that was joined, or started for the purpose.

    Args:
        contract: has to be on every node: at its path, or packed by Ray.
        address: of a cluster; None starts one on this machine, which ends with :meth:`close`.

    Attributes:
        ray: the module.
        notices: what the user should know.

    Raises:
        InstallationError: Ray is not installed, or there is nothing at the address.
        ContractError: the contract is not on all nodes, and its folder is too large to be packed.
    """

    def __init__(self, contract: Path, address: str | None) -> None:
        # Nothing of what runs here is told to anybody.
        os.environ.setdefault("RAY_USAGE_STATS_ENABLED", "0")
        os.environ.setdefault("RAY_ACCEL_ENV_VAR_OVERRIDE_ON_ZERO", "0")
        try:
            self.ray: Any = importlib.import_module("ray")
        except ImportError as error:
            raise InstallationError(
                f"iterations at once need Ray: {error}", "pip install 'espdl-quantize[ray]'"
            ) from error
        self.notices: list[str] = []
        # Of a notebook, for one; whoever has started it ends it.
        self._is_ours = not self.ray.is_initialized()
        if self._is_ours:
            self._join(address)
        try:
            if address is not None:
                self._bring(contract, address)
        except BaseException:
            self.close()
            raise

    @property
    def lost(self) -> tuple[type[Exception], ...]:
        """The errors that say that a worker or its node is no more."""
        errors = self.ray.exceptions
        return (
            errors.RayActorError,
            errors.WorkerCrashedError,
            errors.NodeDiedError,
            errors.OutOfMemoryError,
            errors.ObjectLostError,
        )

    @property
    def broken(self) -> tuple[type[Exception], ...]:
        """The errors that say that Ray itself cannot go on, whatever the worker."""
        errors = self.ray.exceptions
        return (
            errors.LocalRayletDiedError,
            errors.ObjectStoreFullError,
            errors.OutOfDiskError,
            errors.RaySystemError,
            errors.RuntimeEnvSetupError,
        )

    @property
    def nodes(self) -> list[dict[str, Any]]:
        """The nodes that are there."""
        return [node for node in self.ray.nodes() if node.get("Alive")]

    @property
    def gpus(self) -> int:
        """How many there are."""
        return int(self._sum("GPU"))

    @property
    def cpus(self) -> int:
        """How many cores there are."""
        return int(self._sum("CPU"))

    def _sum(self, name: str) -> float:
        return float(sum(node["Resources"].get(name, 0) for node in self.nodes))

    def room(self, share: Share) -> int:
        """Return how many iterations of a share have room on all nodes together."""
        return sum(share.count_in(node["Resources"]) for node in self.nodes)

    def __str__(self) -> str:
        memory = int(self._sum("memory")) // _MIB
        text = f"{self.cpus} cores and {memory} MiB"
        return text + (f" and {self.gpus} GPUs" if self.gpus else "")

    def actor(self, kind: type, share: Share, *arguments: object) -> Any:
        """Make an actor of a class, wherever there is room for it."""
        options = {
            "num_cpus": share.cpus,
            "num_gpus": share.gpus,
            "memory": share.memory,
            # One call beside the one that computes.
            "max_concurrency": 2,
            "max_restarts": 0,
            "scheduling_strategy": "SPREAD",
        }
        return self.ray.remote(**options)(kind).remote(*arguments)

    def close(self) -> None:
        """Leave the cluster; what was started for it ends."""
        if self._is_ours:
            with contextlib.suppress(Exception):
                self.ray.shutdown()

    def _join(self, address: str | None, **runtime: object) -> None:
        arguments: dict[str, Any] = {
            "log_to_driver": False,
            "logging_level": logging.ERROR,
            "runtime_env": runtime or None,
        }
        if address is None:
            # Ray gives its workers a low priority, so that on a busy machine they may not start
            # for minutes; without Ray, iterations have the usual one.
            os.environ.setdefault("RAY_worker_niceness", "0")
            # Not the one that RAY_ADDRESS names.
            arguments |= {"address": "local", "include_dashboard": False}
        else:
            arguments["address"] = address
        try:
            if address is not None:
                knock(address)
            self.ray.init(**arguments)
        except (
            ConnectionError,
            RuntimeError,
            ValueError,
            OSError,
            OverflowError,
            self.ray.exceptions.RayError,
        ) as error:
            where = "on this machine" if address is None else f"at {address!r}"
            raise InstallationError(
                f"no Ray could be reached {where}: {' '.join(str(error).split())[:300]}",
                "see that the address is that of a running cluster (`ray status` there), that Ray "
                "and Python have the same versions here and there, and that RAY_AUTH_MODE=token is "
                "set here where the cluster asks for a token",
            ) from error

    def _bring(self, contract: Path, address: str) -> None:
        """See that the contract is on every node; pack it where it is not."""
        missing = list(self._without(contract))
        if not missing:
            return
        folder, size = contract.parent, _size(contract.parent)
        where = f"{len(missing)} of {len(self.nodes)} nodes have no {contract} ({missing[0]})"
        if size > LARGEST_PACKED:
            raise ContractError(
                f"{where}, and its folder takes {size / _MIB:.0f} MiB, more than the "
                f"{LARGEST_PACKED // _MIB} MiB that are sent to them",
                "put the folder at the same path on every node, or the data and models elsewhere, "
                "where every node sees them",
            )
        if not self._is_ours:
            raise ContractError(where, "put the folder at the same path on every node")
        self.ray.shutdown()
        self._join(address, working_dir=str(folder), excludes=list(_NOT_PACKED))
        self.notices.append(f"{where}; its folder is sent to them ({size / _MIB:.1f} MiB)")

    def _without(self, contract: Path) -> Iterator[str]:
        """Yield the nodes that do not have the contract, with what they say."""
        digest = sha256_of(contract)
        strategies = importlib.import_module("ray.util.scheduling_strategies")
        asked = []
        for node in self.nodes:
            pinned = strategies.NodeAffinitySchedulingStrategy(node["NodeID"], soft=False)
            task = self.ray.remote(num_cpus=0, scheduling_strategy=pinned)(_has)
            asked.append((node["NodeManagerHostname"], task.remote(str(contract), digest)))
        for name, answer in asked:
            try:
                has_it = self.ray.get(answer)
            except self.ray.exceptions.RayTaskError as error:
                if not isinstance(error.cause, ImportError):
                    raise
                raise InstallationError(
                    f"the node {name} has no espdl-quantize: {error.cause}",
                    "install it there as it is here, with esp-ppq and torch",
                ) from error
            if not has_it:
                yield name


def knock(address: str) -> None:
    """See that somebody answers at HOST:PORT or ray://HOST:PORT; Ray itself waits for long.

    Raises:
        OSError: nobody does.
        OverflowError: the port is none.
        ValueError: the host is none.
    """
    host, _, port = address.removeprefix("ray://").rpartition(":")
    if host and port.isdigit():
        socket.create_connection((host.strip("[]"), int(port)), _LONGEST_KNOCK).close()


def share_of(
    cluster: Cluster,
    slots: int,
    *,
    gpus: float = 0.0,
    memory: int = 0,
    device_share: float = 0.0,
) -> Share:
    """Return what each of so many iterations is given.

    Args:
        cluster: has the nodes.
        slots: iterations at once that are wanted.
        gpus: 1 where they compute on one; 0 where they do not.
        memory: bytes that an iteration took; 0 where that was not measured yet.
        device_share: of a GPU's memory that it took.
    """
    each = [node["Resources"] for node in cluster.nodes]
    cores = max((int(node.get("CPU", 1)) for node in each), default=1)
    memories = [int(node.get("memory", 0)) for node in each] or [0]
    # Before anything is measured, as much as there is for each if all came onto one node.
    wanted = int(memory * _MARGIN) if memory else min(memories) // slots
    if gpus and device_share and 0 < cluster.gpus < slots:
        fit = max(int(1 / min(device_share * _MARGIN, 1.0)), 1)
        gpus = 1 / min(fit, math.ceil(slots / cluster.gpus))
    return Share(
        cpus=max(min(cluster.cpus // slots, cores), 1),
        gpus=gpus,
        memory=min(wanted, max(memories)),
    )


def _has(contract: str, digest: str) -> bool:
    """Tell whether this node has a contract at its path."""
    try:
        return find_contract(contract, digest) == Path(contract)
    except EspdlQuantizeError:
        return False


def _size(folder: Path) -> int:
    """Return the bytes of a folder, less what is not packed."""
    total = 0
    for root, folders, files in os.walk(folder):
        folders[:] = [
            name for name in folders if not any(Path(name).match(each) for each in _NOT_PACKED)
        ]
        for name in files:
            with contextlib.suppress(OSError):
                total += (Path(root) / name).stat().st_size
        if total > 100 * LARGEST_PACKED:
            break
    return total
