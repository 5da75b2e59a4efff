"""What the calls return: objects that a program reads and a notebook shows."""

from __future__ import annotations

import html
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from espdl_quantize.core import InstallationError
from espdl_quantize.gate import GateReport
from espdl_quantize.record import History, Iteration
from espdl_quantize.record.comparison import ComparedIteration, ScoreInterval
from espdl_quantize.record.files import BEST, MODEL
from espdl_quantize.report import (
    FolderDiff,
    certainty_lines,
    final_lines,
    folder_names,
    look,
    render_again,
)

if TYPE_CHECKING:
    import pandas

_STYLE = "text-align:left;vertical-align:top"


@dataclass(frozen=True)
class Result:
    """An output folder with the iterations of a search.

    In a notebook it shows itself as a table.

    Attributes:
        folder: the output folder.
        history: its iterations, ranked.
        rows: the same as in comparison.json: change, score, interval, rank, outcome.
        stop: why the search stopped, and the numbers behind it; None where this is not known.
    """

    folder: Path
    history: History
    rows: tuple[ComparedIteration, ...]
    stop: tuple[str, str] | None = None

    @classmethod
    def of(cls, folder: Path, stop: tuple[str, str] | None = None) -> Result:
        """Read a folder.

        Raises:
            OutputFolderError: it cannot be read.
        """
        standing = look(folder)
        return cls(folder, standing.history, standing.comparison.iterations, stop)

    @property
    def best(self) -> Iteration | None:
        """The iteration to deploy: ``best.value``, ``best.setting``, ``best.folder``."""
        return self.history.best

    @property
    def baseline(self) -> Iteration | None:
        """The first iteration: esp-ppq's own defaults."""
        return next(iter(self.history.iterations), None)

    @property
    def float_value(self) -> float | None:
        """What the float model scores on the same samples as best."""
        return None if self.best is None else self.history.float_value(self.best)

    @property
    def model(self) -> Path | None:
        """The best model's .espdl file; None where there is none yet."""
        path = self.folder / BEST / MODEL
        return path if path.is_file() else None

    def report(self) -> Path:
        """Write the report as one HTML page that opens without a network, and return its path.

        Raises:
            OutputFolderError: it cannot be written.
        """
        return render_again(self.folder).html

    def to_pandas(self) -> pandas.DataFrame:
        """Return a row per iteration, all columns of comparison.json that hold one value.

        Raises:
            InstallationError: pandas is not installed.
        """
        try:
            import pandas
        except ImportError as error:
            raise InstallationError("to_pandas() needs pandas", "pip install pandas") from error
        scalar = (str, int, float, bool, type(None))
        kept = [
            name
            for name in ComparedIteration.model_fields
            if all(isinstance(getattr(row, name), scalar) for row in self.rows)
        ]
        return pandas.DataFrame(
            [[getattr(row, name) for name in kept] for row in self.rows], columns=kept
        ).set_index("iteration_id")

    def summary(self) -> str:
        """Say in a few lines what came of the search, and how sure that is."""
        lines = [f"{len(self.rows)} iterations in {self.folder}"]
        if self.stop is not None:
            lines.append(f"stopped ({self.stop[0]}): {self.stop[1]}")
        best = self.best
        if best is not None and best.value is not None:
            line = f"best: {best.name}, {self.history.metric} {best.value:.6g}"
            if self.float_value is not None:
                line += f" (float {self.float_value:.6g})"
            lines += [line, *certainty_lines(self.history), *final_lines(self.history)]
        return "\n".join(lines)

    def __repr__(self) -> str:
        return self.summary()

    def _repr_html_(self) -> str:
        heads = ("", "iter", "changed", self.history.metric or "metric", "95 %", "outcome")
        cells = [
            (
                "★" if self.best is not None and row.iteration_id == self.best.id else "",
                str(row.iteration_id),
                row.changed,
                "failed" if row.primary_value is None else f"{row.primary_value:.6g}",
                ""
                if row.interval is None
                else f"{row.interval.low:.4g} to {row.interval.high:.4g}",
                row.outcome,
            )
            for row in self.rows
        ]
        return _table(heads, cells) + _lines(self.summary())


@dataclass(frozen=True)
class Diff:
    """Two output folders side by side.

    In a notebook it shows itself as a table.

    Attributes:
        content: line by line: ``content.facts``, ``content.layers``, ``content.settings``.
    """

    content: FolderDiff

    def html(self) -> str:
        """Return a whole page."""
        return self.content.html()

    def __repr__(self) -> str:
        lines = [f"{fact.name}: {fact.first} | {fact.second}" for fact in self.content.facts]
        return "\n".join([self.content.verdict, *lines, *self.content.notes])

    def _repr_html_(self) -> str:
        rows = [(fact.name, fact.first, fact.second, fact.change) for fact in self.content.facts]
        heads = ("", *folder_names(self.content.folders), "change")
        return _lines(self.content.verdict) + _table(heads, rows)


@dataclass(frozen=True)
class CheckResult:
    """What an examination of a contract found.

    Attributes:
        gate: the findings, and the facts of the contract.
    """

    gate: GateReport

    @property
    def ok(self) -> bool:
        """Whether there is no fault; warnings may be."""
        return self.gate.error is None

    def raise_for_faults(self) -> None:
        """Raise what the faults come to.

        Raises:
            EspdlQuantizeError: there is a fault.
        """
        if self.gate.error is not None:
            raise self.gate.error

    def __bool__(self) -> bool:
        return self.ok

    def _cells(self) -> Iterator[tuple[str, ...]]:
        for finding in self.gate.findings:
            yield str(finding.kind), finding.subject, finding.message, str(finding.hint)

    def _verdict(self) -> str:
        return "the contract holds" if self.ok else "the contract does not hold"

    def __repr__(self) -> str:
        facts = [f"{name}: {value}" for name, value in self.gate.facts.items()]
        found = [
            f"{kind}: {subject}: {message}" + (f"; {hint}" if hint else "")
            for kind, subject, message, hint in self._cells()
        ]
        return "\n".join([*facts, *found, self._verdict()])

    def _repr_html_(self) -> str:
        heads = ("", "where", "what was found", "remedy")
        table = _table(heads, list(self._cells())) if self.gate.findings else ""
        facts = "\n".join(f"{name}: {value}" for name, value in self.gate.facts.items())
        return _lines(facts) + table + _lines(self._verdict())


def _between(interval: ScoreInterval | None) -> str:
    return "" if interval is None else f"{interval.low:.4g} to {interval.high:.4g}"


def _table(heads: Sequence[str], rows: Sequence[Sequence[str]]) -> str:
    # Scores and names come from the user's code and files.
    head = "".join(f'<th style="{_STYLE}">{html.escape(text)}</th>' for text in heads)
    body = "".join(
        "<tr>" + "".join(f'<td style="{_STYLE}">{html.escape(cell)}</td>' for cell in row) + "</tr>"
        for row in rows
    )
    return f"<table><thead><tr>{head}</tr></thead><tbody>{body}</tbody></table>"


def _lines(text: str) -> str:
    return "".join(f"<div>{html.escape(line)}</div>" for line in text.splitlines())
