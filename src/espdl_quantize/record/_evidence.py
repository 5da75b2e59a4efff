"""The error artifacts of one iteration as plain data."""

from __future__ import annotations

from dataclasses import dataclass

from espdl_quantize.record._iteration import LayerError


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
        problems: artifacts that are there but cannot be used, and why.
    """

    layerwise: tuple[LayerError, ...] = ()
    graphwise: tuple[LayerError, ...] = ()
    stats: tuple[VariableStats, ...] = ()
    hot_ops: tuple[HotOp, ...] = ()
    jumps: tuple[Jump, ...] = ()
    ops: tuple[GraphOp, ...] = ()
    problems: tuple[str, ...] = ()

    def worst(self, count: int) -> list[tuple[str, float]]:
        """Return the worst computing ops that have a number, with it."""
        known = [(row.op, row.snr) for row in self.layerwise if row.snr is not None]
        return known[:count]

    def op(self, name: str) -> GraphOp | None:
        """Return an op of the simplified graph by its name."""
        return next((op for op in self.ops if op.name == name), None)

    def rows(self, op: str) -> list[VariableStats]:
        """Return the statistics of the variables of one op."""
        return [row for row in self.stats if row.op == op]
