"""The tool that tells what a model costs on the chip."""

from __future__ import annotations

from typing import Annotated, Any, Literal

from pydantic import Field

from espdl_quantize.core import OutputFolderError
from espdl_quantize.mcp._command import run_command
from espdl_quantize.mcp._models import IterationCost, LayerTime, ModelCosts
from espdl_quantize.mcp._roots import Roots
from espdl_quantize.mcp._tool import READS, Tool
from espdl_quantize.mcp.options import IterationNumber
from espdl_quantize.record.files import MODEL, iteration_name

_SLOWEST = 10


class CostTool:
    """Reads exported models; it runs nothing of the user's."""

    def __init__(self, roots: Roots) -> None:
        self._roots = roots

    def tools(self) -> tuple[Tool, ...]:
        """Return the tools of this module."""
        return (Tool(self.cost, "Tell what a model costs on the chip", READS),)

    def cost(
        self,
        *,
        output_dir: Annotated[str, Field(description="Output folder.")] = "outputs",
        iteration: Annotated[
            IterationNumber | Literal["best"] | None,
            Field(description="The N of iter_N, or 'best'; without it, every iteration."),
        ] = None,
        target: Annotated[
            str | None,
            Field(max_length=20, description="The chip, where the iteration does not say it."),
        ] = None,
        cores: Annotated[int, Field(ge=1, le=2, description="How many cores run it.")] = 1,
        weights_in_flash: Annotated[
            bool, Field(description="The weights stay in flash instead of being copied to PSRAM.")
        ] = False,
        internal: Annotated[
            int, Field(ge=0, le=1 << 20, description="KiB of internal RAM for activations.")
        ] = 0,
    ) -> ModelCosts:
        """Predict milliseconds, RAM and flash on the chip; of one model, also its slowest layers.

        RAM is planned as ESP-DL does it. Times are predicted from published figures, with an
        interval that holds nine of ten models; they are no measurement.
        """
        outputs = self._roots.resolve(output_dir, "output_dir")
        if not outputs.is_dir():
            raise OutputFolderError(
                f"{outputs} does not exist", "tune and run_iteration make it; or give another one"
            )
        if iteration is None:
            source, models = outputs, sorted(outputs.glob(f"iter_*/{MODEL}"))
        else:
            source = outputs / ("best" if iteration == "best" else iteration_name(iteration))
            models = [source / MODEL]
            if not source.is_dir():
                raise OutputFolderError(
                    f"{source} does not exist", "artifacts lists the iterations"
                )
        for model in models:
            # A link would lead the command to any file.
            self._roots.resolve(model, "the iteration's model")
        arguments = [str(source), f"--cores={cores}", f"--internal={internal}"]
        arguments += [] if target is None else [f"--target={target}"]
        arguments += ["--weights-in-flash"] if weights_in_flash else []
        costs = run_command("cost", arguments)
        if iteration is None:
            return ModelCosts(iterations=[_of_iteration(entry) for entry in costs["iterations"]])
        slowest = sorted(costs["layers"], key=lambda layer: -layer["share"])[:_SLOWEST]
        return ModelCosts(
            iterations=[
                _of_iteration({"iteration": None if iteration == "best" else iteration, **costs})
            ],
            peak_layer=costs["ram"]["peak_layer"],
            slowest_layers=[
                LayerTime(
                    op=layer["name"],
                    op_type=layer["op_type"],
                    width=layer["width"],
                    milliseconds=layer["milliseconds"],
                    share=layer["share"],
                    mostly=layer["mostly"],
                )
                for layer in slowest
            ],
            notes=costs["notes"],
        )


def _of_iteration(entry: dict[str, Any]) -> IterationCost:
    latency, ram = entry.get("latency") or {}, entry.get("ram") or {}
    return IterationCost(
        iteration=entry["iteration"],
        score=entry.get("score"),
        chip=entry.get("chip"),
        milliseconds=latency.get("milliseconds"),
        low=latency.get("low"),
        high=latency.get("high"),
        ram_bytes=ram.get("total"),
        flash_bytes=(entry.get("flash") or {}).get("file"),
        problem=entry.get("problem"),
    )
