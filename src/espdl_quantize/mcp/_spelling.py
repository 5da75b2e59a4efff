"""What a client of the server calls options and commands: arguments of tools, and tools."""

from __future__ import annotations

import json

from espdl_quantize.core import Argument, Call, Command, Option, Spelling

TOOLS = {
    Command.CHECK: "check_contract",
    Command.COMPARE: "next_step",
    Command.DEPLOY: "deploy",
    Command.DEVICE_LOG: "device_log",
    Command.LINT: "lint_setting",
    Command.RUN: "run_iteration",
    Command.SCHEMA: "the resource setting-schema",
    Command.TUNE: "tune",
}
"""The tool, or the resource, that does what a command does; for the others there is none."""

SHELL_ONLY = (
    Option.AGENT,
    Option.DRAWS,
    Option.IN_PROCESS,
    Option.PATH,
    Option.WRITE_NEXT,
)
"""Options of commands that no tool has."""


class _Mcp(Spelling):
    """Arguments as in the JSON of a call."""

    def argument(self, argument: Argument) -> str:
        """Spell an argument: ``overwrite: true``."""
        name, value = str(argument.option), argument.value
        if argument.option in SHELL_ONLY:
            return f"the command's --{name.replace('_', '-')}"
        if argument.option == Option.NO_SCORE:
            # The one that a tool has the other way round.
            return "score: false"
        return name if value is None else f"{name}: {json.dumps(value)}"

    def call(self, call: Call) -> str:
        """Spell a tool, with the arguments that it has."""
        ends_search = any(argument.option == Option.FINALIZE for argument in call.arguments)
        tool = "finalize" if ends_search else TOOLS.get(call.command)
        if tool is None:
            return f"the command 'espdl-quantize {call.command}'"
        known = [
            argument
            for argument in call.arguments
            if argument.option not in (*SHELL_ONLY, Option.FINALIZE)
        ]
        return " with ".join([tool, *([", ".join(map(self.argument, known))] if known else [])])


MCP: Spelling = _Mcp()
"""What a client of the server calls options and commands."""
