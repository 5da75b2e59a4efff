"""The error artifacts of one iteration as plain data, read when they are asked for."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from functools import cached_property
from typing import Any

from espdl_quantize.record._history import History
from espdl_quantize.record._values import names, number, objects, read_any, text
from espdl_quantize.record.files import (
    ALL_STATISTICS,
    GRAPHWISE,
    HOT_OPS,
    JUMPS,
    LAYERWISE,
    OPS,
    STATISTICS,
    WIDTHS,
)
from espdl_quantize.record.iteration_record import Iteration, LayerError
from espdl_quantize.record.widths import Widths, widths_of

_MOMENTS = ("Mean", "Std", "Skewness", "Kurtosis", "Max", "Min", "Hist")
COLUMNS = (
    *("Op name", "Op type", "Variable name", "Is parameter", "Is input", "Is output"),
    "Noise:Signal Power Ratio",
    *(f"{of} {moment}" for of in ("Noise", "Quantized", "Float") for moment in _MOMENTS),
    *("op_name", "max_snr", "per_var_snrs", "inputs_float_std_ratio"),
    *("op_prev", "op_next", "delta_graphwise", "isolated_layerwise_op_next"),
    *("intervening_excess", "intervening_non_computing_ops"),
    *("name", "op_type", "inputs", "outputs", "op", "key", "value", "line", "text"),
)
"""The keys of the rows of all these files; the last are those of files without rows."""


@dataclass(frozen=True)
class VariableStats:
    """One row of the statistical analysis: one variable seen from one op.

    Kurtosis is esp-ppq's, which subtracts 3: a normal distribution has 0. The histograms have
    equal bins from the minimum to the maximum. A number that was not finite is None.
    """

    op: str
    op_type: str
    variable: str
    is_parameter: bool = False
    is_input: bool = False
    is_output: bool = False
    snr: float | None = None
    noise_mean: float | None = None
    noise_std: float | None = None
    float_mean: float | None = None
    float_std: float | None = None
    float_skewness: float | None = None
    float_kurtosis: float | None = None
    float_max: float | None = None
    float_min: float | None = None
    float_hist: tuple[float, ...] = ()
    quantized_max: float | None = None
    quantized_min: float | None = None
    quantized_hist: tuple[float, ...] = ()


@dataclass(frozen=True)
class HotOp:
    """A non-computing op and the worst noise:signal ratio among its variables."""

    op: str
    op_type: str
    max_snr: float = 0.0
    inputs_float_std_ratio: float | None = None


@dataclass(frozen=True)
class Jump:
    """Two computing ops between which accumulated error grows more than the second explains."""

    op_prev: str
    op_next: str
    excess: float
    between: tuple[str, ...] = ()


@dataclass(frozen=True)
class GraphOp:
    """One op of the simplified graph with the names of its variables."""

    name: str
    op_type: str
    inputs: tuple[str, ...] = ()
    outputs: tuple[str, ...] = ()


@dataclass(frozen=True)
class Evidence:
    """What the artifacts of one iteration say; every part is empty where its file is absent.

    Attributes:
        layerwise: isolated error per computing op, worst first.
        graphwise: accumulated error per computing op, in the file's order.
        stats: every row of the statistical analysis.
        hot_ops: non-computing ops, worst first.
        jumps: unexplained growth of the accumulated error, largest first.
        ops: the simplified graph in topological order.
        widths: what other widths of groups of ops would come to; None where nobody has measured.
        problems: artifacts that are there but cannot be used, and why.
        owner: name of the iteration; empty of evidence that was read from no folder.
    """

    layerwise: tuple[LayerError, ...] = ()
    graphwise: tuple[LayerError, ...] = ()
    stats: tuple[VariableStats, ...] = ()
    hot_ops: tuple[HotOp, ...] = ()
    jumps: tuple[Jump, ...] = ()
    ops: tuple[GraphOp, ...] = ()
    widths: Widths | None = None
    problems: tuple[str, ...] = ()
    owner: str = ""

    def worst(self, count: int) -> list[tuple[str, float]]:
        """Return the worst computing ops that have a number, with it."""
        known = [(row.op, row.snr) for row in self.layerwise if row.snr is not None]
        return known[:count]

    def op(self, name: str) -> GraphOp | None:
        """Return an op of the simplified graph by its name."""
        return self._ops_by_name.get(name)

    def readers(self, variable: str) -> list[GraphOp]:
        """Return the ops of the simplified graph that read a variable."""
        return self._readers.get(variable, [])

    def rows(self, op: str) -> list[VariableStats]:
        """Return the statistics of the variables of one op."""
        return self._rows_by_op.get(op, [])

    # A graph may have thousands of ops, each of which is looked up.
    @cached_property
    def _ops_by_name(self) -> dict[str, GraphOp]:
        return {op.name: op for op in reversed(self.ops)}

    @cached_property
    def _readers(self) -> dict[str, list[GraphOp]]:
        readers: dict[str, list[GraphOp]] = {}
        for op in self.ops:
            for variable in dict.fromkeys(op.inputs):
                readers.setdefault(variable, []).append(op)
        return readers

    @cached_property
    def _rows_by_op(self) -> dict[str, list[VariableStats]]:
        rows: dict[str, list[VariableStats]] = {}
        for row in self.stats:
            rows.setdefault(row.op, []).append(row)
        return rows


def load_evidence(iteration: Iteration) -> Evidence:
    """Read the artifacts of one iteration; a missing file leaves its part empty."""
    folder, problems = iteration.folder, []

    def read(name: str, expected: type) -> Any:
        value, problem = read_any(folder / name)
        if problem is None and not isinstance(value, expected):
            problem = f"holds a {type(value).__name__}, expected a {expected.__name__}"
        if problem is None:
            return value
        if problem != "is missing":
            problems.append(f"{folder.name}/{name} {problem}")
        return expected()

    stats = read(ALL_STATISTICS, list) or read(STATISTICS, list)
    graph = read(OPS, dict)
    return Evidence(
        layerwise=_worst_first(read(LAYERWISE, dict)),
        graphwise=_errors(read(GRAPHWISE, dict)),
        stats=tuple(_stats(row) for row in objects(stats)),
        hot_ops=tuple(_hot_ops(read(HOT_OPS, list))),
        jumps=tuple(_jumps(read(JUMPS, list))),
        ops=tuple(_graph(graph.get("ops"))),
        widths=widths_of(read(WIDTHS, dict)),
        problems=tuple(problems),
        owner=iteration.name,
    )


class LazyEvidence(Mapping[int, Evidence]):
    """The evidence of each iteration by its id, read when it is first looked up.

    An instance belongs to one call: what it has read, it does not read again.
    """

    def __init__(self, history: History) -> None:
        self._iterations = {row.id: row for row in history.iterations}
        self._read: dict[int, Evidence] = {}

    def __getitem__(self, iteration_id: int) -> Evidence:
        if iteration_id not in self._read:
            self._read[iteration_id] = load_evidence(self._iterations[iteration_id])
        return self._read[iteration_id]

    def __iter__(self) -> Iterator[int]:
        return iter(self._iterations)

    def __len__(self) -> int:
        return len(self._iterations)


def _errors(value: Mapping[str, Any]) -> tuple[LayerError, ...]:
    return tuple(LayerError(text(op) or "", number(snr)) for op, snr in value.items())


def _worst_first(value: Mapping[str, Any]) -> tuple[LayerError, ...]:
    # The file is sorted already; a hand-made one may not be, and the levers rely on the order.
    return tuple(sorted(_errors(value), key=lambda row: -(row.snr if row.snr is not None else -1)))


def _stats(row: Mapping[str, Any]) -> VariableStats:
    return VariableStats(
        op=text(row.get("Op name")) or "",
        op_type=text(row.get("Op type")) or "",
        variable=text(row.get("Variable name")) or "",
        is_parameter=row.get("Is parameter") is True,
        is_input=row.get("Is input") is True,
        is_output=row.get("Is output") is True,
        snr=number(row.get("Noise:Signal Power Ratio")),
        noise_mean=number(row.get("Noise Mean")),
        noise_std=number(row.get("Noise Std")),
        float_mean=number(row.get("Float Mean")),
        float_std=number(row.get("Float Std")),
        float_skewness=number(row.get("Float Skewness")),
        float_kurtosis=number(row.get("Float Kurtosis")),
        float_max=number(row.get("Float Max")),
        float_min=number(row.get("Float Min")),
        float_hist=_bins(row.get("Float Hist")),
        quantized_max=number(row.get("Quantized Max")),
        quantized_min=number(row.get("Quantized Min")),
        quantized_hist=_bins(row.get("Quantized Hist")),
    )


def _bins(value: object) -> tuple[float, ...]:
    return tuple(number(count) or 0.0 for count in value) if isinstance(value, list) else ()


def _hot_ops(value: object) -> list[HotOp]:
    ops = [
        HotOp(
            op=text(item.get("op_name")) or "",
            op_type=text(item.get("op_type")) or "",
            max_snr=_max_snr(item),
            inputs_float_std_ratio=number(item.get("inputs_float_std_ratio")),
        )
        for item in objects(value)
    ]
    return sorted(ops, key=lambda op: -op.max_snr)


def _max_snr(item: Mapping[str, Any]) -> float:
    """Return the worst ratio of an op's activations; earlier versions counted constants, too."""
    rows = list(objects(item.get("per_var_snrs")))
    if not rows:
        return number(item.get("max_snr")) or 0.0
    ratios = (number(row.get("snr")) for row in rows if row.get("is_parameter") is not True)
    return max((ratio for ratio in ratios if ratio is not None), default=0.0)


def _jumps(value: object) -> list[Jump]:
    jumps = []
    for item in objects(value):
        inner = objects(item.get("intervening_non_computing_ops"))
        between = [text(op.get("name")) or "" for op in inner]
        jumps.append(
            Jump(
                op_prev=text(item.get("op_prev")) or "",
                op_next=text(item.get("op_next")) or "",
                excess=number(item.get("intervening_excess")) or 0.0,
                between=tuple(between),
            )
        )
    return sorted(jumps, key=lambda jump: -jump.excess)


def _graph(value: object) -> list[GraphOp]:
    return [
        GraphOp(
            name=text(item.get("name")) or "",
            op_type=text(item.get("op_type")) or "",
            inputs=names(item.get("inputs")),
            outputs=names(item.get("outputs")),
        )
        for item in objects(value)
    ]
