"""What the tools return; their JSON Schemas are the tools' output schemas."""

from __future__ import annotations

from typing import Any, Literal

from pydantic import BaseModel, Field

Kind = Literal["check_contract", "run_iteration", "tune"]
RecordedState = Literal["running", "cancelling", "finished", "failed", "interrupted", "lost"]
State = Literal[RecordedState, "damaged"]
LIVE: tuple[State, ...] = ("running", "cancelling")


class Fault(BaseModel):
    """One fault of a contract."""

    key: str
    found: str
    expected: str
    example: str


class ErrorInfo(BaseModel):
    """What went wrong and how to fix it."""

    message: str
    hint: str
    exit_code: int = Field(description="As of the command; 3 contract, 4 setting, 5 iteration, ...")
    kind: str = Field(default="", description="Of error; most have an exit code of their own.")
    faults: list[Fault] = Field(default=[], description="Of a contract, each on its own.")


class JobProgress(BaseModel):
    """How far a job is, as far as it has told."""

    text: str = Field(description="In words.")
    stage: str | None = Field(default=None, description="What it does now, outermost first.")
    fraction: float | None = Field(default=None, description="Of the innermost stage, 0 to 1.")
    iteration: int | None = Field(default=None, description="The N of iter_N.")
    number: int | None = Field(default=None, description="Of this iteration in this job, from 1.")
    of: int | None = Field(default=None, description="The budget of iterations.")
    phase: str | None = None
    what: str | None = Field(default=None, description="What this iteration changes.")
    best_iteration: int | None = None
    best_value: float | None = None
    gap_closed: float | None = Field(
        default=None, description="Share of the drop from float to baseline that came back."
    )
    no_gap: str | None = Field(default=None, description="Why gap_closed is null.")
    seconds_left: float | None = Field(default=None, description="Estimate for the whole job.")


class Job(BaseModel):
    """A run of the command in the background; it goes on when the server ends."""

    job_id: str
    kind: Kind
    state: State = Field(
        description="finished and failed are its own words; interrupted: cancelled, what was "
        "finished is kept and the same call goes on from there; lost: killed or crashed; damaged: "
        "its record on disk cannot be relied on, error says why."
    )
    command: list[str]
    output_dir: str | None = None
    pid: int | None = None
    started_at: str
    elapsed_seconds: float
    exit_code: int | None = Field(default=None, description="Where it is known.")
    progress: JobProgress | None = None
    recent: list[str] = Field(default=[], description="What it told last, oldest first.")
    result: dict[str, Any] | None = Field(default=None, description="What the command printed.")
    error: ErrorInfo | None = None
    warnings: list[str] = Field(default=[], description="What the server could not do about it.")
    next: str = Field(description="What to do now.")


class FolderStatus(BaseModel):
    """Where the search in an output folder stands."""

    output_dir: str
    iterations: int
    failed: int
    phase: str
    metric: str | None
    direction: str
    best_iteration: int | None
    best_value: float | None
    float_value: float | None = Field(description="The float model's score on the same images.")
    gap_closed: float | None
    no_gap: str | None = Field(description="Why gap_closed is null.")
    certainty: list[str] = Field(description="How sure the result is.")
    warnings: list[str]
    report: str | None = Field(description="final_report.md, once it was written.")


class Status(BaseModel):
    """Jobs, newest first, and an output folder where one was asked for."""

    jobs: list[Job]
    folder: FolderStatus | None = None


class BoardSummary(BaseModel):
    """What a board measured of a model."""

    chip: str | None
    ms: float | None = Field(description="Milliseconds of a run.")
    runs: int
    test: str | None = Field(description="passed or failed: the board's output for a known input.")
    loaded: bool | None
    internal_bytes: int | None = Field(description="RAM inside the chip.")
    psram_bytes: int | None
    problem: str = Field(description="Why it failed; empty where it did not.")


class IterationCost(BaseModel):
    """What one iteration's model is predicted to take on the chip."""

    iteration: int | None = Field(description="The N of iter_N; None for best/.")
    score: float | None = Field(description="Where every iteration was asked for.")
    chip: str | None
    milliseconds: float | None = Field(description="Of one inference, predicted.")
    low: float | None = Field(description="Nine of ten models lie between this")
    high: float | None = Field(description="and this.")
    ram_bytes: int | None = Field(description="Activations, and weights that are copied.")
    flash_bytes: int | None
    problem: str | None = Field(description="Why nothing can be told of it.")


class LayerTime(BaseModel):
    """One layer's share of an inference."""

    op: str
    op_type: str
    width: str
    milliseconds: float | None
    share: float = Field(description="Of the whole, 0 to 1.")
    mostly: str = Field(description="What takes most of its time.")


class ModelCosts(BaseModel):
    """Predicted costs on the chip; of one model with its slowest layers."""

    iterations: list[IterationCost]
    peak_layer: str | None = Field(default=None, description="Where activations need most RAM.")
    slowest_layers: list[LayerTime] = Field(default=[], description="At most 10, slowest first.")
    notes: list[str] = []


class BoardProject(BaseModel):
    """An ESP-IDF project that was written."""

    project: str
    source: str = Field(description="The iteration's folder whose model is in it.")
    chip: str
    esp_dl: str
    model_in: str = Field(description="rodata or partition.")
    has_test_values: bool
    copies_parameters: bool
    notes: list[str]


class BoardLog(BaseModel):
    """What a board measured, and where it was stored."""

    iteration: int
    path: str
    sentence: str
    holds: bool = Field(description="Nothing speaks against the model.")
    measured: BoardSummary
    slowest_layers: list[dict[str, Any]] = Field(description="op, op_type and us; at most 10.")


class Row(BaseModel):
    """One iteration in the ranking."""

    iteration: int
    rank: int | None
    value: float | None
    delta: float | None = Field(description="To the best before it, as the metric counts it.")
    outcome: str = Field(description="Of that difference, with its noise counted in.")
    interval: tuple[float, float] | None = Field(description="Of the value, 95 %, if it is known.")
    noise_signal: float | None = Field(description="Power of noise to signal at the outputs.")
    agreement: float | None = Field(description="How often the float model decides alike, 0 to 1.")
    changed: str
    slower_on_chip: str
    engine: str | None = Field(
        description="What computed it; plain esp-ppq does what the fast engine fails at."
    )
    on_board: BoardSummary | None = Field(description="What a board measured, if one was tried.")
    error: str | None
    attempts: list[dict[str, Any]] = Field(
        default=[], description="Earlier ones in the same folder that failed, the latest last."
    )


class NextStep(BaseModel):
    """What the search would do next."""

    output_dir: str
    phase: str
    advice: str
    iteration: int = Field(description="The number of the next iteration.")
    setting: dict[str, Any] | None = Field(
        description="Complete, for run_iteration; None where it has to be written by hand."
    )
    lever: str | None
    stop: str | None = Field(description="Why the search is over; None while it goes on.")
    metric: str | None
    best_iteration: int | None
    best_value: float | None
    ranking: list[Row] = Field(description="The newest iterations, at most 50.")
    skipped_levers: list[dict[str, Any]]
    notes: list[str]
    warnings: list[str]
    phase5_signals: dict[str, Any] | None = Field(
        description="In open exploration: what the history offers to build on."
    )


class Violation(BaseModel):
    """A rule of the search that a setting breaks, or an op that the model does not have."""

    rule: str
    iteration: int | None
    found: str
    hint: str


class LintResult(BaseModel):
    """Whether a setting keeps every rule."""

    ok: bool
    violations: list[Violation]


class ArtifactFile(BaseModel):
    """A file of an iteration."""

    name: str
    bytes: int


class ArtifactPage(BaseModel):
    """Files of a folder, or a page of one file's rows."""

    path: str
    files: list[ArtifactFile] = []
    rows: list[Any] = Field(default=[], description="Objects; for text, one per line.")
    total: int = Field(default=0, description="Rows that match.")
    offset: int = 0
    next_offset: int | None = Field(default=None, description="Of the next page, if there is one.")
    shortened: bool = Field(
        default=False, description="A long list or text in a row was cut; the file has it whole."
    )


class Finalized(BaseModel):
    """How a search was ended."""

    output_dir: str
    category: str
    detail: str
    best_iteration: int
    best_value: float | None
    best: str
    report: str | None = Field(description="None where an edited report was kept.")
    report_html: str | None


class ReportPage(BaseModel):
    """Lines of final_report.md, and where everything is."""

    path: str
    text: str
    total_lines: int
    offset: int
    next_offset: int | None
    report_html: str | None
    best: str | None
    best_files: list[str]
