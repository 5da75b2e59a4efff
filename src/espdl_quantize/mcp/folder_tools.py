"""The tools that read an output folder, and the one that ends its search."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Annotated, Any, Literal

from pydantic import Field, WithJsonSchema

from espdl_quantize.core import EspdlQuantizeError, OutputFolderError, UsageError
from espdl_quantize.mcp._models import (
    ArtifactPage,
    BoardSummary,
    Finalized,
    FolderDifference,
    FolderStatus,
    LintResult,
    NextStep,
    RenderedReport,
    Row,
    Violation,
)
from espdl_quantize.mcp._roots import Roots
from espdl_quantize.mcp._spelling import MCP
from espdl_quantize.mcp._tool import ENDS, READS, Tool
from espdl_quantize.mcp.arguments import SETTING_FILE, SETTING_NAMES
from espdl_quantize.mcp.artifacts import first_that_fit, lines_of, list_folder, read_page
from espdl_quantize.mcp.jobs import JobStore
from espdl_quantize.mcp.options import IterationNumber
from espdl_quantize.mcp.texts import DEFAULT_SIZE, LARGEST_SIZE, quoted, shortened
from espdl_quantize.record import Iteration, locked
from espdl_quantize.record.comparison import ComparedIteration
from espdl_quantize.record.evidence import COLUMNS
from espdl_quantize.record.files import (
    ARTIFACTS,
    BEST,
    BEST_EXTRAS,
    BEST_FILES,
    DESCRIPTION,
    HTML_REPORT,
    REPORT,
    iteration_name,
)
from espdl_quantize.report import certainty_lines, compare, diff_folders, look, render_again
from espdl_quantize.report import lint as lint_folder
from espdl_quantize.search import Open, Proposal, Stop
from espdl_quantize.setting import load_setting, parse_setting

OutputDir = Annotated[str, Field(description="Output folder.")]
Offset = Annotated[int, Field(ge=0, le=10**9, description="The first row or line.")]
MaxCharacters = Annotated[
    int, Field(ge=1000, le=LARGEST_SIZE, description="At most so many are returned.")
]
_NAMES = sorted(ARTIFACTS | set(BEST_FILES) | set(BEST_EXTRAS) | {DESCRIPTION})
ArtifactName = Annotated[str, WithJsonSchema({"type": "string", "enum": _NAMES})]
Column = Annotated[str, WithJsonSchema({"type": "string", "enum": list(COLUMNS)})]
_RANKED = 8
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
            Tool(self.report, "Read the final report", READS, is_text=True),
            Tool(self.render_report, "Render the reports again", ENDS),
            Tool(self.compare_folders, "Compare two output folders", READS),
        )

    def next_step(self, output_dir: OutputDir = "outputs") -> NextStep:
        """Return what the search would run next and why, with the whole setting where it is ready.

        Then call run_iteration, whose default is that setting. The phase says where the search is;
        a lever is one prescribed change, such as bias correction. In open exploration (phase 5) the
        setting is yours to write: the advice names what gained, what lost and what the data
        suggests. Where stop is given, the search is over: finalize, then report. Writes nothing.
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
            costs=list(map(MCP.spell, comparison.cost_lines)),
            front=list(comparison.front),
            ranking=[_row(row) for row in _newest_and_best(comparison.iterations, best)],
            skipped_levers=[skip.to_json() for skip in hint.skipped_levers],
            notes=list(map(MCP.spell, decision.notes)),
            warnings=list(comparison.ranking_warnings),
            phase5_signals=decision.signals.to_json() if isinstance(decision, Open) else None,
            untrusted=["advice", "notes", "ranking", "phase5_signals", "warnings"],
        )

    def lint_setting(
        self,
        setting: Annotated[
            dict[str, Any] | str,
            WithJsonSchema(
                {
                    "anyOf": [SETTING_FILE, SETTING_NAMES],
                    "description": "As run_iteration takes it.",
                }
            ),
        ],
        output_dir: OutputDir = "outputs",
    ) -> LintResult:
        """Check a hand-written setting against the rules of the search and the model's ops.

        Returns each rule that it breaks with what to do; none are needed before the first
        iteration. Then call run_iteration with the setting.
        """
        setting = given_setting(setting, self._roots)
        outputs = self._roots.resolve(output_dir, "output_dir")
        if not outputs.is_dir():
            # Before the first iteration there is only its form.
            parse_setting({"iteration_id": 0, **setting})
            return LintResult(ok=True, violations=[])
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
            IterationNumber | Literal["best"] | None,
            Field(description="The N of iter_N, or 'best'; without it, the iterations are listed."),
        ] = None,
        file: Annotated[
            ArtifactName | None, Field(description="Without it, the files are listed.")
        ] = None,
        op: Annotated[
            str | None,
            Field(
                max_length=1000, description="Only rows of this op; a name, or a pattern with *."
            ),
        ] = None,
        op_type: Annotated[
            str | None,
            Field(max_length=100, description="Only rows of ops of this type, such as Conv."),
        ] = None,
        columns: Annotated[
            list[Column] | None,
            Field(max_length=20, description="Only these keys of each row."),
        ] = None,
        offset: Offset = 0,
        limit: Annotated[int, Field(ge=1, le=500, description="At most so many rows.")] = 50,
        max_characters: MaxCharacters = DEFAULT_SIZE,
    ) -> ArtifactPage:
        """Return rows of a raw file of an iteration, in pages; next_offset begins the next page.

        worst_ops, why and settings answer most questions without it.
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
            characters=max_characters // 2,
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
        """End the search: write best/, final_report.md and report.html, and return where they are.

        They are rewritten every time; an edited final_report.md is kept unless forced. Then call
        final_score and verify, finalize again, and report.
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
        *,
        output_dir: OutputDir = "outputs",
        offset: Offset = 0,
        max_characters: MaxCharacters = DEFAULT_SIZE,
    ) -> str:
        """Return a page of final_report.md, and where best/ and report.html are, for the user.

        The first line says where the next page begins. finalize writes the report, tune at its end.
        """
        outputs = self._folder(output_dir)
        path = self._roots.resolve(outputs / REPORT, "the report")
        if not path.is_file():
            raise OutputFolderError(
                f"{outputs} has no final_report.md", "finalize writes it; tune does so at its end"
            )
        lines = lines_of(path)
        best, html = outputs / BEST, outputs / HTML_REPORT
        files = ", ".join(file.name for file in list_folder(best, self._roots))
        head = [f"{path}: {len(lines)} lines"]
        head += [f"best model: {best} ({files})"] if best.is_dir() else []
        head += [f"with charts: {html}"] if html.is_file() else []
        shown = first_that_fit(lines[offset:], max_characters - 700 - len("\n".join(head)))
        end = offset + len(shown)
        if end < len(lines):
            head[0] += f", here {offset} to {end}; go on with offset {end}"
        return "\n".join([*head, "", quoted(shown)])

    def render_report(self, output_dir: OutputDir = "outputs") -> RenderedReport:
        """Write report.html of a folder as it is now, for the user to open; decides nothing.

        final_report.md is written, too, where the search has ended; an edited one is kept.
        """
        outputs = self._folder(output_dir)
        self._store.check_free(outputs)
        with locked(outputs):
            rendered = render_again(outputs)
        return RenderedReport(
            report_html=str(rendered.html),
            report=None if rendered.report is None else str(rendered.report),
            notes=list(map(MCP.spell, rendered.notes)),
        )

    def compare_folders(
        self,
        *,
        first: Annotated[str, Field(description="An output folder, which holds iter_0.")],
        second: Annotated[str, Field(description="The one to compare with it.")],
    ) -> FolderDifference:
        """Compare two searches: two chips, two models, or a model of two dates.

        Returns origin, scores with their noise, cost on the chip and best's setting side by side.
        """
        compared = diff_folders(self._folder(first), self._folder(second)).to_json()
        return FolderDifference(
            verdict=compared["verdict"],
            facts=compared["facts"],
            layers=compared["layers"],
            settings=compared["settings"],
            notes=compared["notes"],
            untrusted=["facts", "layers", "settings", "notes"],
        )

    def _folder(self, output_dir: str) -> Path:
        outputs = self._roots.resolve(output_dir, "output_dir")
        if not outputs.is_dir():
            raise OutputFolderError(
                f"{outputs} does not exist", "tune and run_iteration make it; or give another one"
            )
        return outputs


def _newest_and_best(
    rows: Sequence[ComparedIteration], best: Iteration | None
) -> list[ComparedIteration]:
    """Return best's row, then the newest first: what is cut are the oldest."""
    best_id = None if best is None else best.id
    newest = [row for row in reversed(rows[-_RANKED:]) if row.iteration_id != best_id]
    return [*(row for row in rows if row.iteration_id == best_id), *newest]


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
        milliseconds=None if record.cost is None else record.cost.milliseconds,
        low=None if record.cost is None else record.cost.low,
        high=None if record.cost is None else record.cost.high,
        ram_bytes=None if record.cost is None else record.cost.ram_bytes,
        flash_bytes=None if record.cost is None else record.cost.flash_bytes,
        keeps_budgets=None if record.cost is None else record.cost.keeps_budgets,
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


def given_setting(setting: Mapping[str, Any] | str, roots: Roots) -> dict[str, Any]:
    """Return a setting as fields; a text is the path of its file.

    Raises:
        SettingError: the file is no setting.
        UsageError: there is no such file.
    """
    if not isinstance(setting, str):
        return dict(setting)
    file = roots.resolve(setting, "setting")
    if not file.is_file() or file.suffix != ".json":
        raise UsageError(
            f"setting is {shortened(repr(setting), 60)}, which is no JSON file",
            "give its fields, or the path of a file inside the root",
        )
    return load_setting(file).model_dump(exclude_none=True)


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
