"""Where a client begins: the order of calls, the references, and a contract to fill in."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Literal

from pydantic import Field

from espdl_quantize.contract import starter_contract, starter_from
from espdl_quantize.core import EspdlQuantizeError, UsageError
from espdl_quantize.mcp._models import Written
from espdl_quantize.mcp._roots import Roots
from espdl_quantize.mcp._tool import READS, WRITES, Tool
from espdl_quantize.mcp.resources import references_folder
from espdl_quantize.mcp.texts import DEFAULT_SIZE, LARGEST_SIZE

GUIDE = """\
# Search esp-ppq settings with these tools

A contract (user_quant.py) says model, calibration data, evaluate(), chip and metric. An iteration
quantizes once with one setting, analyses and scores it, and leaves <output_dir>/iter_<N>; iter_0 is
the baseline. The output folder is the whole state of a search: same folder, same search.

Order of calls
1. init writes a contract where there is none, with what a model says of itself; the user fills in
   the rest. check_contract finds its faults and scores the float model. Is that score what the
   user expects? If not, stop: nothing after it would mean anything. esp_dl_version says which
   ESP-DL the firmware has; what it lacks is not exported.
2. Either tune {contract, iterations or time}: the whole search as one job, with report and best/.
   Or step by step: run_iteration {contract} (setting "next" is the default: the baseline first,
   then what the search asks for), status {job_id, wait_seconds: 45} until it has ended, next_step,
   and again.
3. worst_ops, why, compare_iterations and settings say where the error is and what was tried.
4. finalize writes best/, front/ (what is quicker than best or scores higher), final_report.md and
   report.html; tune has done so. final_score scores best
   on samples that the search never used, verify holds the file against what was scored; finalize
   again puts both into the report. report reads it, render_report writes the page anew, and
   compare_folders holds two searches against each other.
5. cost predicts time and memory on the chip; max_latency_ms, max_ram_kb and max_flash_kb in the
   contract bound them. deploy writes a project for the board.

Words
- phase 1: the baseline. Phase 2: kl, mse and percentile calibration, each with the default TQT.
  Phase 3: levers, one change each from the best setting. Phase 4: the end, by target or plateau.
  That is the strategy seed, step by step; tune tries calibrations and levers untrained first.
- lever: one prescribed change, such as 3b, bias correction. next_step names it and has its setting.
- open exploration (phase 5): the levers are used up. next_step has no setting then; it says what
  gained, what lost and what is untried, 16 bits for groups of ops among it. Copy best's setting
  (settings {iteration: "best"}), change it, cite in rationale the iter_<N> that speaks for each
  change, lint_setting, run_iteration.
- TQT trains scales and weights block by block; SNR here is noise to signal, so less is better, and
  0.05 needs work.

Budget: the user's number is a ceiling. The baseline counts, a failed iteration counts, repeating it
in place does not; checks, dry runs, final_score and verify do not. When it is spent: finalize, in
phase 5 with force_finalize.

Jobs: check_contract, run_iteration, tune, final_score and verify return a job_id at once; follow it
with status. A few run at a time, the others are queued; an output folder takes one job at a time.
A job that failed says why and what to do: do that first. A call that crashes twice will crash a
third time: change something, or leave that pass out.

Say what was measured and no more: "within noise" is not "better".
"""

Topic = Literal[
    "artifacts",
    "contract",
    "decision_playbook",
    "exploration",
    "ppq_methods",
    "setting_json_schema",
    "troubleshooting",
    "example_torch",
    "example_onnx",
    "example_classifier",
    "example_detector",
    "example_recurrent",
]
_EXAMPLES = {
    "example_torch": "user_quant_torch_example.py",
    "example_onnx": "user_quant_onnx_example.py",
    "example_classifier": "example_classifier.py",
    "example_detector": "example_detector.py",
    "example_recurrent": "example_recurrent.py",
}


class StartTools:
    """They run nothing."""

    def __init__(self, roots: Roots) -> None:
        self._roots = roots

    def tools(self) -> tuple[Tool, ...]:
        """Return the tools of this module."""
        return (
            Tool(self.guide, "How to search with these tools", READS, is_text=True),
            Tool(self.reference, "Read a reference", READS, is_text=True),
            Tool(self.init, "Write a contract to fill in", WRITES),
        )

    def guide(self) -> str:
        """Return the order of calls and the words that results use. Call it first."""
        return GUIDE

    def reference(
        self,
        topic: Annotated[
            Topic,
            Field(
                description="contract: its keys and functions; decision_playbook: from errors to "
                "methods; exploration: phase 5; ppq_methods: the passes; artifacts: files and "
                "fields; example_*: whole contracts."
            ),
        ],
        offset: Annotated[int, Field(ge=0, le=10**6, description="The first line.")] = 0,
        max_characters: Annotated[
            int, Field(ge=1000, le=LARGEST_SIZE, description="At most so many are returned.")
        ] = DEFAULT_SIZE,
    ) -> str:
        """Return a page of a reference text; its last line says where the next page begins."""
        folder = references_folder()
        if folder is None:
            raise EspdlQuantizeError("the references are not installed", "guide has the essentials")
        example = _EXAMPLES.get(topic)
        path = folder / f"{topic}.md" if example is None else folder.parent / "assets" / example
        lines = path.read_text(encoding="utf-8").splitlines()
        shown, size = [], 0
        for line in lines[offset:]:
            # Quotes and line ends take two characters on the wire.
            size += len(line) + 2 + line.count('"') + line.count("\\")
            if size > max_characters - 500:
                break
            shown.append(line)
        end = offset + len(shown)
        more = (
            f"\n(line {end} of {len(lines)}: go on with offset {end})" if end < len(lines) else ""
        )
        return "\n".join(shown) + more

    def init(
        self,
        *,
        model: Annotated[
            str | None,
            Field(
                max_length=1000,
                description="An ONNX file, or module:function that returns a torch model; its "
                "shapes and names are filled in. Without it: for a torch model, empty.",
            ),
        ] = None,
        contract: Annotated[str, Field(description="Where to write it; must be new.")] = (
            "user_quant.py"
        ),
    ) -> Written:
        """Write a commented starter contract for the user to fill in.

        Returns its path and what is open in it. Then call check_contract.
        """
        target = self._roots.resolve(contract, "contract")
        if target.suffix != ".py":
            raise UsageError(
                f"contract {contract!r} is no Python file", "give a name that ends in .py"
            )
        if target.exists():
            raise EspdlQuantizeError(f"{target} exists", "give another path; none is overwritten")
        if not target.parent.is_dir():
            raise UsageError(f"the folder {target.parent} does not exist", "give one that does")
        text = self._contract(model, target)
        with target.open("x", encoding="utf-8") as file:
            file.write(text)
        open_in_it = "data and evaluate" if model is not None else "model, data and evaluate"
        return Written(
            path=str(target),
            next=f"have the user fill in {open_in_it}, then call check_contract; reference "
            "{topic: contract} has the rules",
        )

    def _contract(self, model: str | None, target: Path) -> str:
        if model is None:
            return starter_contract("torch")
        if ":" in model and not model.endswith(".onnx"):
            return starter_from(model, target)
        file = self._roots.resolve(model, "model")
        if not file.is_file() or file.suffix != ".onnx":
            raise UsageError(
                f"model {model!r}: {file} is no ONNX file",
                "give a .onnx file or module:function; leave it out for an empty torch contract",
            )
        return starter_from(str(file), target)
