"""What a search says of itself while it runs, for whoever watches its folder.

``.live.json`` is rewritten while a search runs and stays as it was when it ended. The log of an
iteration says what training did to each block.
"""

from __future__ import annotations

import contextlib
import hashlib
import os
import re
from collections.abc import Iterator, Sequence
from dataclasses import asdict, dataclass, replace
from pathlib import Path

from espdl_quantize.core import OutputFolderError, open_regular, read_json, write_json
from espdl_quantize.record._values import number, text
from espdl_quantize.record.files import INDEX, LIVE, LOG, partial_folder

_MOST_LOG = 4 << 20
_BLOCK = re.compile(r"^# Block \[(\d+) / (\d+)\]: \[(.*) -> (.*)\]\s*$")
MOST_LOSSES = 50
"""Points of the loss of one block over the steps of its training."""

_STEPS = "# Loss by Step     : "
_PRINTED = re.compile(r"^# Tuning Finished\s*: \(([^ )]+) -> ([^ )]+)\) \[Block Loss\]")


@dataclass(frozen=True)
class LiveState:
    """Where a search stands.

    Attributes:
        is_running: whether it runs; see :func:`read_live`.
        iteration: the number of the one that runs; None between two.
        what: phase, change, best so far and what is left, in words.
        stages: the running stages, the outermost first.
        fraction: how much of the innermost stage is done; None where nobody knows.
        detail: what it is at.
        seconds_left: of the whole search; None where nobody knows.
        started: seconds since the epoch, of the innermost stage.
        updated: the same, of this state.
        process: number of the process.
    """

    is_running: bool = False
    iteration: int | None = None
    what: str = ""
    stages: tuple[str, ...] = ()
    fraction: float | None = None
    detail: str = ""
    seconds_left: float | None = None
    started: float | None = None
    updated: float | None = None
    process: int | None = None


@dataclass(frozen=True)
class BlockLoss:
    """What training did to one block.

    Attributes:
        run: which training of the iteration, from 0.
        number: of the block, from 1.
        count: of the blocks.
        first: its first op.
        last: its last op.
        before: mean loss against the float block before training; None while it trains.
        after: after it, which is the one before where it was taken back.
        losses: steps done, and the mean loss there, None where it was not finite: the first and
            the last over all batches, those between over the batches of some steps. Empty where
            the engine did not print them.
    """

    run: int
    number: int
    count: int
    first: str
    last: str
    before: float | None = None
    after: float | None = None
    losses: tuple[tuple[int, float | None], ...] = ()

    @property
    def is_taken_back(self) -> bool:
        """Whether the block is as it was before, since its loss would have grown."""
        if not self.losses:
            return False
        first, last = self.losses[0][1], self.losses[-1][1]
        return first is not None and last is not None and last > first


def losses_line(losses: Sequence[tuple[int, float]]) -> str:
    """Write the losses of a block that was trained as the line of the log that is read again.

    Args:
        losses: as of :class:`BlockLoss`, at most :data:`MOST_LOSSES`.
    """
    return _STEPS + ", ".join(f"{step} {loss:.6g}" for step, loss in losses)


def write_live(outputs: Path, state: LiveState) -> None:
    """Write the state; a disk that is full is no reason to end a search."""
    with contextlib.suppress(OSError):
        write_json(outputs / LIVE, asdict(state))


def read_live(outputs: Path) -> LiveState:
    """Read the state; a search whose process is gone does not run, whatever its file says."""
    try:
        form = read_json(outputs / LIVE)
    except OutputFolderError:
        return LiveState()
    process, iteration = form.get("process"), form.get("iteration")
    stages = form.get("stages")
    known = isinstance(process, int) and not isinstance(process, bool)
    return LiveState(
        is_running=form.get("is_running") is True
        and isinstance(process, int)
        and _is_alive(process),
        iteration=iteration if isinstance(iteration, int) else None,
        what=text(form.get("what")) or "",
        stages=tuple(map(str, stages[:20])) if isinstance(stages, list) else (),
        fraction=number(form.get("fraction")),
        detail=text(form.get("detail")) or "",
        seconds_left=number(form.get("seconds_left")),
        started=number(form.get("started")),
        updated=number(form.get("updated")),
        process=process if known else None,
    )


def running_log(outputs: Path, iteration: int) -> Path:
    """Return the log of an iteration: of the one that runs, else of the finished one."""
    running = partial_folder(outputs, iteration) / LOG
    return running if running.is_file() else outputs / f"iter_{iteration}" / LOG


def read_log(path: Path) -> list[str]:
    """Return the lines of a log, of a very long one the last; none where it cannot be read."""
    try:
        with open_regular(path, follow=False) as file:
            file.seek(max(0, file.seek(0, os.SEEK_END) - _MOST_LOG))
            content = file.read(_MOST_LOG)
    except OSError:
        return []
    # Not splitlines: what else it takes for a line end may stand in the name of an op.
    return content.decode("utf-8", "replace").removesuffix("\n").split("\n") if content else []


def block_losses(lines: list[str]) -> list[BlockLoss]:
    """Read what training says of each block in a log."""
    return list(_blocks(lines))


def _blocks(lines: list[str]) -> Iterator[BlockLoss]:
    run, current = -1, None
    for line in lines:
        match = _BLOCK.match(line)
        if match is not None:
            if current is not None:
                yield current
            at = int(match[1][:9])
            run += at == 1 or run < 0
            current = BlockLoss(run, at, int(match[2][:9]), match[3], match[4])
            continue
        if current is None:
            continue
        if line.startswith(_STEPS):
            current = replace(current, losses=_losses(line.removeprefix(_STEPS)))
            continue
        match = _PRINTED.match(line)
        if match is not None:
            yield _trained(current, *(_number(value) for value in match.groups()))
            current = None
    if current is not None:
        yield current


def _trained(block: BlockLoss, before: float | None, after: float | None) -> BlockLoss:
    """Return the block with its losses, exactly where they are known: esp-ppq prints 4 digits."""
    if block.losses:
        before = block.losses[0][1]
        after = before if block.is_taken_back else block.losses[-1][1]
    return replace(block, before=before, after=after)


def _losses(line: str) -> tuple[tuple[int, float | None], ...]:
    """Read the points of a line, in the order of their steps; what is none is left out."""
    points: list[tuple[int, float | None]] = []
    for part in line.split(", ", MOST_LOSSES)[:MOST_LOSSES]:
        step, _, loss = part.strip().partition(" ")
        if step.isascii() and step.isdigit() and (not points or int(step[:9]) >= points[-1][0]):
            points.append((int(step[:9]), _number(loss)))
    return tuple(points)


def _number(value: str) -> float | None:
    try:
        return number(float(value))
    except ValueError:
        return None


def folder_version(outputs: Path) -> str:
    """Return what changes whenever an iteration comes, goes or is repeated."""
    parts = []
    with contextlib.suppress(OSError):
        for folder in sorted(outputs.glob("iter_*")):
            with contextlib.suppress(OSError):
                parts.append(f"{folder.name}:{(folder / INDEX).stat().st_mtime_ns}")
    return hashlib.sha256("\n".join(parts).encode()).hexdigest()[:16]


def _is_alive(process: int) -> bool:
    if process <= 0:
        return False
    try:
        os.kill(process, 0)
    except (ProcessLookupError, OverflowError):
        return False
    except OSError:
        return True
    return True
