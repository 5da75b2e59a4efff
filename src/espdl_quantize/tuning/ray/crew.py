"""The workers of a search: hired where there is room, given what is new, and dismissed."""

from __future__ import annotations

import contextlib
from dataclasses import replace
from pathlib import Path

from espdl_quantize.contract import require_file
from espdl_quantize.core import Json
from espdl_quantize.core.digests import sha256_of
from espdl_quantize.tuning.ray.cluster import Cluster, share_of
from espdl_quantize.tuning.ray.tasks import Worker
from espdl_quantize.tuning.ray.worker import Files, Outfit, RayWorker, stamps_of

_FAREWELL = 5.0
"""Seconds that a worker has to end what it runs."""


class Crew:
    """Workers that are alike, but for the share of a node that they hold.

    Args:
        cluster: where they live.
        wanted: how many, at most.
        kind: of a worker.
        outfit: of each, less its threads and the digest of the contract.

    Attributes:
        share: of a node that the next one gets.
    """

    def __init__(
        self, cluster: Cluster, wanted: int, kind: type[RayWorker], outfit: Outfit
    ) -> None:
        self._cluster, self._wanted, self._kind, self._outfit = cluster, wanted, kind, outfit
        self._workers: list[Worker] = []
        self._is_measured = False
        self.share = share_of(cluster, wanted)

    @property
    def slots(self) -> int:
        """How many may work at once: as many as wanted, and as have room."""
        return min(self._wanted, self._cluster.room(self.share)) or 1

    def idle(self) -> Worker | None:
        """Return a worker that runs nothing; None where all do."""
        return next((worker for worker in self._workers if worker.task is None), None)

    def hire(self) -> Worker:
        """Make a worker; it comes to life where and when there is room for it.

        Raises:
            ContractError: there is no contract any more.
        """
        outfit = replace(
            self._outfit,
            digest=sha256_of(require_file(Path(self._outfit.contract))),
            threads=None if self._wanted == 1 else self.share.cpus,
        )
        worker = Worker(self._cluster.actor(self._kind, self.share, outfit), self.share)
        self._workers.append(worker)
        return worker

    def dismiss(self, worker: Worker) -> None:
        """End a worker, gently at first: its process and its scratch folder go before it."""
        if worker in self._workers:
            self._workers.remove(worker)
        ray = self._cluster.ray
        with contextlib.suppress(Exception):
            ray.wait([worker.actor.close.remote()], timeout=_FAREWELL)
        with contextlib.suppress(Exception):
            ray.kill(worker.actor)

    def dismiss_all(self) -> None:
        """End all workers."""
        for worker in list(self._workers):
            self.dismiss(worker)

    def compute_on_gpus(self) -> None:
        """Give each a GPU, where the nodes have any."""
        if self._cluster.gpus and not self.share.gpus:
            self.share = share_of(self._cluster, self._wanted, gpus=1.0)
            self.dismiss_idle()

    def measure(self, peak: Json) -> str | None:
        """Size the shares by what the first iteration took; say what that means for the search."""
        if self._is_measured or not peak:
            return None
        self._is_measured = True
        share = share_of(
            self._cluster,
            self._wanted,
            gpus=self.share.gpus,
            memory=int(peak.get("bytes") or 0),
            device_share=float(peak.get("device_share") or 0.0),
        )
        if share == self.share:
            return None
        self.share = share
        room = self._cluster.room(share)
        if room >= self._wanted:
            return None
        return (
            f"{max(room, 1)} of {self._wanted} iterations run at once: each takes {share}, and "
            f"the nodes have {self._cluster}"
        )

    def dismiss_idle(self) -> None:
        """Dismiss idle workers that hold another share than an iteration is known to take."""
        for worker in list(self._workers):
            if worker.task is None and not worker.share.covers(self.share):
                self.dismiss(worker)

    def news(self, worker: Worker, outputs: Path, *, reuse: bool) -> Files:
        """Return what an output folder has that a worker has not been given."""
        stamps = stamps_of(outputs, reuse=reuse)
        fresh = {name: stamp for name, stamp in stamps.items() if worker.has.get(name) != stamp}
        worker.has |= fresh
        return {name: (outputs / name).read_bytes() for name in fresh}
