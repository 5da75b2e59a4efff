"""The tools that say where the error of an iteration is, and what differs between two."""

from __future__ import annotations

from difflib import get_close_matches
from pathlib import Path
from typing import Annotated, Any, Literal

from pydantic import Field

from espdl_quantize.core import EspdlQuantizeError, OutputFolderError, UsageError
from espdl_quantize.mcp._models import Difference, Settings, Why, WorstOp, WorstOps
from espdl_quantize.mcp._roots import Roots
from espdl_quantize.mcp._tool import READS, Tool
from espdl_quantize.mcp.options import IterationNumber
from espdl_quantize.record import (
    Evidence,
    History,
    Iteration,
    Jump,
    VariableStats,
    load_applied,
    load_evidence,
    read_history,
)
from espdl_quantize.search import (
    DEFAULT_THRESHOLDS,
    Finding,
    describe_changes,
    find_triggers,
    runtime_cost,
)

OutputDir = Annotated[str, Field(description="Output folder.")]
Number = Annotated[
    IterationNumber | Literal["best"],
    Field(description="The N of iter_N, or 'best'."),
]
_MOVED = 0.1
"""A layer's error has changed where it differs by more than this share."""
_LAYERS = 8
_STATISTICS = (
    "float_min",
    "float_max",
    "float_mean",
    "float_std",
    "float_kurtosis",
    "float_skewness",
    "noise_mean",
    "noise_std",
)


class EvidenceTools:
    """They read iterations, and nothing else."""

    def __init__(self, roots: Roots) -> None:
        self._roots = roots

    def tools(self) -> tuple[Tool, ...]:
        """Return the tools of this module."""
        return (
            Tool(self.worst_ops, "Say where the error is", READS),
            Tool(self.why, "Say why an op is bad", READS),
            Tool(self.compare_iterations, "Compare two iterations", READS),
            Tool(self.settings, "Read the setting of an iteration", READS),
        )

    def worst_ops(
        self,
        *,
        output_dir: OutputDir = "outputs",
        iteration: Number = "best",
        limit: Annotated[int, Field(ge=1, le=50, description="At most so many of a kind.")] = 5,
    ) -> WorstOps:
        """Return the ops with the most error, and whether one, all or their sum is bad.

        Then call why with an op for its statistics.
        """
        record, evidence = self._evidence(output_dir, iteration)
        findings = find_triggers(evidence)
        accumulated = {error.op: error.snr for error in evidence.graphwise}
        types = {op.name: op.op_type for op in evidence.ops}
        computing = [
            WorstOp(
                op=error.op,
                op_type=types.get(error.op),
                snr=error.snr,
                accumulated=accumulated.get(error.op),
                signs=_signs(findings, error.op),
            )
            for error in evidence.layerwise[:limit]
        ]
        others = [
            WorstOp(op=hot.op, op_type=hot.op_type, snr=hot.max_snr, signs=_signs(findings, hot.op))
            for hot in evidence.hot_ops[:limit]
        ]
        return WorstOps(
            iteration=record.id,
            computing=computing,
            others=others,
            jumps=[_jump(jump) for jump in evidence.jumps[:limit]],
            diagnosis=_diagnosis(evidence, record),
            problems=list(evidence.problems),
            untrusted=["computing", "others", "jumps"],
            next="why with an op has its statistics; next_step has the setting that is next",
        )

    def why(
        self,
        *,
        op: Annotated[
            str, Field(min_length=1, max_length=1000, description="A name, as worst_ops has it.")
        ],
        output_dir: OutputDir = "outputs",
        iteration: Number = "best",
    ) -> Why:
        """Return all that is known of one op: its rank, statistics, and the rules it matches.

        Each rule names a method; next_step has the setting for it, or write one and lint_setting.
        """
        record, evidence = self._evidence(output_dir, iteration)
        names = [*(known.name for known in evidence.ops), *(e.op for e in evidence.layerwise)]
        if op not in names:
            close = get_close_matches(op, names, n=3, cutoff=0.3)
            raise UsageError(
                f"iter_{record.id} has no op {op!r}",
                f"nearest: {', '.join(close)}" if close else "worst_ops names ops",
            )
        node = evidence.op(op)
        order = [error.op for error in evidence.layerwise]
        errors = {error.op: error.snr for error in evidence.layerwise}
        accumulated = {error.op: error.snr for error in evidence.graphwise}
        rows = evidence.rows(op)
        signs = [
            f"{finding.rule}: {finding.text} -> {finding.method}"
            for finding in find_triggers(evidence)
            if op in finding.ops
        ]
        return Why(
            iteration=record.id,
            op=op,
            op_type=(node.op_type if node else None) or (rows[0].op_type if rows else None),
            inputs=list(node.inputs) if node else [],
            outputs=list(node.outputs) if node else [],
            rank=order.index(op) + 1 if op in order else None,
            snr=errors.get(op),
            accumulated=accumulated.get(op),
            variables=[_statistics(row) for row in rows],
            signs=signs,
            jumps=[_jump(jump) for jump in evidence.jumps if op in (jump.op_prev, jump.op_next)],
            untrusted=["op", "inputs", "outputs", "variables", "signs", "jumps"],
            next="a rule's method is in reference {topic: decision_playbook}"
            if signs
            else "no rule matches: TQT over all, or int16 on it where it is among the worst",
        )

    def compare_iterations(
        self,
        *,
        first: Number,
        second: Number,
        output_dir: OutputDir = "outputs",
    ) -> Difference:
        """Return what differs from the first iteration to the second: score, setting, layers, cost.

        The verdict counts noise in where it is known, and says where it is not.
        """
        history = read_history(self._folder(output_dir))
        one, other = _iteration(history, first), _iteration(history, second)
        before, after = (
            {error.op: error.snr for error in load_evidence(each).layerwise}
            for each in (one, other)
        )
        moved = [
            (old / new if old < new else new / old, op, old, new)
            for op, old in before.items()
            if old is not None and (new := after.get(op)) is not None and max(old, new) > 0
        ]
        moved = sorted(entry for entry in moved if entry[0] < 1 - _MOVED)
        values = one.value, other.value
        known = None not in values
        return Difference(
            first=one.id,
            second=other.id,
            metric=history.metric,
            first_value=one.value,
            second_value=other.value,
            delta=other.value - one.value if known else None,  # type: ignore[operator]
            verdict=_verdict(history, one, other),
            changed=describe_changes(one.setting, other.setting).split("; "),
            improved=[_change(entry) for entry in moved if entry[3] < entry[2]][:_LAYERS],
            worsened=[_change(entry) for entry in moved if entry[3] > entry[2]][:_LAYERS],
            noise_signal=_noise(one, other),
            on_chip=[
                "unknown" if each.setting is None else str(runtime_cost(each.setting))
                for each in (one, other)
            ],
            untrusted=["improved", "worsened", "changed"],
        )

    def settings(
        self, *, output_dir: OutputDir = "outputs", iteration: Number = "best"
    ) -> Settings:
        """Return the setting of an iteration, ready to be edited for run_iteration.

        Also what ran otherwise than asked, and why.
        """
        history = read_history(self._folder(output_dir))
        record = _iteration(history, iteration)
        if record.setting is None:
            raise OutputFolderError(
                f"the setting of iter_{record.id} cannot be read", "take another iteration's"
            )
        asked = record.setting.model_dump(exclude_none=True, exclude_defaults=False)
        del asked["iteration_id"]
        return Settings(
            iteration=record.id,
            asked=asked,
            warnings=list(load_applied(record).warnings),
            untrusted=["asked.rationale", "warnings"],
            note="change one thing in phases 1 to 3; several only in open exploration, with the "
            "iterations cited in rationale; delete a section to turn its pass off",
        )

    def _evidence(
        self, output_dir: str, iteration: int | Literal["best"]
    ) -> tuple[Iteration, Evidence]:
        history = read_history(self._folder(output_dir))
        record = _iteration(history, iteration)
        # A link would lead to any folder.
        self._roots.resolve(record.folder, "the iteration's folder")
        evidence = load_evidence(record)
        if not (evidence.layerwise or evidence.stats):
            raise EspdlQuantizeError(
                f"iter_{record.id} has no errors by op"
                + (f": {'; '.join(evidence.problems)}" if evidence.problems else ""),
                "take another iteration; status {output_dir} counts those that failed",
            )
        return record, evidence

    def _folder(self, output_dir: str) -> Path:
        outputs = self._roots.resolve(output_dir, "output_dir")
        if not outputs.is_dir():
            raise OutputFolderError(
                f"{outputs} does not exist", "tune and run_iteration make it; or give another one"
            )
        return outputs


def _iteration(history: History, iteration: int | Literal["best"]) -> Iteration:
    if iteration == "best":
        if history.best is None:
            raise OutputFolderError(
                f"{history.folder} has no iteration with a score", "run_iteration makes one"
            )
        return history.best
    record = history.get(iteration)
    if record is None:
        known = ", ".join(str(each.id) for each in history.iterations[-20:]) or "none"
        raise OutputFolderError(
            f"iter_{iteration} does not exist or does not count", f"the iterations: {known}"
        )
    return record


def _signs(findings: list[Finding], op: str) -> list[str]:
    return [f"{finding.rule}: {finding.method}" for finding in findings if op in finding.ops]


def _jump(jump: Jump) -> str:
    between = f" across {', '.join(jump.between[:4])}" if jump.between else ""
    return f"{jump.op_prev} -> {jump.op_next}{between}: {jump.excess:.4g}"


def _statistics(row: VariableStats) -> dict[str, Any]:
    kind = "weight" if row.is_parameter else "input" if row.is_input else "output"
    numbers = {name: getattr(row, name) for name in _STATISTICS}
    return {
        "variable": row.variable,
        "kind": kind,
        "snr": row.snr,
        **{name: value for name, value in numbers.items() if value is not None},
    }


def _noise(*records: Iteration) -> list[float]:
    """Return the noise at the outputs of each; nothing where one is not known."""
    known = [record.signals.noise_signal for record in records if record.signals is not None]
    numbers = [number for number in known if number is not None]
    return numbers if len(numbers) == len(records) else []


def _change(entry: tuple[float, str, float, float]) -> str:
    _, op, old, new = entry
    return f"{op}: {old:.4g} -> {new:.4g}"


def _verdict(history: History, one: Iteration, other: Iteration) -> str:
    if one.value is None or other.value is None:
        return f"iter_{one.id if one.value is None else other.id} has no score"
    comparison = history.versus(other, one)
    if comparison is not None:
        return str(comparison.verdict)
    gain = history.height(other) - history.height(one)
    word = "higher" if gain > 0 else "lower" if gain < 0 else "equal"
    return f"{word}, and the noise of the score is not known"


def _diagnosis(evidence: Evidence, record: Iteration) -> str:
    """Say whether one layer is bad, all are, or none is and their sum is."""
    limit = DEFAULT_THRESHOLDS.layer_snr
    worst = evidence.worst(DEFAULT_THRESHOLDS.worst_layers)
    if not worst:
        return "no layerwise errors: see others and jumps"
    values = [snr for _, snr in worst]
    middle = sorted(values)[len(values) // 2]
    if len(values) > 2 and values[0] > DEFAULT_THRESHOLDS.r6_median_factor * middle:
        return (
            f"one layer stands out: {worst[0][0]} has {values[0]:.3g}, the median of the worst "
            f"{len(values)} is {middle:.3g}. Act on it: why names a method, else int16 on it"
        )
    noise = None if record.signals is None else record.signals.noise_signal
    if noise is None:
        noise = max((error.snr for error in evidence.graphwise if error.snr is not None), default=0)
    if values[0] < limit <= noise:
        return (
            f"no layer is bad, the sum is: the worst alone has {values[0]:.3g}, all together have "
            f"{noise:.3g}. Act on all: TQT longer or stronger, another calibration, equalization; "
            "int16 on a layer changes little"
        )
    if values[0] < limit:
        return (
            f"no layer has {limit:.2g} or more, and all together have {noise:.3g}: there is little "
            "to gain"
        )
    return f"the worst {len(values)} are alike, from {values[-1]:.3g} to {values[0]:.3g}: train all"
