"""Made-up iterations on a real Ray: everything is as it is, but for what an iteration computes."""

from __future__ import annotations

import contextlib
import json
import os
import time
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from espdl_quantize.core import Json, NoProgress
from espdl_quantize.tuning import BackendFacts, RayBackend
from espdl_quantize.tuning.ray.worker import Files, Handover, RayWorker, write_whole
from tests.worker.fake_job import FakeIsolatedBackend


@contextlib.contextmanager
def on_ray(**resources: int) -> Iterator[None]:
    """Start a Ray, which ends with the block."""
    import ray

    with pytest.MonkeyPatch.context() as patch:
        # Else its workers hardly run on a machine that does other things, too.
        patch.setenv("RAY_worker_niceness", "0")
        ray.init(address="local", include_dashboard=False, log_to_driver=False, **resources)
        try:
            yield
        finally:
            ray.shutdown()


class _Made(FakeIsolatedBackend):
    """As an isolated backend, without a contract."""

    def __init__(self, *, seconds: float = 0.0, device: str = "cpu", peak: Json | None = None):
        super().__init__(seconds=seconds)
        self._device, self.peak = device, peak or {}

    @property
    def facts(self) -> BackendFacts:
        return replace(super().facts, device=self._device)

    def run_auxiliary(self, *arguments: Any, **changed: Any) -> Any:
        return self.run(*arguments, **changed)

    def __exit__(self, *_: object) -> None:
        self.runner.__exit__(KeyboardInterrupt)


class CrewWorker(RayWorker):
    """Runs :class:`_Made` with what the contract says, which is a JSON object.

    Beside the contract, each iteration leaves a file ``pid_iter_N`` of the two processes that it is
    in, and ``gpus_iter_N`` of the GPUs that its worker sees. A file ``lose_N`` there has as many
    letters as workers are lost with iteration N.
    """

    def _ready(self) -> Any:
        if self._backend is None:
            text = Path(self._outfit.contract).read_text(encoding="utf-8")
            made: Any = _Made(**json.loads(text))
            self._backend = made
        return self._backend

    def run(self, outputs: str, place: str, setting: Json, files: Files, changed: Json) -> Handover:
        folder = Path(self._outfit.contract).parent
        assert self._ready().facts
        gpus = os.environ.get("CUDA_VISIBLE_DEVICES", "")
        (folder / f"gpus_{place}").write_text(gpus)
        write_whole(folder, {f"pid_{place}": f"{os.getpid()} {self._ready().runner.pid}".encode()})
        losses = folder / f"lose_{place.removeprefix('iter_')}"
        if losses.exists() and (left := losses.read_text()):
            losses.write_text(left[1:])
            time.sleep(0.3)
            os._exit(1)
        return super().run(outputs, place, setting, files, changed)


class Impatient(NoProgress):
    """Ends a search that waits for what never comes."""

    looks = 0

    def update(self, done: float, total: float | None, detail: str = "") -> None:
        self.looks += 1
        assert self.looks < 60, detail


class CrewBackend(RayBackend):
    worker_type = CrewWorker

    @property
    def facts(self) -> Any:
        facts = super().facts
        return replace(facts, contract_path=None, contract_key=None)
