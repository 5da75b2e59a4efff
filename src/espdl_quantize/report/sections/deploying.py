"""The setting and the script that make the best model again, and what to be wary of."""

from __future__ import annotations

import json
from collections.abc import Iterator

from espdl_quantize.core import to_jsonable
from espdl_quantize.record import History, ready_to_save
from espdl_quantize.report._blocks import Block, Bullets, Code, Paragraph, Step, section
from espdl_quantize.report._escape import plain
from espdl_quantize.report._snippet import how_exact, python_script

_SHOWN = 6


@section("Best setting", html=60, markdown=40, terminal=None)
def best_setting(step: Step) -> Iterator[Block]:
    """Show the setting that makes the best model."""
    yield Paragraph("best/model.espdl is the model to deploy. The setting below makes it again.")
    if step.best is None or step.best.setting is None:
        yield Paragraph("The setting of the best iteration cannot be read.", "empty")
        return
    # ASCII alone: a mark that turns the direction of text cannot make it read as something else.
    content = to_jsonable(ready_to_save(step.best.setting))
    text = json.dumps(content, indent=2, ensure_ascii=True, allow_nan=False)
    yield Code("best-setting", "Best setting (setting.json)", "json", text)


@section("Python snippet", html=70, markdown=50, terminal=None)
def python_code(step: Step) -> Iterator[Block]:
    """Show the script that needs esp-ppq alone, and how near it comes."""
    if step.best is None:
        return
    code = python_script(step.best)
    if not code:
        yield Paragraph("The setting of this iteration cannot be read.", "empty")
        return
    title = "The same in Python, with esp-ppq alone"
    yield Code("best-snippet", title, "python", code.removesuffix("\n"))
    yield Paragraph(how_exact(step.best), "note")


@section("Warnings", html=80, markdown=None, terminal=None)
def warnings(step: Step) -> Iterator[Block]:
    """Gather what the folder, best's artifacts and the iterations warn of."""
    lines = [plain(warning, 600) for warning in step.history.warnings]
    lines += [plain(problem, 600) for problem in step.situation.best_evidence.problems]
    lines += _of_iterations(step.history)
    if lines:
        yield Bullets(tuple(lines), kind="warnings")


def _of_iterations(history: History) -> Iterator[str]:
    """Join the iterations that have the same warning, as all with the same pass do."""
    names: dict[str, list[str]] = {}
    for record in history.iterations:
        for warning in record.warnings:
            names.setdefault(plain(warning, 600), []).append(record.name)
    for warning, iterations in names.items():
        more = len(iterations) - _SHOWN
        shown = ", ".join(iterations[:_SHOWN]) + (f" and {more} more" if more > 0 else "")
        yield f"{shown}: {warning}"
