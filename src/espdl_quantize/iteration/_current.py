"""The iteration that is running, and what it has found out."""

from __future__ import annotations

import contextlib
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from pathlib import Path

from espdl_quantize.contract import Contract, Origin
from espdl_quantize.core import Json, Progress
from espdl_quantize.iteration._options import RunOptions
from espdl_quantize.iteration._prepared import Prepared
from espdl_quantize.iteration._score import Score
from espdl_quantize.ppq import QuantizationEngine, ReferenceEngine, ReusedPass
from espdl_quantize.ppq.measure import Measurements
from espdl_quantize.record._staging import MEMORY
from espdl_quantize.setting import Setting


@dataclass
class Run:
    """What one iteration has found out so far; a failure reports as much as there is."""

    contract: Contract
    prepared: Prepared
    setting: Setting
    options: RunOptions
    progress: Progress
    folder: Path
    staging: Path
    tell: Callable[[Run], None] | None = None
    stage: str = "start"
    seconds: dict[str, float] = field(default_factory=dict)
    warnings: list[str] = field(default_factory=list)
    measured: Measurements | None = None
    counts: dict[str, int] = field(default_factory=dict)
    chip_check: Json | None = None
    scored: Score | None = None
    float_value: float | None = None
    float_key: str | None = None
    reused: tuple[ReusedPass, ...] = ()
    facts: Json = field(default_factory=dict)
    engine: QuantizationEngine = field(default_factory=ReferenceEngine)

    @property
    def all_warnings(self) -> list[str]:
        """What the user should know, what plain esp-ppq had to do for the fast engine included."""
        return [*self.warnings, *self.engine.warnings]

    @property
    def outputs(self) -> Path:
        """The output folder."""
        return Path(self.options.home) if self.options.home else self.folder.parent

    @property
    def origin(self) -> Origin:
        """What the score is measured with, as far as it is known yet."""
        return Origin(self.contract.config.target, self.float_key)

    @property
    def memory(self) -> Path | None:
        """Where the results of long passes are; of other data there are none."""
        options = self.options
        shared = options.reuse and options.engine == "fast" and options.draw == 0
        return self.outputs / MEMORY if shared else None

    @contextlib.contextmanager
    def timed(self, stage: str) -> Iterator[None]:
        """Name the stage for the failure report and measure it."""
        self.stage = stage
        if self.tell is not None:
            self.tell(self)
        started = time.perf_counter()
        try:
            with self.progress.stage(stage):
                yield
        finally:
            self.seconds[stage] = round(time.perf_counter() - started, 3)
