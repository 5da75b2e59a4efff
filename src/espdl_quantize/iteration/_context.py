"""The iteration that is running, and what it has found out."""

from __future__ import annotations

import contextlib
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from espdl_quantize.contract import Contract, Origin
from espdl_quantize.core import Engine, Progress, Stage
from espdl_quantize.iteration._options import RunOptions
from espdl_quantize.iteration._per_sample import ScoreFacts
from espdl_quantize.iteration._prepared import Prepared
from espdl_quantize.iteration._score import Score
from espdl_quantize.ppq import QuantizationEngine, ReferenceEngine, ReusedPass
from espdl_quantize.ppq.measure import Measurements
from espdl_quantize.record import OnChip
from espdl_quantize.record.files import REUSE
from espdl_quantize.setting import ResolvedSetting, Setting, fit_to_model
from espdl_quantize.targets import TargetFacts


@dataclass
class Context:
    """The context of one iteration: what it runs, and what it has found out so far.

    A failure reports as much as there is.
    """

    contract: Contract
    prepared: Prepared
    setting: Setting
    options: RunOptions
    progress: Progress
    folder: Path
    staging: Path
    on_stage: Callable[[Context], None] | None = None
    stage: Stage = Stage.START
    seconds: dict[str, float] = field(default_factory=dict)
    warnings: list[str] = field(default_factory=list)
    measured: Measurements | None = None
    hot_ops_count: int = 0
    jumps_count: int = 0
    analysed_samples: int | None = None
    on_chip: OnChip | None = None
    scored: Score | None = None
    float_value: float | None = None
    float_key: str | None = None
    float_mismatch: str | None = None
    examined: Score | None = None
    quantized_by: str | None = None
    graph_sha256: str | None = None
    same_as: int | None = None
    reused: tuple[ReusedPass, ...] = ()
    facts: ScoreFacts = field(default_factory=ScoreFacts)
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
        config = self.contract.config
        return Origin(config.target, self.float_key, config.esp_dl_version)

    @property
    def memory(self) -> Path | None:
        """Where the results of long passes are; of other data there are none."""
        options = self.options
        shared = options.reuse and options.engine == Engine.FAST and options.draw == 0
        return self.outputs / REUSE if shared else None

    def fitted(self, resolved: ResolvedSetting, graph: Any, target: TargetFacts) -> ResolvedSetting:
        """Fit a resolved setting to the float graph, and warn of what that changes."""
        ops = {op.name: op.type for op in graph.operations.values()}
        fitted = fit_to_model(resolved, ops, target, esp_dl=self.contract.config.esp_dl)
        self.warnings += fitted.warnings[len(resolved.warnings) :]
        return fitted

    @contextlib.contextmanager
    def timed(self, stage: Stage) -> Iterator[None]:
        """Name the stage for the failure report and measure it."""
        self.stage = stage
        if self.on_stage is not None:
            self.on_stage(self)
        started = time.perf_counter()
        try:
            with self.progress.stage(str(stage)):
                yield
        finally:
            self.seconds[str(stage)] = round(time.perf_counter() - started, 3)
