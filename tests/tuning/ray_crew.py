"""Made-up iterations on a real Ray: everything is as it is, but for what an iteration computes."""

from __future__ import annotations

import os
import time
from dataclasses import replace
from pathlib import Path
from typing import Any

from espdl_quantize.core import Json
from espdl_quantize.tuning import RayBackend
from espdl_quantize.tuning.ray_worker import Files, Handover, RayWorker
from tests.worker.fake_job import FakeIsolatedBackend


class _Made(FakeIsolatedBackend):
    """As an isolated backend, without a contract."""

    peak: Json = {}  # noqa: RUF012

    def run_auxiliary(self, *arguments: Any, **changed: Any) -> Any:
        return self.run(*arguments, **changed)

    def __exit__(self, *_: object) -> None:
        self.runner.__exit__(KeyboardInterrupt)


class CrewWorker(RayWorker):
    """Runs :class:`FakeIsolatedBackend`, as the contract says, which is a line of JSON.

    A file ``lose_N`` beside the contract has as many letters as workers are lost with iteration N.
    """

    def _ready(self) -> Any:
        if self._backend is None:
            text = Path(self._outfit.contract).read_text(encoding="utf-8")
            made: Any = _Made(seconds=float(text or 0))
            self._backend = made
        return self._backend

    def run(self, outputs: str, place: str, setting: Json, files: Files, changed: Json) -> Handover:
        folder = Path(self._outfit.contract).parent
        assert self._ready().facts
        (folder / f"pid_{place}").write_text(f"{os.getpid()} {self._ready().runner.pid}")
        losses = folder / f"lose_{place.removeprefix('iter_')}"
        if losses.exists() and (left := losses.read_text()):
            losses.write_text(left[1:])
            time.sleep(0.3)
            os._exit(1)
        return super().run(outputs, place, setting, files, changed)


class CrewBackend(RayBackend):
    worker_type = CrewWorker

    @property
    def facts(self) -> Any:
        facts = super().facts
        return replace(facts, contract_path=None, contract_key=None)
