"""Errors that a user can fix, and the exit code that each kind of error ends the command with.

::

    EspdlQuantizeError              1  refused: nothing is broken
    ├── UsageError                  2  usage: an argument makes no sense
    ├── ContractError               3  contract
    │   └── contract.ContractFaultsError    every fault of a contract, each on its own
    ├── SettingError                4  setting
    ├── IterationError              5  iteration
    │   └── PassError               5  pass: which pass of esp-ppq failed, and at which layer
    ├── InstallationError           6  installation: packages or hardware
    ├── OutputFolderError           7  output_folder: cannot be read, written or claimed
    └── InterruptedCommandError   130  interrupted
        └── InterruptedSearchError

Every error names the cause, with the value that was found, and how to fix it. The command line
prints it as one line; a traceback is for faults of this program, not of its input.
"""

from __future__ import annotations

import errno
from dataclasses import dataclass
from typing import Any, ClassVar, TypeVar

from espdl_quantize.core.hints import PLAIN, PYTHON, Hint, Spelling

Json = dict[str, Any]

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
        hint: what to do about it; may be empty where the cause says it already. Options and
            commands stand in it as codes, see :class:`~espdl_quantize.core.Hint`.
    """

    exit_code = EXIT_REFUSED
    kind = "refused"
    """The kind of error, as JSON has it."""

    _kinds: ClassVar[dict[str, type[EspdlQuantizeError]]] = {}

    def __init_subclass__(cls) -> None:
        super().__init_subclass__()
        # A subclass without a kind of its own is restored as what it specializes.
        if "kind" in vars(cls):
            EspdlQuantizeError._kinds[cls.kind] = cls

    def __init__(self, cause: str, hint: str = "") -> None:
        self.cause = cause
        self.hint = hint if isinstance(hint, Hint) else Hint(hint)
        super().__init__(cause, hint)

    def __str__(self) -> str:
        return self.describe(PYTHON)

    def describe(self, spelling: Spelling) -> str:
        """Write cause and hint on a line, in the words of a door."""
        return f"{self.cause} -> {spelling.spell(self.hint)}" if self.hint else self.cause

    def reworded(self: ErrorT, cause: str, hint: str) -> ErrorT:
        """Return an error of the same kind, with the same exception behind it, in other words."""
        error = type(self)(cause, hint)
        error.__cause__ = self.__cause__
        return error

    def details(self) -> Json:
        """Return what this kind of error knows beyond cause and hint, as plain data."""
        return {}

    def to_json(self, spelling: Spelling = PLAIN) -> Json:
        """Return the error as every door and file writes it.

        Args:
            spelling: of the hint's text; ``hint_parts`` has it in codes, for any other door.
        """
        return {
            "kind": self.kind,
            # "cause" is what "message" was called in the first place; readers of either find it.
            "message": self.cause,
            "cause": self.cause,
            "hint": spelling.spell(self.hint),
            "hint_parts": self.hint.to_json(),
            "exit_code": self.exit_code,
            **self.details(),
        }

    @classmethod
    def restore(cls: type[ErrorT], cause: str, hint: Hint, form: Json) -> ErrorT:
        """Make an error of this kind again.

        Args:
            cause: as it was.
            hint: as it was.
            form: what :meth:`to_json` returned, for what :meth:`details` added to it.
        """
        return cls(cause, hint)

    @staticmethod
    def from_json(form: Any) -> EspdlQuantizeError:
        """Make an error of what :meth:`to_json` returned.

        What is missing, or not of its type, is left out: the text may come from a process that
        another version started.
        """
        form = form if isinstance(form, dict) else {}
        cause, hint = str(form.get("cause") or form.get("message") or "it failed"), hint_of(form)
        error = EspdlQuantizeError._kinds.get(str(form.get("kind")), EspdlQuantizeError)
        return error.restore(cause, hint, form)


def hint_of(form: Json) -> Hint:
    """Return the hint of an error that was written as JSON, with its codes where they hold."""
    # "mend" is what earlier versions wrote.
    text = str(form.get("hint") or form.get("mend") or "")
    try:
        return Hint.from_json(form.get("hint_parts"))
    except ValueError:
        return Hint(text)


class UsageError(EspdlQuantizeError):
    """An argument makes no sense."""

    exit_code = EXIT_USAGE
    kind = "usage"


class ContractError(EspdlQuantizeError):
    """The user's contract module breaks the contract."""

    exit_code = EXIT_CONTRACT
    kind = "contract"


class SettingError(EspdlQuantizeError):
    """A setting is malformed or cannot be applied."""

    exit_code = EXIT_SETTING
    kind = "setting"


class IterationError(EspdlQuantizeError):
    """An iteration could not be finished."""

    exit_code = EXIT_ITERATION
    kind = "iteration"


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

    kind = "pass"

    def __init__(self, cause: str, hint: str = "", failed_pass: FailedPass | None = None) -> None:
        super().__init__(cause, hint)
        self.failed_pass = failed_pass

    def details(self) -> Json:
        """Return where it failed, under the names that iteration_index.json has."""
        where = self.failed_pass
        if where is None:
            return {}
        return {
            "pass": where.name,
            "field": where.field or None,
            "layer": where.layer or None,
            "layers": list(where.layers),
            "other_layers": list(where.other_layers),
        }

    @classmethod
    def restore(cls, cause: str, hint: Hint, form: Json) -> PassError:
        """Make the error again, with the place where it failed."""
        if not isinstance(form.get("pass"), str):
            return cls(cause, hint)
        where = FailedPass(
            form["pass"],
            str(form.get("field") or ""),
            str(form.get("layer") or ""),
            tuple(map(str, form.get("layers") or ())),
            tuple(map(str, form.get("other_layers") or ())),
        )
        return cls(cause, hint, where)

    def reworded(self, cause: str, hint: str) -> PassError:
        """Return the same failure in other words."""
        error = PassError(cause, hint, self.failed_pass)
        error.__cause__ = self.__cause__
        return error


class InstallationError(EspdlQuantizeError):
    """The installed packages or the hardware lack what is asked for."""

    exit_code = EXIT_INSTALLATION
    kind = "installation"


class OutputFolderError(EspdlQuantizeError):
    """An output folder cannot be read, written or claimed."""

    exit_code = EXIT_OUTPUT_FOLDER
    kind = "output_folder"


class InterruptedCommandError(EspdlQuantizeError):
    """The user interrupted a command; nothing half-written is left."""

    exit_code = EXIT_INTERRUPTED
    kind = "interrupted"


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
        message = str(cause).lower()
        if any(words in message for words in _OUT_OF_MEMORY):
            return True
        cause = cause.__cause__ or cause.__context__
    return False


def is_full_disk(error: BaseException) -> bool:
    """Tell whether an error says that there is no space left; some say so in words only."""
    full = isinstance(error, OSError) and error.errno in (errno.ENOSPC, errno.EDQUOT)
    return full or "No space left on device" in str(error)
