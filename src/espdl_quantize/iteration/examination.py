"""What is examined before the first iteration of an output folder, by whoever runs it."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

from espdl_quantize.core import Progress
from espdl_quantize.iteration._options import RunOptions
from espdl_quantize.iteration._prepared import Prepared
from espdl_quantize.iteration._score import Score


@dataclass(frozen=True)
class Examination:
    """What came of an examination that found no fault.

    Attributes:
        warnings: for the record of the iteration.
        scored: the float model's score, with the outputs that were seen; None where it was not
            scored.
    """

    warnings: tuple[str, ...] = ()
    scored: Score | None = None


Examine = Callable[[Prepared, RunOptions, Path, Progress], Examination]
"""Given what the iterations share, the options of this one, a folder for files that go with it,
and the progress; raises what is wrong with the contract."""
