"""What a client of the server calls options and commands: arguments of tools, and tools."""

from __future__ import annotations

import json

from espdl_quantize.core import Argument, Call, Command, Option, Spelling

TOOLS = {
    Command.CHECK: "check_contract",
    Command.COMPARE: "next_step",
    Command.COST: "cost",
    Command.DEPLOY: "deploy",
    Command.DEVICE_LOG: "device_log",
    Command.FINAL: "final_score",
    Command.INIT: "init",
    Command.LINT: "lint_setting",
    Command.RUN: "run_iteration",
    Command.SCHEMA: "the input schema of run_iteration",
    Command.TUNE: "tune",
    Command.VERIFY: "verify",
}
"""The tool that does what a command does; for the others there is none."""

GROUPED = (
    Option.ALLOW,
    Option.ENGINE,
    Option.ITERATION_LIMIT,
    Option.NO_FLOAT_SCORE,
    Option.USE_FULL_EVAL,
)
"""What run_iteration and tune take within their argument ``options``."""

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
            return f"'{name}', which only the command has"
        if argument.option == Option.NO_SCORE:
            # The one that a tool has the other way round.
            return "score: false"
        if argument.option in GROUPED:
            return f"options.{name}" if value is None else f"options.{name}: {json.dumps(value)}"
        return name if value is None else f"{name}: {json.dumps(value)}"

    def call(self, call: Call) -> str:
        """Spell a tool, with the arguments that it has."""
        ends_search = any(argument.option == Option.FINALIZE for argument in call.arguments)
        tool = "finalize" if ends_search else TOOLS.get(call.command)
        if tool is None:
            return f"'{call.command}', which only the command line has: ask the user for it"
        known = [
            argument
            for argument in call.arguments
            if argument.option not in (*SHELL_ONLY, Option.FINALIZE)
        ]
        return " with ".join([tool, *([", ".join(map(self.argument, known))] if known else [])])


MCP: Spelling = _Mcp()
"""What a client of the server calls options and commands."""
