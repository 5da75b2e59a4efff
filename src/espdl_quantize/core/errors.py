"""Errors that a user can fix, and the exit code that each kind of error ends the command with.

Every error names the cause, with the value that was found, and how to fix it. The command line
prints it as one line; a traceback is for faults of this program, not of its input.
"""

from __future__ import annotations

import errno
from dataclasses import dataclass
from typing import TypeVar

EXIT_OK = 0
EXIT_REFUSED = 1
"""Nothing is broken, but what was asked for is refused."""
EXIT_USAGE = 2
EXIT_CONTRACT = 3
EXIT_SETTING = 4
EXIT_ITERATION = 5
EXIT_INSTALLATION = 6
EXIT_OUTPUT_FOLDER = 7
EXIT_INTERRUPTED = 130


ErrorT = TypeVar("ErrorT", bound="EspdlQuantizeError")


class EspdlQuantizeError(Exception):
    """An error with a cause and a hint.

    Args:
        cause: what is wrong, with the name of the thing and the value that was found.
        hint: what to do about it; may be empty where the cause says it already.
    """

    exit_code = EXIT_REFUSED

    def __init__(self, cause: str, hint: str = "") -> None:
        self.cause = cause
        self.hint = hint
        super().__init__(f"{cause} -> {hint}" if hint else cause)

    def reworded(self: ErrorT, cause: str, hint: str) -> ErrorT:
        """Return an error of the same kind, with the same exception behind it, in other words."""
        found = type(self)(cause, hint)
        found.__cause__ = self.__cause__
        return found


class UsageError(EspdlQuantizeError):
    """An argument makes no sense."""

    exit_code = EXIT_USAGE


class ContractError(EspdlQuantizeError):
    """The user's contract module breaks the contract."""

    exit_code = EXIT_CONTRACT


class SettingError(EspdlQuantizeError):
    """A setting is malformed or cannot be applied."""

    exit_code = EXIT_SETTING


class IterationError(EspdlQuantizeError):
    """An iteration could not be finished."""

    exit_code = EXIT_ITERATION


@dataclass(frozen=True)
class FailedPass:
    """Where in esp-ppq's quantizer an iteration failed.

    Attributes:
        name: of the pass, as it is shown while it runs.
        field: the field of the setting that turns it on; empty for a pass that always runs.
        layer: the block, or the op, that it was at; empty where that is not known.
        layers: all ops of that block.
        other_layers: the computing ops of the other blocks of the pass.
    """

    name: str
    field: str = ""
    layer: str = ""
    layers: tuple[str, ...] = ()
    other_layers: tuple[str, ...] = ()


class PassError(IterationError):
    """A pass of esp-ppq's quantizer failed.

    Args:
        cause: as for every error.
        hint: as for every error.
        failed_pass: which pass, and where.
    """

    def __init__(self, cause: str, hint: str = "", failed_pass: FailedPass | None = None) -> None:
        super().__init__(cause, hint)
        self.failed_pass = failed_pass

    def reworded(self, cause: str, hint: str) -> PassError:
        """Return the same failure in other words."""
        found = PassError(cause, hint, self.failed_pass)
        found.__cause__ = self.__cause__
        return found


class InstallationError(EspdlQuantizeError):
    """The installed packages or the hardware lack what is asked for."""

    exit_code = EXIT_INSTALLATION


class OutputFolderError(EspdlQuantizeError):
    """An output folder cannot be read, written or claimed."""

    exit_code = EXIT_OUTPUT_FOLDER


class InterruptedCommandError(EspdlQuantizeError):
    """The user interrupted a command; nothing half-written is left."""

    exit_code = EXIT_INTERRUPTED


class InterruptedSearchError(InterruptedCommandError):
    """The user interrupted a search; what was finished is kept."""


_OUT_OF_MEMORY = (
    "out of memory",
    "not enough memory",
    "cannot allocate memory",
    "can't allocate memory",
    "std::bad_alloc",
    "failed to allocate",
    "unable to allocate",
)
"""What torch on a CPU, CUDA, glibc, C++ and numpy say, in lower case."""


def is_out_of_memory(error: BaseException) -> bool:
    """Tell whether an error comes of too little memory, of the machine or of a GPU."""
    cause: BaseException | None = error
    while cause is not None:
        if isinstance(cause, MemoryError):
            return True
        said = str(cause).lower()
        if any(words in said for words in _OUT_OF_MEMORY):
            return True
        cause = cause.__cause__ or cause.__context__
    return False


def is_full_disk(error: BaseException) -> bool:
    """Tell whether an error says that there is no space left; some say so in words only."""
    full = isinstance(error, OSError) and error.errno in (errno.ENOSPC, errno.EDQUOT)
    return full or "No space left on device" in str(error)
