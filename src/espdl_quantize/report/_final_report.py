"""The text of final_report.md, and when it may be written."""

from __future__ import annotations

from pathlib import Path

from espdl_quantize.core import OutputFolderError
from espdl_quantize.record import Iteration
from espdl_quantize.report._certainty import (
    certainty_lines,
    final_lines,
    score_source,
    show_interval,
    show_signals,
    verdict_of,
)
from espdl_quantize.report._chip import chip_lines
from espdl_quantize.report._comparison import changes_of, cost_of, delta_of, outcome_of, rank_of
from espdl_quantize.report._engine import engine_of
from espdl_quantize.report._escape import json_block, md, number
from espdl_quantize.report._finalize import FinalizeReason
from espdl_quantize.report._findings import float_value, key_findings, remaining_gap
from espdl_quantize.report._script import how_exact, python_script
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
    best = situation.history.best
    if best is None:
        raise ValueError("a report needs an iteration with a score")
    name, chip = best.model_name or "model", best.target_chip or "unknown chip"
    sections = [
        f"{MARKER}\n# Final report: {md(name)} on {md(chip)}",
        "## Summary\n\n" + _bullets(_summary(situation, best)),
        "## Stop reason\n\n" + _bullets(_stop(reason)),
        "## Iteration history\n\n" + _table(situation),
        "## Best setting\n\n" + json_block(_setting_of(best)),
        "## Python snippet\n\n" + _snippet(best),
        "## Key findings\n\n" + _bullets(key_findings(situation)),
    ]
    on_chip = chip_lines(situation.history)
    if on_chip:
        sections.append("## On the chip\n\n" + _bullets([md(line, 400) for line in on_chip]))
    gap = remaining_gap(situation, decision)
    if gap:
        sections.append("## Remaining gap\n\n" + _bullets(gap))
    return "\n\n".join(sections) + "\n"


def write_report(path: Path, text: str, force: bool = False) -> bool:
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


def _summary(situation: SearchState, best: Iteration) -> list[str]:
    history, target = situation.history, situation.options.target
    metric = md(history.metric or "metric")
    aim = "not set" if target is None else number(target)
    lines = [
        f"Best iteration: {best.name}",
        f"{metric}: {number(best.value)} (target: {aim}; {history.direction} is better)",
    ]
    reference = float_value(history, best)
    if reference is not None and best.value is not None:
        lines.append(
            f"Float model: {number(reference)} "
            f"(quantized: {number(best.value - reference, sign=True)})"
        )
    lines += [md(line, 900) for line in (*certainty_lines(history), *final_lines(history))]
    lines.append(md(score_source(history), 600))
    lines.append(f"On-device speed cost against the baseline: {md(cost_of(best))}")
    others = [
        f"{md(key)} {md(_metric(value))}"
        for key, value in best.metrics.items()
        if key not in (history.metric, "metric_direction")
    ]
    if others:
        lines.append(f"Other metrics: {', '.join(others[:30])}")
    seconds = sum(row.elapsed_seconds or 0 for row in history.iterations)
    lines.append(f"Iterations: {len(history.iterations)}, {len(history.failed)} of them failed")
    if seconds:
        lines.append(f"Time on the PC: {seconds / 60:.1f} minutes")
    engine = engine_of(history)
    if engine:
        lines.append(f"Engine: {md(engine, 300)}")
    lines += [f"Warning: {md(warning)}" for warning in history.warnings]
    return lines


def _metric(value: object) -> str:
    return number(value) if isinstance(value, float) else str(value)


def _stop(reason: FinalizeReason) -> list[str]:
    lines = [f"Category: {reason.category}", md(reason.detail, 600)]
    for name, items in (
        ("Untried patterns", reason.untried_phase5_patterns),
        ("Untried levers", reason.untried_phase3_levers),
        ("Calibrations to try again on the deeper stack", reason.untried_5beta_reapply),
    ):
        if items:
            lines.append(f"{name}: {', '.join(items)}")
    return lines


def _table(situation: SearchState) -> str:
    history = situation.history
    metric = md(history.metric or "metric")
    head: tuple[str, ...] = ("iter", "method changed", metric, "95 % interval", "delta", "outcome")
    head += ("against best", "output noise:signal", "agrees with float", "rank")
    head += ("affects inference speed",)
    rows = [head, tuple("---" for _ in head)]
    for row in history.iterations:
        rows.append(
            (
                str(row.id),
                md(changes_of(history, row)),
                number(row.value),
                show_interval(history.noise.interval(row)),
                number(delta_of(history, row), sign=True),
                md(outcome_of(history, row)),
                verdict_of(history, row),
                *show_signals(row),
                str(rank_of(history, row)),
                md(cost_of(row)),
            )
        )
    return "\n".join(f"| {' | '.join(cells)} |" for cells in rows)


def _setting_of(best: Iteration) -> object:
    return None if best.setting is None else best.setting.model_dump(exclude_none=True)


def _snippet(best: Iteration) -> str:
    code = python_script(best)
    if not code:
        return "The setting of this iteration cannot be read."
    return f"```python\n{code}```\n\n{how_exact(best)}"


def _bullets(lines: list[str]) -> str:
    return "\n".join(f"- {line}" for line in lines) or "- Nothing stands out."
