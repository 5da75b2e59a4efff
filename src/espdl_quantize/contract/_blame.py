"""Finds the user's own line behind an error, so that a message can name it."""

from __future__ import annotations

import re
import sysconfig
import traceback
from collections.abc import Iterator
from pathlib import Path
from typing import NamedTuple

from espdl_quantize.contract._load import Contract
from espdl_quantize.core import ErrorT

_THIS_PACKAGE = Path(__file__).parent.parent
_STANDARD_LIBRARY = Path(sysconfig.get_path("stdlib"))
_IN_A_TRACE = re.compile(r'File "([^"]+)", line (\d+), in (\S+)')
"""A worker process of a DataLoader sends its traceback as text."""


class _Frame(NamedTuple):
    file: Path
    line: int
    function: str


def located(fault: ErrorT, contract: Contract, *, raised: BaseException | None = None) -> ErrorT:
    """Add to an error the line of the user's code that it came from.

    Args:
        fault: the error.
        contract: whose code may be behind it; what lies in its folder counts as the user's.
        raised: what the user's code raised; the cause of ``fault`` unless it is given.

    Returns:
        A copy that names the line; ``fault`` itself where no line is the user's or it is named
        already.
    """
    raised = raised or fault.__cause__
    frames = list(_own_frames(contract, raised))
    if raised is None or not frames:
        return fault
    last = frames[-1]
    place = f"{_short(last.file, contract)}:{last.line}"
    if place in fault.cause:
        return fault
    named = [frame.function for frame in frames if not frame.function.startswith("<")]
    hint: str = fault.hint
    # Torch raises NotImplementedError as well, for what it cannot do on a device.
    if isinstance(raised, NotImplementedError) and named and _innermost(raised) == last:
        hint = f"fill in the TODO in {named[-1]}()"
    where = f"{place}, in {named[-1]}()" if named else place
    return fault.reworded(f"{fault.cause} ({where})", hint)


def first_and_last_line(error: BaseException) -> str:
    """Return an error's message in one line.

    Of a worker process's traceback, that is who sent it and what it ends with.
    """
    lines = [line.strip() for line in str(error).splitlines() if line.strip()]
    if len(lines) < 2:
        return lines[0] if lines else "no message"
    return f"{lines[0]} {lines[-1]}"


def _own_frames(contract: Contract, raised: BaseException | None) -> Iterator[_Frame]:
    """Yield the user's frames, the innermost last."""
    while raised is not None:
        frames = [
            _Frame(Path(frame.filename), frame.lineno or 0, frame.name)
            for frame in traceback.extract_tb(raised.__traceback__)
        ]
        frames += [
            _Frame(Path(file), int(line), name)
            for file, line, name in _IN_A_TRACE.findall(str(raised))
        ]
        own = [frame for frame in frames if _is_own(frame.file, contract)]
        if own:
            yield from own
            return
        raised = raised.__cause__ or raised.__context__


def _innermost(raised: BaseException) -> _Frame | None:
    frames = traceback.extract_tb(raised.__traceback__)
    last = frames[-1] if frames else None
    return last and _Frame(Path(last.filename), last.lineno or 0, last.name)


def _is_own(file: Path, contract: Contract) -> bool:
    foreign = (_THIS_PACKAGE, _STANDARD_LIBRARY)
    return (
        file.is_relative_to(contract.path.parent)
        and not any(file.is_relative_to(folder) for folder in foreign)
        and not {"site-packages", "dist-packages"} & set(file.parts)
    )


def _short(file: Path, contract: Contract) -> str:
    return str(file.relative_to(contract.path.parent))
