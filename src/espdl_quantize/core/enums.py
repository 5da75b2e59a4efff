"""The words that packages exchange, each set once.

They are strings, so that they stand in JSON as they are and folders of earlier versions compare
equal to them.
"""

from __future__ import annotations

from enum import Enum


class Word(str, Enum):
    """A string out of a fixed set, which is written as its value."""

    def __str__(self) -> str:
        return str(self.value)

    def __format__(self, spec: str) -> str:
        return format(str(self.value), spec)


class Engine(Word):
    """What quantizes: the fast engine, or plain esp-ppq."""

    FAST = "fast"
    REFERENCE = "reference"


class Direction(Word):
    """Whether a larger or a smaller metric is better."""

    MAX = "max"
    MIN = "min"


class MetricUnit(Word):
    """Of a metric that is the share of samples that came out right."""

    PERCENT = "percent"
    FRACTION = "fraction"


class Priority(Word):
    """The contract's deploy_runtime_priority, which orders the levers."""

    BALANCED = "balanced"
    SPEED = "speed"
    PC_TIME = "pc_time"


class Strategy(Word):
    """Which decision procedure proposes the next step of a search."""

    SEED = "seed"
    SWIFT = "swift"


class Verdict(Word):
    """What a comparison of two scores says."""

    BETTER = "better"
    WORSE = "worse"
    WITHIN_NOISE = "within noise"


class Phase(Word):
    """Where a search stands."""

    BASELINE = "phase-1-baseline"
    SWEEP = "phase-2-calib-tqt-sweep"
    RESIDUAL = "phase-3-residual"
    PIVOT = "phase-3-pivot"
    FINAL_REPORT = "phase-4-final-report"
    OPEN = "phase-5-agent-driven"


class Stage(Word):
    """A part of an iteration that is timed and that a failure names."""

    START = "start"
    CHECK_INSTALLATION = "check installation"
    EXAMINE = "examine the contract"
    READ_CALIBRATION = "read calibration data"
    PREPARE_FLOAT_MODEL = "prepare float model"
    SCORE_FLOAT_MODEL = "score float model"
    RUN_ONE_BATCH = "run one batch"
    QUANTIZE = "quantize"
    ANALYSE = "analyse"
    EXPORT = "export"
    CHECK_MODEL = "check model"
    EVALUATE = "evaluate"
