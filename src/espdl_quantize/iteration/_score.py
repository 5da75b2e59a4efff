"""Scores a graph with the user's evaluation, and says what is wrong with the score."""

from __future__ import annotations

import math
import re
import reprlib
from collections.abc import Callable, Collection, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, Literal

from espdl_quantize.contract import Contract, QuantConfig, located
from espdl_quantize.core import (
    ContractError,
    Hint,
    IterationError,
    Option,
    remedy_for,
    to_jsonable,
)
from espdl_quantize.iteration._per_sample import (
    NEAR,
    PER_SAMPLE,
    ScoreFacts,
    score_facts,
    take_count,
    take_records,
    take_vector,
)
from espdl_quantize.iteration._signals import SignalMeter, Watcher
from espdl_quantize.ppq import describe_failure, reads_of, scrambled, unquantized, watched
from espdl_quantize.stats import DIGEST, FEWEST, replicate, replicated_interval

Evaluator = Literal["evaluate", "evaluate_fast", "evaluate_final", "no_labels"]
SEARCHING: tuple[Evaluator, ...] = ("evaluate", "evaluate_fast", "no_labels")
"""What a search may score by."""

Known = Callable[[Evaluator], float | None]
"""Returns the float model's value by one function of the contract, where it is known."""

Unlabelled = Callable[[Any], Mapping[str, Any]]
"""Scores a graph by its agreement with the float model; see
:class:`espdl_quantize.iteration.unlabelled.FloatAgreement`."""

MakeWatcher = Callable[[Evaluator], Watcher]
"""Makes what sees the forwards of one evaluation."""


@dataclass(frozen=True)
class Score:
    """What an evaluation returned, and the finite value of the primary metric in it.

    Attributes:
        metrics: what it returned, less the result of each sample.
        value: of the primary metric.
        used: the contract's function.
        warnings: what the reader of the score should know.
        per_sample: a float array [samples], if it returned one.
        records: one per sample, if it returned them for the contract's aggregate.
        sample_count: as it stated it, if it did.
        watcher: what was seen of it, if anything watched.
    """

    metrics: dict[str, Any]
    value: float
    used: Evaluator
    warnings: tuple[str, ...] = ()
    per_sample: Any = None
    records: list[Any] | None = None
    sample_count: int | None = None
    watcher: Watcher | None = None


def score(
    contract: Contract,
    graph: Any,
    *,
    full: bool,
    make_watcher: MakeWatcher | None = None,
    final: bool = False,
    known: Known | None = None,
    unlabelled: Unlabelled | None = None,
) -> Score:
    """Score a graph, by evaluate_fast where there is one and ``full`` is not set.

    An evaluate_fast that fails is replaced by evaluate, with a warning. A final score is by
    evaluate_final, or by evaluate where there is none. A contract that has no evaluate is scored by
    ``unlabelled``.

    Raises:
        IterationError: evaluate raises, or returns no finite value of the primary metric.
        ContractError: it never runs the graph.
    """
    used = evaluator_of(contract, full=full, final=final)
    if used != "evaluate_fast":
        return score_with(
            contract,
            graph,
            used,
            make_watcher=make_watcher,
            known=known,
            unlabelled=unlabelled,
        )
    try:
        return score_with(contract, graph, used, make_watcher=make_watcher, known=known)
    except IterationError as error:
        scored = score_with(contract, graph, "evaluate", make_watcher=make_watcher, known=known)
        warning = f"evaluate_fast failed, evaluate was used: {error.cause}"
        return replace(scored, warnings=(warning,))


def score_quantized(contract: Contract, graph: Any, **how: Any) -> Score:
    """Score a quantized graph as :func:`score` does; ``how`` is given to that.

    Raises:
        IterationError: evaluate raises, or returns no finite value of the primary metric.
        ContractError: it never runs the graph, or it does the same where nothing is quantized in
            the graph, so that no setting has a part in it.
    """
    try:
        return score(contract, graph, **how)
    except IterationError as error:
        if not _fails_unquantized(contract, graph, error, how):
            raise
        raise ContractError(
            f"{error.cause}; it fails so on a quantized graph even while nothing is quantized in "
            "it: no setting can change that",
            error.hint,
        ) from error.__cause__


def _fails_unquantized(
    contract: Contract, graph: Any, error: IterationError, how: Mapping[str, Any]
) -> bool:
    """Tell whether an evaluation fails in the same way where the graph computes in floats."""
    try:
        with unquantized(graph):
            score(contract, graph, **{**how, "make_watcher": None})
    except IterationError as again:
        return same_failure(again.cause, error.cause)
    except Exception:
        # What it would do without quantization is not known then.
        return False
    return False


def same_failure(first: str, second: str) -> bool:
    """Tell whether two failures say the same, wherever in memory their objects lie."""
    return _ADDRESS.sub("", first) == _ADDRESS.sub("", second)


_ADDRESS = re.compile(r"\b0x[0-9a-fA-F]+")


def score_float(
    contract: Contract,
    graph: Any,
    *,
    full: bool,
    make_watcher: MakeWatcher | None = None,
    final: bool = False,
    unlabelled: Unlabelled | None = None,
) -> Score:
    """Score the float graph as :func:`score` does the quantized one, before anything long.

    Raises:
        ContractError: no score comes of it, and none would of any quantized graph.
    """
    try:
        return score(
            contract,
            graph,
            full=full,
            make_watcher=make_watcher,
            final=final,
            unlabelled=unlabelled,
        )
    except IterationError as error:
        raised, hint = error.__cause__, error.hint
        is_known = raised is None or isinstance(raised, NotImplementedError)
        if not is_known and raised is not None and not remedy_for(raised):
            hint += Hint(
                "; a contract that can only score quantized graphs is checked with ",
                Option.NO_SCORE.of(True),
                ", and run with ",
                Option.NO_FLOAT_SCORE.of(True),
            )
        raise ContractError(f"the float model has no score: {error.cause}", hint) from raised


def evaluator_of(contract: Contract, *, full: bool, final: bool) -> Evaluator:
    """Name the function that scores, as long as an evaluate_fast does not fail."""
    if not contract.has_evaluate:
        return "no_labels"
    if final:
        return "evaluate_final" if contract.has_evaluate_final else "evaluate"
    return "evaluate_fast" if contract.has_evaluate_fast and not full else "evaluate"


def final_evaluator(contract: Contract, *, full: bool) -> Evaluator | None:
    """Name the function of the final score; None where the search scores by it all the time."""
    if not contract.has_evaluate:
        return None
    if contract.has_evaluate_final:
        return "evaluate_final"
    return "evaluate" if contract.has_evaluate_fast and not full else None


def score_with(
    contract: Contract,
    graph: Any,
    used: Evaluator,
    *,
    make_watcher: MakeWatcher | None = None,
    known: Known | None = None,
    unlabelled: Unlabelled | None = None,
) -> Score:
    """Score a graph with one function of the contract.

    Args:
        contract: whose function scores.
        graph: what is scored.
        used: the function.
        make_watcher: makes what sees its forwards.
        known: the float model's values. An evaluation that is not seen to run the graph and gives
            another value than the float model's is not called again to find out whether it runs it.
        unlabelled: scores where the contract has no evaluate.

    Raises:
        IterationError: it raises, or returns no finite value of the primary metric.
        ContractError: it never runs the graph.
    """
    watcher = (make_watcher or (lambda _: Watcher()))(used)
    forwards = 0

    def see(inputs: list[Any], outputs: list[Any] | None) -> None:
        nonlocal forwards
        forwards += 1
        watcher(inputs, outputs)

    try:
        with watched(graph, see), reads_of(graph) as reads:
            if used == "no_labels":
                assert unlabelled is not None
                returned: Any = unlabelled(graph)
            else:
                returned = contract.call(used, graph)
    except ContractError as error:
        # Whoever made the contract of objects knows what is wrong with what evaluate() returned.
        raise IterationError(error.cause, error.hint) from error
    except Exception as error:
        fault = IterationError(
            f"{used}() raised {describe_failure(error)}",
            remedy_for(error) or f"fix {used}() in {contract.path.name}",
        )
        raise located(fault, contract, raised=error) from error
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
            f"{used}() returned {key} = {reprlib.repr(returned[key])}, expected a finite number",
            _hint_no_number(key, returned[key], value),
        )
    count = take_count(returned, used)
    vector = None if contract.has_aggregate else take_vector(returned, used)
    records = take_records(returned, used) if contract.has_aggregate else None
    if not forwards and reads.any is not None:
        of_float = known(used) if known is not None else None
        doubted = of_float is None or of_float == value
        if not reads.any:
            raise _never_ran(contract, used, f"it returned {key} = {value:.6g} without reading it")
        if doubted and _ignores_weights(contract, graph, used, value, vector):
            evidence = f"it returned the same {key} = {value:.6g} with other weights in it"
            raise _never_ran(contract, used, evidence)
    plain = _plain({key: item for key, item in returned.items() if key != PER_SAMPLE})
    notes: tuple[str, ...] = ()
    if contract.has_aggregate and records is None:
        notes = (f"the contract has aggregate(), and {used}() returned no {PER_SAMPLE}",)
    return Score(plain, value, used, notes, vector, records, count, watcher)


def _hint_no_number(key: str, returned: Any, value: float | None) -> str:
    if value is not None:
        return "a NaN or an infinite value often means an empty test set or a division by zero"
    of = "values.mean()" if getattr(returned, "ndim", 0) else "value"
    return f"return one number for all samples: {key}=float({of})"


def _never_ran(contract: Contract, used: Evaluator, evidence: str) -> ContractError:
    return ContractError(
        f"{used}() in {contract.path.name} never runs the graph that it is given: {evidence}",
        f"score the argument of {used}(), such as by "
        "TorchExecutor(graph=quant_graph).forward(batch); the model that get_torch_model() or "
        "onnx_path gives is not what is quantized",
    )


def _ignores_weights(
    contract: Contract, graph: Any, used: Evaluator, value: float, vector: Any
) -> bool:
    """Tell whether an evaluation that no forward was seen of scores other weights just as well."""
    import numpy as np

    for other in scrambled(graph):
        try:
            returned = contract.call(used, other)
            changed = _number(returned[contract.config.primary_metric]) != value
            results: Any = None if vector is None else take_vector(returned, used)
        except Exception:
            # It does something with the weights: these cannot be scored.
            return False
        if changed or (vector is not None and not np.array_equal(vector, results)):
            return False
    return True


def _number(value: Any) -> float | None:
    """Return a number or a scalar of numpy or torch as a float; a bool is no metric."""
    try:
        plain = to_jsonable(value.item()) if hasattr(value, "item") else value
    except (TypeError, ValueError, RuntimeError):
        return None
    if isinstance(plain, bool) or not isinstance(plain, (int, float)):
        return None
    return math.inf if abs(plain) >= 2**1024 else float(plain)  # an int has no end


def _plain(metrics: Mapping[Any, Any]) -> dict[str, Any]:
    plain = {}
    for key, value in metrics.items():
        try:
            plain[str(key)] = to_jsonable(value)
        except TypeError:
            plain[str(key)] = repr(value)
    return plain


def meter_of(
    outputs: Path,
    key: str,
    graph: Any,
    calibration: Collection[bytes],
    axes: Sequence[int | None] | None = None,
) -> Callable[[Evaluator], SignalMeter]:
    """Return what makes a meter that holds a quantized graph against the float model.

    Args:
        outputs: the output folder, which keeps the float model's outputs.
        key: stands for the contract and the float model.
        graph: the quantized graph.
        calibration: digests of the calibration samples.
        axes: of each input of the graph, the axis that holds the samples.
    """
    names = list(graph.outputs)
    return lambda used: SignalMeter(outputs, used, key, names, calibration, axes)


def facts_of(
    scored: Score,
    calibration: Collection[bytes],
    config: QuantConfig,
    *,
    is_resampled: bool = False,
) -> tuple[ScoreFacts, list[str]]:
    """Say what a score rests on, and warn of what is odd.

    Args:
        scored: the score.
        calibration: digests of the calibration samples.
        config: the contract's.
        is_resampled: it is known what the metric comes to on resampled samples.
    """
    return score_facts(
        scored.value,
        scored.per_sample,
        scored.sample_count,
        scored.watcher,
        calibration,
        config,
        len(scored.records or ()) if is_resampled else 0,
    )


def resample(contract: Contract, scored: Score) -> tuple[Any, Any, list[str]]:
    """Bootstrap the metric that the contract's aggregate() makes of records.

    Args:
        contract: has an aggregate.
        scored: what its evaluation returned.

    Returns:
        The metric on resampled samples, a float array [draws]; the content of the samples in the
        order that was drawn from, uint8 [samples, 16]; both None where there are none; and
        warnings.
    """
    import numpy as np

    records, watcher, value = scored.records, scored.watcher, scored.value
    if records is None:
        return None, None, []
    metric, digests = contract.config.primary_metric, None
    # As the evaluation had them: where scores are tied, and those of 8 bits are, the order of the
    # samples has a say in a metric such as mAP.
    given = records
    if watcher is not None and len(watcher.digests) == len(records):
        # An evaluation may come to the samples in another order each time.
        order = sorted(range(len(records)), key=lambda at: watcher.digests[at])
        records = [records[at] for at in order]
        joined = b"".join(watcher.digests[at] for at in order)
        digests = np.frombuffer(joined, np.uint8).reshape(-1, DIGEST)
    try:
        whole = float(contract.call("aggregate", given))
    except Exception as error:
        return None, None, [f"aggregate() raised {describe_failure(error)}: no interval is known"]
    if not abs(whole - value) <= NEAR * max(abs(value), abs(whole)):
        return (
            None,
            None,
            [
                f"aggregate({PER_SAMPLE}) is {whole:.6g}, and {metric} is {value:.6g}: no interval "
                "is known, since they are not the same metric"
            ],
        )
    with contract.entered():
        values = replicate(contract.module.aggregate, records)
    if replicated_interval(values) is None:
        count = int(np.isfinite(values).sum())
        return (
            None,
            None,
            [
                f"{metric} has no interval: aggregate() gave a number on {count} resamples, and "
                f"{FEWEST} are needed within a minute; one that is faster or has resampled() does"
            ],
        )
    return values, digests, []
