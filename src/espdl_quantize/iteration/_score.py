"""Scores a graph with the user's evaluation, and says what is wrong with the score."""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, Literal

from espdl_quantize.contract import Contract, located
from espdl_quantize.errors import ContractError, IterationError
from espdl_quantize.jsonio import to_jsonable
from espdl_quantize.quantize import describe_failure

Evaluator = Literal["evaluate", "evaluate_fast"]


@dataclass(frozen=True)
class Score:
    """What an evaluation returned, and the finite value of the primary metric in it."""

    metrics: dict[str, Any]
    value: float
    used: Evaluator
    warnings: tuple[str, ...] = ()


def score(contract: Contract, graph: Any, full: bool) -> Score:
    """Score a graph, by evaluate_fast where there is one and ``full`` is not set.

    An evaluate_fast that fails is replaced by evaluate, with a warning.

    Raises:
        IterationError: evaluate raises, or returns no finite value of the primary metric.
    """
    if contract.has_evaluate_fast and not full:
        try:
            return _score_with(contract, graph, "evaluate_fast")
        except IterationError as error:
            scored = _score_with(contract, graph, "evaluate")
            warning = f"evaluate_fast failed, evaluate was used: {error.cause}"
            return Score(scored.metrics, scored.value, scored.used, (warning,))
    return _score_with(contract, graph, "evaluate")


def score_float(contract: Contract, graph: Any, full: bool) -> Score:
    """Score the float graph as :func:`score` does the quantized one, before anything long.

    Raises:
        ContractError: no score comes of it, and none would of any quantized graph.
    """
    try:
        return score(contract, graph, full)
    except IterationError as error:
        raised, mend = error.__cause__, error.mend
        if raised is not None and not isinstance(raised, NotImplementedError):
            mend += (
                "; a contract that can only score quantized graphs is checked with --no-score, and "
                "run with --no-float-score"
            )
        raise ContractError(f"the float model has no score: {error.cause}", mend) from raised


def _score_with(contract: Contract, graph: Any, used: Evaluator) -> Score:
    try:
        returned = contract.call(used, graph)
    except Exception as error:
        fault = IterationError(
            f"{used}() raised {describe_failure(error)}", f"mend {used}() in {contract.path.name}"
        )
        raise located(fault, contract, error) from error
    if not isinstance(returned, Mapping):
        raise IterationError(
            f"{used}() returned a {type(returned).__name__}, expected a dict",
            f'return {{"{contract.config.primary_metric}": value}}',
        )
    key = contract.config.primary_metric
    if key not in returned:
        raise IterationError(
            f"{used}() returned no {key!r}, only {sorted(map(str, returned))}",
            "return it, or set primary_metric to a key that is returned",
        )
    value = _number(returned[key])
    if value is None or not math.isfinite(value):
        raise IterationError(
            f"{used}() returned {key} = {returned[key]!r}, expected a finite number",
            "a NaN often means an empty test set or a division by zero",
        )
    return Score(_plain(returned), value, used)


def _number(value: Any) -> float | None:
    """Return a number or a scalar of numpy or torch as a float; a bool is no metric."""
    try:
        plain = to_jsonable(value.item()) if hasattr(value, "item") else value
    except (TypeError, ValueError, RuntimeError):
        return None
    if isinstance(plain, bool) or not isinstance(plain, (int, float)):
        return None
    return float(plain)


def _plain(metrics: Mapping[Any, Any]) -> dict[str, Any]:
    plain = {}
    for key, value in metrics.items():
        try:
            plain[str(key)] = to_jsonable(value)
        except TypeError:
            plain[str(key)] = repr(value)
    return plain
