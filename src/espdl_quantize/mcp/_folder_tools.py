"""The tools that read an output folder, and the one that ends its search."""

from __future__ import annotations

from dataclasses import asdict
from pathlib import Path
from typing import Annotated, Any, Literal

from pydantic import Field

from espdl_quantize.core import EspdlQuantizeError, OutputFolderError
from espdl_quantize.mcp._artifacts import first_that_fit, lines_of, list_folder, read_page
from espdl_quantize.mcp._models import (
    ArtifactPage,
    BoardSummary,
    Finalized,
    LintResult,
    NextStep,
    ReportPage,
    Row,
    Violation,
)
from espdl_quantize.mcp._roots import Roots
from espdl_quantize.mcp.jobs import JobStore
from espdl_quantize.record import locked
from espdl_quantize.report import compare, look
from espdl_quantize.report import lint as lint_folder
from espdl_quantize.search import Open, Proposal, Stop
from espdl_quantize.setting import parse_setting

OutputDir = Annotated[str, Field(description="The output folder, which holds iter_0.")]
Offset = Annotated[int, Field(ge=0, description="The first row or line.")]
_RANKED = 50
_LINES = 200


class FolderTools:
    """None of them runs the user's module."""

    def __init__(self, roots: Roots, store: JobStore) -> None:
        self._roots, self._store = roots, store

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
        hint = comparison["next_step_hint"]
        return NextStep(
            output_dir=str(outputs),
            phase=decision.phase,
            advice=str(hint["advice"]),
            iteration=history.next_id if proposal is None else proposal.setting.iteration_id,
            setting=None if proposal is None else proposal.setting.model_dump(exclude_none=True),
            lever=None if proposal is None else proposal.lever,
            stop=decision.detail if isinstance(decision, Stop) else None,
            metric=history.metric,
            best_iteration=None if best is None else best.id,
            best_value=None if best is None else best.value,
            ranking=[_row(row) for row in comparison["iterations"][-_RANKED:]],
            skipped_levers=[asdict(skip) for skip in decision.skipped],
            notes=list(decision.notes),
            warnings=comparison["ranking_warnings"],
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
        found = lint_folder(outputs, parse_setting({**setting, "iteration_id": number}))
        rows = [
            Violation(rule=one.rule, iteration=one.iteration_id, found=one.found, hint=one.hint)
            for one in found
        ]
        return LintResult(ok=not rows, violations=rows)

    def artifacts(
        self,
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
            rows = look(outputs).comparison["iterations"]
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
        name = "best" if iteration == "best" else f"iter_{iteration}"
        folder = self._roots.resolve(outputs / name, "the iteration's folder")
        if not folder.is_dir():
            raise OutputFolderError(f"{folder} does not exist", "artifacts lists the iterations")
        if file is None:
            return ArtifactPage(path=str(folder), files=list_folder(folder, self._roots))
        return read_page(folder, file, self._roots, op, op_type, columns, offset, limit)

    def finalize(
        self,
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
            hint = "next_step says what to run"
            if plan.premature:
                hint += "; force_finalize ends the search all the same"
            raise EspdlQuantizeError(plan.refusal or "no iteration has a score", hint)
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
        path = self._roots.resolve(outputs / "final_report.md", "the report")
        if not path.is_file():
            raise OutputFolderError(
                f"{outputs} has no final_report.md", "finalize writes it; tune does so at its end"
            )
        lines = lines_of(path)
        shown = first_that_fit(lines[offset : offset + limit])
        end = offset + len(shown)
        best, html = outputs / "best", outputs / "report.html"
        return ReportPage(
            path=str(path),
            text="\n".join(shown),
            total_lines=len(lines),
            offset=offset,
            next_offset=end if end < len(lines) else None,
            report_html=str(html) if html.is_file() else None,
            best=str(best) if best.is_dir() else None,
            best_files=[one.name for one in list_folder(best, self._roots)],
        )

    def _folder(self, output_dir: str) -> Path:
        outputs = self._roots.resolve(output_dir, "output_dir")
        if not outputs.is_dir():
            raise OutputFolderError(
                f"{outputs} does not exist", "tune and run_iteration make it; or give another one"
            )
        return outputs


def _row(row: dict[str, Any]) -> Row:
    rank, interval, signals = row["rank"], row["interval"], row["signals"] or {}
    return Row(
        iteration=row["iteration_id"],
        rank=rank if isinstance(rank, int) else None,
        value=row["primary_value"],
        delta=row["delta_vs_prior_best"],
        outcome=row["outcome"],
        interval=None if interval is None else (interval["low"], interval["high"]),
        noise_signal=signals.get("noise_signal"),
        agreement=signals.get("agreement"),
        changed=row["changed"],
        slower_on_chip=row["affects_inference_speed"],
        engine=_engine(row),
        on_board=None if row["device"] is None else BoardSummary(**row["device"]),
        error=row["error"],
        attempts=row["attempts"],
    )


def _engine(row: dict[str, Any]) -> str | None:
    engine: str | None = row["engine"]
    parts = [
        f"{one['part']} ({one['layer']})" if one["layer"] else one["part"]
        for one in row["engine_fallbacks"]
    ]
    if engine is None or not parts:
        return engine
    return f"{engine}, and plain esp-ppq for {'; '.join(parts)}"
