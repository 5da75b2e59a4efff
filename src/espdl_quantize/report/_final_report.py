"""final_report.md: its frame, and when it may be written."""

from __future__ import annotations

from pathlib import Path

from espdl_quantize.core import OutputFolderError
from espdl_quantize.report._blocks import Step, make_step
from espdl_quantize.report._escape import md
from espdl_quantize.report._finalize import FinalizePlan, FinalizeReason
from espdl_quantize.report._render import markdown_sections
from espdl_quantize.report._text_file import write_text
from espdl_quantize.search import Decision, SearchState

_MARK = "<!-- espdl-quantize:report"
MARKER = (
    f"{_MARK} - rewritten by every finalize while this line stands. Add to Key findings and "
    "Remaining gap, then delete this line to keep your edits. -->"
)
"""First line of a report that may be overwritten."""


def render_report(situation: SearchState, decision: Decision, reason: FinalizeReason) -> str:
    """Write the report on the best iteration.

    Raises:
        ValueError: no iteration has a score.
    """
    return markdown_report(make_step(situation, decision, FinalizePlan(reason=reason)))


def markdown_report(step: Step) -> str:
    """Write the report on the best iteration.

    Raises:
        ValueError: no iteration has a score.
    """
    best = step.best
    if best is None:
        raise ValueError("a report needs an iteration with a score")
    name, chip = best.model_name or "model", best.target_chip or "unknown chip"
    head = f"{MARKER}\n# Final report: {md(name)} on {md(chip)}"
    return "\n\n".join([head, *markdown_sections(step)]) + "\n"


def write_report(path: Path, text: str, *, force: bool = False) -> bool:
    """Write the report unless somebody has made it theirs.

    Returns:
        False where the file stands without the marker line and ``force`` is not set.
    """
    if not force and path.exists() and not is_ours(path):
        return False
    write_text(path, text)
    return True


def is_ours(path: Path) -> bool:
    """Tell whether the first line of a report is still the marker."""
    try:
        with path.open(encoding="utf-8-sig") as file:
            return file.readline().startswith(_MARK)
    except UnicodeDecodeError:
        return False
    except OSError as error:
        raise OutputFolderError(f"{path} cannot be read: {error.strerror or error}") from error
