"""What one strategy found on one network, as a line of JSON in a file that only grows."""

from __future__ import annotations

import base64
import json
import math
import os
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np

from benchmarks.zoo.networks import Job
from espdl_quantize.core import Verdict
from espdl_quantize.stats import (
    Comparison,
    Interval,
    compare_replicates,
    replicate,
    replicate_means,
    replicated_interval,
)

DRAWS = 1000
"""Resamples of a score that are kept: the ends of a 95 % interval rest on 25 on either side."""

NOTHING = "no model was scored within"
"""How the error begins of a strategy that had too little time."""


@dataclass(frozen=True)
class Score:
    """A value of the metric, and what it comes to on resampled samples.

    Attributes:
        value: in the metric's units.
        samples: how many were scored.
        draws: the metric on the same resamples for every score of as many samples: float32
            [draws]; empty where the evaluation says nothing of each sample.
    """

    value: float
    samples: int = 0
    draws: Any = field(default=(), compare=False)

    @classmethod
    def of(cls, returned: Mapping[str, Any], metric: str, aggregate: Any = None) -> Score:
        """Make it of what an evaluation returned.

        Args:
            returned: the metric, and ``per_sample``, if there is one.
            metric: its name.
            aggregate: the contract's, if it has one.
        """
        value, rows = float(returned[metric]), returned.get("per_sample")
        if rows is None or len(rows) < 2:
            return cls(value)
        if aggregate is not None:
            draws = replicate(aggregate, rows, draws=DRAWS)
        else:
            vector = np.asarray(rows, np.float64)
            mean = float(vector.mean())
            # Rights and wrongs of a percentage.
            scale = 100.0 if abs(100 * mean - value) < abs(mean - value) else 1.0
            draws = replicate_means(vector, DRAWS) * scale
        return cls(value, len(rows), np.asarray(draws, np.float32))

    def interval(self) -> Interval | None:
        """Return the 95 % interval; None where nothing is known of each sample."""
        if not len(self.draws):
            return None
        return replicated_interval(np.asarray(self.draws, np.float64))

    def versus(self, other: Score, *, higher: bool) -> Comparison | None:
        """Hold it against another score of the same samples, resample by resample."""
        if self.samples != other.samples or not len(self.draws) or not len(other.draws):
            return None
        return compare_replicates(
            np.asarray(self.draws, np.float64),
            np.asarray(other.draws, np.float64),
            self.value - other.value,
            self.samples,
            higher=higher,
        )

    def is_worse(self, other: Score, *, higher: bool) -> bool:
        """Tell whether it is worse than another beyond noise; where none is known, at all."""
        comparison = self.versus(other, higher=higher)
        if comparison is None:
            return self.value < other.value if higher else self.value > other.value
        return comparison.verdict == Verdict.WORSE

    def to_json(self) -> dict[str, Any]:
        """Return plain data."""
        packed = np.asarray(self.draws, np.float32).tobytes()
        return {
            "value": self.value,
            "samples": self.samples,
            "draws": base64.b64encode(packed).decode("ascii"),
        }

    @classmethod
    def from_json(cls, form: Mapping[str, Any]) -> Score:
        """Read what :meth:`to_json` wrote."""
        draws = np.frombuffer(base64.b64decode(form["draws"]), np.float32)
        return cls(float(form["value"]), int(form["samples"]), draws)


@dataclass(frozen=True)
class Incumbent:
    """A model that was the best so far, from some second of a search on.

    Attributes:
        seconds: of the search when it was scored.
        setting: what made it, in a few words.
        search: the score that the search saw.
        final: the score on samples that took no part; None where there are none.
        ms: predicted milliseconds on the chip; None where that is not known.
    """

    seconds: float
    setting: str
    search: Score
    final: Score | None = None
    ms: float | None = None

    @property
    def score(self) -> Score:
        """Return the score to judge by: the final one, where there is one."""
        return self.final or self.search

    def to_json(self) -> dict[str, Any]:
        """Return plain data."""
        return {
            "seconds": round(self.seconds, 2),
            "setting": self.setting,
            "search": self.search.to_json(),
            "final": None if self.final is None else self.final.to_json(),
            "ms": self.ms,
        }

    @classmethod
    def from_json(cls, form: Mapping[str, Any]) -> Incumbent:
        """Read what :meth:`to_json` wrote."""
        return cls(
            float(form["seconds"]),
            str(form["setting"]),
            Score.from_json(form["search"]),
            None if form["final"] is None else Score.from_json(form["final"]),
            None if form["ms"] is None else float(form["ms"]),
        )


@dataclass(frozen=True)
class Result:
    """One strategy on one network.

    Attributes:
        network: its name.
        strategy: "seed", "swift" or "autoquant".
        budget: the time that it had, in seconds.
        clock: "wall", or "cpu" for seconds of the processor; all times are by it.
        chip: the target.
        metric: its name.
        higher: whether more is better.
        float_search: the float model's score by the search's function.
        float_final: by that of the final score.
        baseline: the first model of the search, esp-ppq's default setting; AutoQuant scores none.
        incumbents: in the order of time; the last one is what the strategy found.
        iterations: models that were scored within the time.
        took: seconds to the end of the last of them.
        ended: why it ended.
        error: why nothing was found; empty where something was.
        machine: what it ran on, and how loaded that was.
    """

    network: str
    strategy: str
    budget: float
    clock: str = "wall"
    chip: str = ""
    metric: str = ""
    higher: bool = True
    float_search: float | None = None
    float_final: float | None = None
    baseline: Incumbent | None = None
    incumbents: tuple[Incumbent, ...] = ()
    iterations: int = 0
    took: float = 0.0
    ended: str = ""
    error: str = ""
    machine: Mapping[str, Any] = field(default_factory=dict)

    @classmethod
    def of(cls, job: Job, **more: Any) -> Result:
        """Return the result of a job; ``more`` has the other fields."""
        return cls(job.network, job.strategy, job.seconds, job.clock, **more)

    @property
    def best(self) -> Incumbent | None:
        """Return what the strategy found."""
        return self.incumbents[-1] if self.incumbents else None

    def seconds_to(self, goal: Score) -> float | None:
        """Return when the best so far was first not worse than a score beyond noise; None if never.

        It counts only if no later one falls behind again.
        """
        reached = None
        for incumbent in self.incumbents:
            if incumbent.score.is_worse(goal, higher=self.higher):
                reached = None
            elif reached is None:
                reached = incumbent.seconds
        return reached

    def to_json(self) -> dict[str, Any]:
        """Return plain data."""
        own = {name: getattr(self, name) for name in _PLAIN}
        return {
            **own,
            "machine": dict(self.machine),
            "baseline": None if self.baseline is None else self.baseline.to_json(),
            "incumbents": [each.to_json() for each in self.incumbents],
        }

    @classmethod
    def from_json(cls, form: Mapping[str, Any]) -> Result:
        """Read what :meth:`to_json` wrote."""
        baseline = form["baseline"]
        return cls(
            **{name: form[name] for name in _PLAIN},
            machine=dict(form["machine"]),
            baseline=None if baseline is None else Incumbent.from_json(baseline),
            incumbents=tuple(map(Incumbent.from_json, form["incumbents"])),
        )


_PLAIN = (
    *(
        "network",
        "strategy",
        "budget",
        "clock",
        "chip",
        "metric",
        "higher",
        "float_search",
        "float_final",
    ),
    *("iterations", "took", "ended", "error"),
)


def append(file: Path, result: Result) -> None:
    """Add a result to a file; what is written before is never touched.

    A line that a killed run left half written is ended first, so that it spoils no other.
    """
    file.parent.mkdir(parents=True, exist_ok=True)
    line = json.dumps(_finite(result.to_json()), allow_nan=False) + "\n"
    with file.open("ab+") as stream:
        if stream.tell():
            stream.seek(-1, os.SEEK_END)
            if stream.read(1) != b"\n":
                stream.write(b"\n")
        stream.write(line.encode())
        stream.flush()
        os.fsync(stream.fileno())


def read(file: Path) -> list[Result]:
    """Return the results of a file, of each network and strategy the last; none where it is absent.

    A line that is no result, as a killed run may leave, is passed over.
    """
    if not file.is_file():
        return []
    results: dict[tuple[str, str], Result] = {}
    for line in file.read_text(encoding="utf-8", errors="replace").splitlines():
        try:
            result = Result.from_json(json.loads(line))
        except (ValueError, KeyError, TypeError):
            continue
        results.pop((result.network, result.strategy), None)
        results[result.network, result.strategy] = result
    return list(results.values())


def best_of(results: Sequence[Result]) -> Result | None:
    """Return the result whose last incumbent has the best score, of one network."""
    known = [result for result in results if result.best is not None]
    sign = 1 if not known or known[0].higher else -1
    return max(known, key=lambda each: sign * _value(each), default=None)


def _value(result: Result) -> float:
    assert result.best is not None
    return result.best.score.value


def _finite(form: Any) -> Any:
    if isinstance(form, float) and not math.isfinite(form):
        return None
    if isinstance(form, Mapping):
        return {name: _finite(value) for name, value in form.items()}
    if isinstance(form, (list, tuple)):
        return [_finite(value) for value in form]
    return form
