"""What report.html shows, as plain data for its template."""

from __future__ import annotations

import json
from collections import Counter
from dataclasses import dataclass
from typing import Any

from espdl_quantize.core import to_jsonable
from espdl_quantize.record import Evidence, History, Iteration
from espdl_quantize.report._certainty import (
    certainty_lines,
    final_lines,
    show_interval,
    show_signals,
    verdict_of,
)
from espdl_quantize.report._chip import chip_lines
from espdl_quantize.report._comparison import (
    attempts_of,
    changes_of,
    cost_of,
    delta_of,
    outcome_of,
    rank_of,
    ready_to_save,
)
from espdl_quantize.report._engine import engine_of
from espdl_quantize.report._escape import number, plain
from espdl_quantize.report._finalize import FinalizeReason
from espdl_quantize.report._findings import key_findings, remaining_gap
from espdl_quantize.report._headline import headline
from espdl_quantize.report._page_text import duration, from_md
from espdl_quantize.report._script import how_exact, python_script
from espdl_quantize.report.figures import (
    Figure,
    LayerRow,
    cost_figure,
    layer_figure,
    layer_rows,
    lever_figure,
    metric_figure,
)
from espdl_quantize.search import Decision, SearchState, int16_ops

Json = dict[str, Any]

_RATIONALE = 1500


@dataclass(frozen=True)
class Charts:
    """The figures of the page, by what they show."""

    metric: Figure
    layers: Figure
    levers: Figure
    cost: Figure

    def all(self) -> tuple[Figure, ...]:
        """Return them in the order of the page."""
        return (self.metric, self.levers, self.cost, self.layers)


def build_page(situation: SearchState, decision: Decision, reason: FinalizeReason | None) -> Json:
    """Gather everything that the template names; text is unescaped, the template escapes it.

    Args:
        situation: the history with settled options.
        decision: the next step.
        reason: why the search was ended; None where it goes on.
    """
    history, best = situation.history, situation.history.best
    first = history.baseline
    layers = _layers(situation, first)
    return {
        "name": plain(_stated(history, "model_name") or "model"),
        "chip": plain(_stated(history, "target_chip") or "unknown chip"),
        "metric": plain(history.metric or "metric", 60),
        "direction": "higher" if history.direction == "max" else "lower",
        "headline": headline(situation, first, reason),
        "charts": Charts(
            metric_figure(situation),
            layer_figure(
                layers,
                first.name if first else "",
                best.name if best else "",
                situation.options.thresholds.layer_snr,
            ),
            lever_figure(history),
            cost_figure(situation),
        ),
        "rows": _rows(situation),
        "layers": [
            {
                "op": plain(row.op, 200),
                "type": plain(row.op_type, 60) or "-",
                "baseline": _ratio(row.baseline),
                "best": _ratio(row.best),
                "width": "int16" if row.is_int16 else "default",
            }
            for row in layers
        ],
        "layers_of": {"first": first.name if first else "", "best": best.name if best else ""},
        "setting": _setting(best),
        "snippet": _snippet(best),
        "how_exact": "" if best is None else how_exact(best),
        "on_chip": [plain(line, 400) for line in chip_lines(history)],
        "certainty": [
            plain(line, 900) for line in (*certainty_lines(history), *final_lines(history))
        ],
        "findings": [from_md(line) for line in key_findings(situation)],
        "gap": [from_md(line) for line in remaining_gap(situation, decision)],
        "warnings": _warnings(situation),
        "facts": _facts(history),
    }


def _stated(history: History, name: str) -> str | None:
    """Return what the best says about itself, else whichever iteration does."""
    rows = ([history.best] if history.best else []) + list(history.iterations)
    return next((value for row in rows if (value := getattr(row, name))), None)


def _layers(situation: SearchState, first: Iteration | None) -> list[LayerRow]:
    best = situation.history.best
    if first is None or best is None:
        return []
    before = situation.evidence.get(first.id, Evidence())
    wide = int16_ops(best.setting) if best.setting else ()
    return layer_rows(before, situation.best_evidence, wide)


def _ratio(value: float | None) -> str:
    return "-" if value is None else f"{value:.4g}"


def _rows(situation: SearchState) -> list[Json]:
    history = situation.history
    best = history.best
    return [
        {
            "id": row.id,
            "changed": plain(changes_of(history, row), 600),
            "rationale": plain(row.rationale, _RATIONALE),
            "failure": plain(row.failure, 600) if row.failure else "",
            "attempts": plain(attempts_of(row), 600),
            "value": number(row.value),
            "interval": show_interval(history.noise.interval(row)),
            "delta": number(delta_of(history, row), sign=True),
            "outcome": outcome_of(history, row),
            "against_best": verdict_of(history, row),
            "noise": show_signals(row)[0],
            "agreement": show_signals(row)[1],
            "rank": rank_of(history, row),
            "cost": plain(cost_of(row)),
            "elapsed": duration(row.elapsed_seconds),
            "is_best": best is not None and row.id == best.id,
        }
        for row in history.iterations
    ]


def _setting(best: Iteration | None) -> str:
    if best is None or best.setting is None:
        return ""
    # ASCII alone: a mark that turns the direction of text cannot make it read as something else.
    return json.dumps(to_jsonable(ready_to_save(best.setting)), indent=2, ensure_ascii=True)


def _snippet(best: Iteration | None) -> str:
    return "" if best is None else python_script(best)


def _warnings(situation: SearchState) -> list[str]:
    history = situation.history
    told = [plain(warning, 600) for warning in history.warnings]
    told += [plain(problem, 600) for problem in situation.best_evidence.problems]
    # The same warning comes with every iteration that has the same pass.
    said: dict[str, list[str]] = {}
    for row in history.iterations:
        for warning in row.warnings:
            said.setdefault(plain(warning, 600), []).append(row.name)
    for warning, names in said.items():
        shown = ", ".join(names[:6]) + (f" and {len(names) - 6} more" if len(names) > 6 else "")
        told.append(f"{shown}: {warning}")
    return told


def _facts(history: History) -> list[tuple[str, str]]:
    seconds = sum(row.elapsed_seconds or 0.0 for row in history.iterations)
    facts = [
        ("Iterations", f"{len(history.iterations)}, {len(history.failed)} of them failed"),
        ("Time on the PC", duration(seconds or None)),
    ]
    engine = engine_of(history)
    if engine:
        facts.append(("Engine", plain(engine, 300)))
    for title, name in (("esp-ppq", "esp_ppq_version"), ("Seed", "seed")):
        used = Counter(getattr(row, name) for row in history.iterations)
        used.pop(None, None)
        if used:
            facts.append((title, ", ".join(plain(value, 60) for value in used)))
    return facts
