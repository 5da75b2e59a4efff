"""What to do about an error, its options and commands as codes that each door spells itself.

A shell knows ``--overwrite``, a client of the MCP server ``overwrite: true``, Python
``overwrite=True``. Whoever raises an error knows none of them::

    Hint("give another ", Option.OUTPUT_DIR, ", or pass ", Option.OVERWRITE.of(True))
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Iterable
from dataclasses import dataclass
from typing import Any, ClassVar

from espdl_quantize.core.enums import Word

Value = bool | int | float | str | None


class Option(Word):
    """What a caller may set, by its name in Python."""

    AGENT = "agent"
    ALLOW = "allow"
    ALLOW_MISMATCH = "allow_mismatch"
    CHIP = "chip"
    DRAWS = "draws"
    ENGINE = "engine"
    ESP_DL_VERSION = "esp_dl_version"
    FINALIZE = "finalize"
    FLASH = "flash"
    FORCE = "force"
    FORCE_FINALIZE = "force_finalize"
    IN_PROCESS = "in_process"
    ITERATION = "iteration"
    ITERATION_LIMIT = "iteration_limit"
    ITERATIONS = "iterations"
    NO_FLOAT_SCORE = "no_float_score"
    NO_SCORE = "no_score"
    OUTPUT_DIR = "output_dir"
    OVERWRITE = "overwrite"
    PATH = "path"
    PROJECT = "project"
    PSRAM = "psram"
    TARGET = "target"
    TIME = "time"
    USE_FULL_EVAL = "use_full_eval"
    WRITE_NEXT = "write_next"

    def of(self, value: Value) -> Argument:
        """Return the option with a value."""
        return Argument(self, value)


class Command(Word):
    """What a caller may run, by its name on the command line."""

    CHECK = "check"
    COMPARE = "compare"
    COST = "cost"
    DEPLOY = "deploy"
    DEVICE_LOG = "device-log"
    ENGINES = "engines"
    FINAL = "final"
    INIT = "init"
    LINT = "lint"
    REPEAT = "repeat"
    RUN = "run"
    SCHEMA = "schema"
    TUNE = "tune"
    VERIFY = "verify"

    def of(self, *arguments: Argument) -> Call:
        """Return the command with arguments."""
        return Call(self, arguments)


@dataclass(frozen=True)
class Argument:
    """An option, with a value or named alone."""

    option: Option
    value: Value = None


@dataclass(frozen=True)
class Call:
    """A command, with the arguments that matter."""

    command: Command
    arguments: tuple[Argument, ...] = ()


HintPart = str | Argument | Call
"""Of a hint: plain text, or a code with its parameters."""


class Spelling(ABC):
    """The words of one door."""

    @abstractmethod
    def argument(self, argument: Argument) -> str:
        """Spell an option, with its value where it has one."""

    @abstractmethod
    def call(self, call: Call) -> str:
        """Spell a command."""

    def spell(self, text: str) -> str:
        """Spell what is a :class:`Hint`; any other text stays as it is."""
        if not isinstance(text, Hint):
            return text
        return "".join(self._part(part) for part in text.parts)

    def _part(self, part: HintPart) -> str:
        if isinstance(part, Argument):
            return self.argument(part)
        return self.call(part) if isinstance(part, Call) else part


class _Plain(Spelling):
    """Names alone: for files that programs read, whichever door they come by."""

    def argument(self, argument: Argument) -> str:
        is_bare = argument.value is None or isinstance(argument.value, bool)
        return str(argument.option) if is_bare else f"{argument.option} {argument.value}"

    def call(self, call: Call) -> str:
        return f"'{' with '.join(map(str, (call.command, *map(self.argument, call.arguments))))}'"


class _Shell(Spelling):
    """Options and commands as they are typed: for the command line, and for reports."""

    def argument(self, argument: Argument) -> str:
        option = f"--{argument.option.replace('_', '-')}"
        is_bare = argument.value is None or isinstance(argument.value, bool)
        return option if is_bare else f"{option} {argument.value}"

    def call(self, call: Call) -> str:
        return (
            f"'{' '.join(('espdl-quantize', call.command, *map(self.argument, call.arguments)))}'"
        )


class _Python(Spelling):
    """Keyword arguments and functions: what ``str(error)`` shows."""

    _FUNCTIONS: ClassVar[dict[Command, str]] = {
        Command.COMPARE: "report.compare",
        Command.COST: "chip.cost_of",
        Command.DEPLOY: "report.deploy",
        Command.DEVICE_LOG: "report.record_log",
        Command.FINAL: "tuning.take_final",
        Command.INIT: "contract.starter_contract",
        Command.LINT: "report.lint",
        Command.REPEAT: "tuning.repeat",
        Command.RUN: "iteration.run_iteration",
        Command.SCHEMA: "setting.json_schema",
        Command.TUNE: "tune",
        Command.VERIFY: "iteration.verify_iteration",
    }

    def argument(self, argument: Argument) -> str:
        name = str(argument.option)
        return name if argument.value is None else f"{name}={argument.value!r}"

    def call(self, call: Call) -> str:
        function = self._FUNCTIONS.get(call.command)
        if function is None:
            # There is no one function for it.
            return f"'espdl-quantize {call.command}'"
        return f"espdl_quantize.{function}({', '.join(map(self.argument, call.arguments))})"


PLAIN: Spelling = _Plain()
PYTHON: Spelling = _Python()
SHELL: Spelling = _Shell()


class Hint(str):
    """A text whose options and commands are codes; as a plain string it has their bare names."""

    parts: tuple[HintPart, ...]

    def __new__(cls, *parts: HintPart | Option | Command) -> Hint:
        """Join texts and codes; parts that are hints themselves keep their codes."""
        joined: list[HintPart] = []
        for part in parts:
            joined += _parts_of(part)
        # The names of PLAIN, which cannot be asked for before there is a hint.
        hint = super().__new__(cls, "".join(map(PLAIN._part, joined)))
        hint.parts = tuple(joined)
        return hint

    def __add__(self, other: str) -> Hint:
        return Hint(self, other)

    def __getnewargs__(self) -> tuple[Any, ...]:
        return self.parts

    def to_json(self) -> list[Any]:
        """Return the parts as plain data, from which :meth:`from_json` makes the hint again."""
        return [_part_to_json(part) for part in self.parts]

    @classmethod
    def from_json(cls, parts: Any) -> Hint:
        """Make a hint of its parts.

        Raises:
            ValueError: they are not what :meth:`to_json` writes.
        """
        if not isinstance(parts, list):
            raise ValueError(f"a hint's parts are a {type(parts).__name__}, expected a list")
        return cls(*map(_part_from_json, parts))


def join_hints(hints: Iterable[str], between: str = "; ") -> Hint:
    """Join the hints that are not empty."""
    joined = Hint()
    for hint in filter(None, hints):
        joined = Hint(joined, between, hint) if joined else Hint(hint)
    return joined


def _parts_of(part: HintPart | Option | Command) -> tuple[HintPart, ...]:
    if isinstance(part, Hint):
        return part.parts
    if isinstance(part, Option):
        return (Argument(part),)
    if isinstance(part, Command):
        return (Call(part),)
    return (part,) if part else ()


def _part_to_json(part: HintPart) -> Any:
    if isinstance(part, Argument):
        return _argument_to_json(part)
    if isinstance(part, Call):
        arguments = [_argument_to_json(argument) for argument in part.arguments]
        return {"command": str(part.command), "arguments": arguments}
    return str(part)


def _argument_to_json(argument: Argument) -> dict[str, Any]:
    return {"option": str(argument.option), "value": argument.value}


def _part_from_json(part: Any) -> HintPart:
    if isinstance(part, str):
        return part
    if isinstance(part, dict) and "option" in part:
        return _argument_from_json(part)
    if isinstance(part, dict) and isinstance(part.get("arguments"), list):
        arguments = map(_argument_from_json, part["arguments"])
        return Call(Command(part.get("command")), tuple(arguments))
    raise ValueError(f"a hint has no part such as {part!a}")


def _argument_from_json(part: Any) -> Argument:
    value = part.get("value") if isinstance(part, dict) else part
    if not isinstance(part, dict) or not isinstance(value, (bool, int, float, str, type(None))):
        raise ValueError(f"a hint has no argument such as {part!a}")
    return Argument(Option(part.get("option")), value)
