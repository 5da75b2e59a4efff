"""The tools that lead to a board and back."""

from __future__ import annotations

from typing import Annotated, Literal

from pydantic import Field

from espdl_quantize.core import UsageError
from espdl_quantize.mcp._command import run_command
from espdl_quantize.mcp._models import BoardLog, BoardProject, BoardSummary
from espdl_quantize.mcp._roots import Roots
from espdl_quantize.mcp._tool import ENDS, WRITES, Tool
from espdl_quantize.mcp.options import IterationNumber, esp_dl_arguments
from espdl_quantize.mcp.texts import shortened
from espdl_quantize.record.files import LARGEST_ITERATION, iteration_name
from espdl_quantize.report import record_log

OutputDir = Annotated[str, Field(description="Output folder.")]
_SLOWEST = 10


class BoardTools:
    """None of them runs the user's module, or talks to a board."""

    def __init__(self, roots: Roots) -> None:
        self._roots = roots

    def tools(self) -> tuple[Tool, ...]:
        """Return the tools of this module."""
        return (
            Tool(self.deploy, "Write a project for a board", WRITES),
            Tool(self.device_log, "Read a board's log", ENDS),
        )

    def deploy(
        self,
        *,
        project: Annotated[str, Field(description="A new or empty folder for the project.")],
        output_dir: OutputDir = "outputs",
        iteration: Annotated[
            IterationNumber | Literal["best"],
            Field(description="The N of iter_N, or 'best'."),
        ] = "best",
        chip: Annotated[
            str | None,
            Field(max_length=20, description="Of the same family; needed for the target 'c'."),
        ] = None,
        esp_dl_version: Annotated[
            str | None,
            Field(max_length=20, description="Such as 3.3.9; else what the model was made for."),
        ] = None,
        flash: Annotated[
            int | None, Field(ge=1, le=1024, description="MiB of flash on the board.")
        ] = None,
        psram: Annotated[
            int | None, Field(ge=0, le=1024, description="MiB of PSRAM on the board; 0 for none.")
        ] = None,
    ) -> BoardProject:
        """Write an ESP-IDF project that loads, tests, profiles and times a model on its chip.

        Returns its folder. Its README has the commands to build and flash it, for the user to run;
        given the board's output in a file, call device_log.
        """
        outputs = self._roots.resolve(output_dir, "output_dir")
        source = outputs
        if iteration != "best":
            source = self._roots.resolve(
                outputs / iteration_name(iteration), "the iteration's folder"
            )
        arguments = [str(source), "--project", str(self._roots.resolve(project, "project"))]
        arguments += esp_dl_arguments(esp_dl_version)
        for name, value in (("--chip", chip), ("--flash", flash), ("--psram", psram)):
            arguments += [] if value is None else [f"{name}={value}"]
        return BoardProject(**run_command("deploy", arguments))

    def device_log(
        self,
        *,
        log: Annotated[str, Field(description="The file with the board's serial output.")],
        output_dir: OutputDir = "outputs",
        iteration: Annotated[
            int | None,
            Field(
                ge=0,
                le=LARGEST_ITERATION,
                description="Whose model it was, where the log does not say.",
            ),
        ] = None,
        board: Annotated[
            str | None, Field(description="What to call it, where several have the same chip.")
        ] = None,
    ) -> BoardLog:
        """Read a board's log and return what it measured: test, times, memory.

        It is stored with the iteration, in place of an earlier one; next_step shows it then. The
        folder's times are predicted by the board from then on.
        """
        outputs = self._roots.resolve(output_dir, "output_dir")
        file = self._roots.resolve(log, "log")
        if not file.is_file():
            raise UsageError(
                f"log {shortened(repr(log), 200)}: {shortened(str(file), 200)} is no file",
                "have the user save what the board printed, and give the path of that file",
            )
        stored = record_log(outputs, file, iteration, board=board)
        measurement = stored.measurement
        slowest = sorted(measurement.layers, key=lambda layer: -layer.us)[:_SLOWEST]
        return BoardLog(
            iteration=stored.iteration.id,
            path=str(stored.path),
            sentence=measurement.sentence(),
            holds=not measurement.is_against_the_model,
            measured=BoardSummary(**measurement.summary()),
            slowest_layers=[vars(layer) for layer in slowest],
            notes=list(stored.notes),
        )
