"""The tools that read an output folder, and the one that ends its search."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Any, Literal

from pydantic import Field

from espdl_quantize.core import EspdlQuantizeError, OutputFolderError
from espdl_quantize.mcp._models import (
    ArtifactPage,
    BoardSummary,
    Finalized,
    FolderStatus,
    LintResult,
    NextStep,
    ReportPage,
    Row,
    Violation,
)
from espdl_quantize.mcp._roots import Roots
from espdl_quantize.mcp._spelling import MCP
from espdl_quantize.mcp._tool import ENDS, READS, Tool
from espdl_quantize.mcp.artifacts import first_that_fit, lines_of, list_folder, read_page
from espdl_quantize.mcp.jobs import JobStore
from espdl_quantize.record import locked
from espdl_quantize.record.comparison import ComparedIteration
from espdl_quantize.record.files import BEST, HTML_REPORT, REPORT, iteration_name
from espdl_quantize.report import certainty_lines, compare, look
from espdl_quantize.report import lint as lint_folder
from espdl_quantize.search import Open, Proposal, Stop
from espdl_quantize.setting import parse_setting

OutputDir = Annotated[str, Field(description="The output folder, which holds iter_0.")]
Offset = Annotated[int, Field(ge=0, description="The first row or line.")]
_RANKED = 50
_LINES = 200
_WARNINGS = 20


class FolderTools:
    """None of them runs the user's module."""

    def __init__(self, roots: Roots, store: JobStore) -> None:
        self._roots, self._store = roots, store

    def tools(self) -> tuple[Tool, ...]:
        """Return the tools of this module."""
        return (
            Tool(self.next_step, "Say what to run next", READS),
            Tool(self.lint_setting, "Check a setting", READS),
            Tool(self.artifacts, "Read the files of an iteration", READS),
            Tool(self.finalize, "End a search", ENDS),
            Tool(self.report, "Read the final report", READS),
        )

    def next_step(self, output_dir: OutputDir = "outputs") -> NextStep:
        """Say what the search would run next and why, with the setting where it is ready.

        In open exploration (phase 5) the setting is yours to write: the advice names what gained,
        what lost and what the data suggests. Writes nothing.
        """
        outputs = self._folder(output_dir)
        standing = look(outputs)
        decision, history = standing.decision, standing.history
        best, comparison = history.best, standing.comparison
        proposal = decision if isinstance(decision, Proposal) else None
        hint = comparison.next_step_hint
        return NextStep(
            output_dir=str(outputs),
            phase=decision.phase,
            advice=MCP.spell(hint.advice),
            iteration=history.next_id if proposal is None else proposal.setting.iteration_id,
            setting=None if proposal is None else proposal.setting.model_dump(exclude_none=True),
            lever=None if proposal is None else proposal.lever,
            stop=decision.detail if isinstance(decision, Stop) else None,
            metric=history.metric,
            best_iteration=None if best is None else best.id,
            best_value=None if best is None else best.value,
            ranking=[_row(row) for row in comparison.iterations[-_RANKED:]],
            skipped_levers=[skip.to_json() for skip in hint.skipped_levers],
            notes=list(map(MCP.spell, decision.notes)),
            warnings=list(comparison.ranking_warnings),
            phase5_signals=decision.signals.to_json() if isinstance(decision, Open) else None,
        )

    def lint_setting(
        self,
        setting: Annotated[dict[str, Any], Field(description="See the resource setting-schema.")],
        output_dir: OutputDir = "outputs",
    ) -> LintResult:
        """Check a hand-written setting against the rules of the search and the model's ops."""
        outputs = self._folder(output_dir)
        number = setting.get("iteration_id", look(outputs).history.next_id)
        broken = lint_folder(outputs, parse_setting({**setting, "iteration_id": number}))
        violations = [
            Violation(
                rule=violation.rule,
                iteration=violation.iteration_id,
                found=violation.found,
                hint=MCP.spell(violation.hint),
            )
            for violation in broken
        ]
        return LintResult(ok=not violations, violations=violations)

    def artifacts(
        self,
        *,
        output_dir: OutputDir = "outputs",
        iteration: Annotated[
            int | Literal["best"] | None,
            Field(description="The N of iter_N, or 'best'; without it, the iterations are listed."),
        ] = None,
        file: Annotated[
            str | None, Field(description="A file's name; without it, the files are listed.")
        ] = None,
        op: Annotated[
            str | None, Field(description="Only rows of this op; a name, or a pattern with *.")
        ] = None,
        op_type: Annotated[
            str | None, Field(description="Only rows of ops of this type, such as Conv.")
        ] = None,
        columns: Annotated[
            list[str] | None, Field(description="Only these keys of each row.")
        ] = None,
        offset: Offset = 0,
        limit: Annotated[int, Field(ge=1, le=500, description="At most so many rows.")] = 50,
    ) -> ArtifactPage:
        """Read what an iteration left: errors by op, statistics, jumps, settings, the log.

        Pages hold at most ``limit`` rows and about 40,000 characters; next_offset has the rest.
        """
        outputs = self._folder(output_dir)
        if iteration is None:
            if file is not None or op is not None or op_type is not None:
                raise EspdlQuantizeError(
                    "file, op and op_type need an iteration", "give the N of iter_N, or 'best'"
                )
            rows = look(outputs).comparison.iterations
            listed = [_row(row).model_dump() for row in rows[offset : offset + limit]]
            end = offset + len(listed)
            return ArtifactPage(
                path=str(outputs),
                files=list_folder(outputs, self._roots),
                rows=listed,
                total=len(rows),
                offset=offset,
                next_offset=end if end < len(rows) else None,
            )
        name = "best" if iteration == "best" else iteration_name(iteration)
        folder = self._roots.resolve(outputs / name, "the iteration's folder")
        if not folder.is_dir():
            raise OutputFolderError(f"{folder} does not exist", "artifacts lists the iterations")
        if file is None:
            return ArtifactPage(path=str(folder), files=list_folder(folder, self._roots))
        return read_page(
            folder,
            file,
            self._roots,
            op=op,
            op_type=op_type,
            columns=columns,
            offset=offset,
            limit=limit,
        )

    def finalize(
        self,
        *,
        output_dir: OutputDir = "outputs",
        force_finalize: Annotated[
            bool, Field(description="Also in open exploration, phase 5.")
        ] = False,
        force: Annotated[
            bool, Field(description="Rewrite final_report.md even where it was edited.")
        ] = False,
    ) -> Finalized:
        """End the search: write best/, final_report.md and report.html.

        They are rewritten every time; an edited final_report.md is kept unless forced.
        """
        outputs = self._folder(output_dir)
        self._store.check_free(outputs)
        with locked(outputs):
            done = compare(outputs, finalize=True, force=force, force_finalize=force_finalize)
        plan, best = done.plan, done.history.best
        if plan.refusal or plan.reason is None or best is None or done.best_folder is None:
            refusal = MCP.spell(plan.refusal or "no iteration has a score")
            hint = "next_step says what to run"
            if plan.premature:
                hint += "; force_finalize ends the search all the same"
            raise EspdlQuantizeError(refusal, hint)
        return Finalized(
            output_dir=str(outputs),
            category=plan.reason.category,
            detail=plan.reason.detail,
            best_iteration=best.id,
            best_value=best.value,
            best=str(done.best_folder),
            report=None if done.report is None else str(done.report),
            report_html=None if done.html is None else str(done.html),
        )

    def report(
        self,
        output_dir: OutputDir = "outputs",
        offset: Offset = 0,
        limit: Annotated[int, Field(ge=1, le=1000, description="At most so many lines.")] = _LINES,
    ) -> ReportPage:
        """Read final_report.md, and say where best/ and report.html are."""
        outputs = self._folder(output_dir)
        path = self._roots.resolve(outputs / REPORT, "the report")
        if not path.is_file():
            raise OutputFolderError(
                f"{outputs} has no final_report.md", "finalize writes it; tune does so at its end"
            )
        lines = lines_of(path)
        shown = first_that_fit(lines[offset : offset + limit])
        end = offset + len(shown)
        best, html = outputs / BEST, outputs / HTML_REPORT
        return ReportPage(
            path=str(path),
            text="\n".join(shown),
            total_lines=len(lines),
            offset=offset,
            next_offset=end if end < len(lines) else None,
            report_html=str(html) if html.is_file() else None,
            best=str(best) if best.is_dir() else None,
            best_files=[file.name for file in list_folder(best, self._roots)],
        )

    def _folder(self, output_dir: str) -> Path:
        outputs = self._roots.resolve(output_dir, "output_dir")
        if not outputs.is_dir():
            raise OutputFolderError(
                f"{outputs} does not exist", "tune and run_iteration make it; or give another one"
            )
        return outputs


def _row(record: ComparedIteration) -> Row:
    rank, interval, signals = record.rank, record.interval, record.signals
    return Row(
        iteration=record.iteration_id,
        rank=rank if isinstance(rank, int) else None,
        value=record.primary_value,
        delta=record.delta_vs_prior_best,
        outcome=record.outcome,
        interval=None if interval is None else (interval.low, interval.high),
        noise_signal=None if signals is None else signals.noise_signal,
        agreement=None if signals is None else signals.agreement,
        changed=record.changed,
        slower_on_chip=record.affects_inference_speed,
        engine=_engine(record),
        on_board=None if record.device is None else BoardSummary(**record.device.to_json()),
        error=record.error,
        attempts=[attempt.to_json() for attempt in record.attempts],
    )


def _engine(record: ComparedIteration) -> str | None:
    parts = [
        f"{fallback.part} ({fallback.layer})" if fallback.layer else fallback.part
        for fallback in record.engine_fallbacks
    ]
    if record.engine is None or not parts:
        return record.engine
    return f"{record.engine}, and plain esp-ppq for {'; '.join(parts)}"


def folder_status(outputs: Path) -> FolderStatus:
    """Read an output folder; nothing is written.

    Raises:
        OutputFolderError: it does not exist, or cannot be read.
    """
    if not outputs.is_dir():
        raise OutputFolderError(
            f"{outputs} does not exist", "start tune or run_iteration, which make it"
        )
    standing = look(outputs)
    history = standing.history
    best, report = history.best, outputs / REPORT
    return FolderStatus(
        output_dir=str(outputs),
        iterations=len(history.iterations),
        failed=len(history.failed),
        phase=standing.decision.phase,
        metric=history.metric,
        direction=history.direction,
        best_iteration=None if best is None else best.id,
        best_value=None if best is None else best.value,
        float_value=None if best is None else history.float_value(best),
        gap_closed=history.gap_closed,
        no_gap=history.no_gap,
        certainty=list(map(MCP.spell, certainty_lines(history))),
        warnings=[MCP.spell(warning.text) for warning in history.warnings[:_WARNINGS]],
        report=str(report) if report.is_file() else None,
    )
