"""Makes a contract of objects that a program or a notebook has: no file is needed."""

from __future__ import annotations

import hashlib
import inspect
import itertools
import math
import numbers
import sys
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from types import CodeType, ModuleType
from typing import Any

from espdl_quantize.contract._load import Contract, contract_of
from espdl_quantize.contract.batch import Batch
from espdl_quantize.contract.fingerprint import config_text
from espdl_quantize.contract.surroundings import Surroundings
from espdl_quantize.core import ContractError

METRIC = "score"
"""The metric's name where evaluate() returns a number and nobody named it."""

MOST_SAMPLES = 1024
"""Calibration samples that are read where nobody says how many: four times what is advised. Who
passes a loader of the whole training set does not wait for all of it."""

_DERIVED = "input_shape", "batch_size", "calib_steps"
"""Keys of QUANT_CONFIG that the calibration data says, unless they are given."""


def contract_of_objects(
    model: Any,
    calibration: Any,
    evaluate: Callable[[Any], Any] | None,
    known_targets: Sequence[str],
    *,
    metric: str | None = None,
    collate: Callable[[Any], Any] | None = None,
    evaluate_final: Callable[[Any], Any] | None = None,
    config: Mapping[str, Any],
) -> Contract:
    """Make a contract of a model, calibration data and an evaluation.

    The first calibration batch says the inputs' shapes and the batch size; the loader's length the
    number of batches.

    Args:
        model: a ``torch.nn.Module``, which is put into eval mode, or the path of an ONNX file.
        calibration: an iterable of batches that can be read again, such as a DataLoader or a list,
            or a function without arguments that returns one. Of a batch that has more parts than
            the model has inputs, the first ones are the inputs.
        evaluate: is given the graph and returns a number or a dict of metrics.
        known_targets: chip names that the installed esp-ppq accepts.
        metric: the key of evaluate()'s dict to improve; without it, evaluate() returns a number,
            or a dict with a single one.
        collate: takes the inputs out of a batch, in the place of the rule above.
        evaluate_final: as ``evaluate``, on samples that the search never scores.
        config: further keys of QUANT_CONFIG, among them ``target``.

    Raises:
        ContractError: the model or the data is none; names what was found.
        ContractFaultsError: the keys break the contract; every fault is listed.
    """
    values = dict(config)
    functions: dict[str, Callable[..., Any]] = {}
    if isinstance(model, (str, Path)):
        path = Path(model).resolve()
        values |= {"model_type": "onnx", "onnx_path": str(path)}
        inputs = _graph_inputs(path)
    else:
        net = _in_eval_mode(model)
        values["model_type"] = "torch"
        values.setdefault("model_name", type(model).__name__)
        functions["get_torch_model"] = lambda: net
        inputs = _required_inputs(net)
    for name, function in (("evaluate", evaluate), ("evaluate_final", evaluate_final)):
        if function is not None and not callable(function):
            raise ContractError(
                f"{name} is a {type(function).__name__}, expected a function of the graph",
                f"pass a function: def {name}(graph): return 71.2",
            )
    loader_of = _loader_of(calibration)
    take = collate or (lambda batch: _first_parts(batch, inputs))
    if any(key not in values for key in _DERIVED):
        values = _described(loader_of, take, functions.get("get_torch_model")) | values
    values.setdefault("primary_metric", metric or METRIC)
    values.setdefault("metric_direction", "max")
    steps = values["calib_steps"]
    functions["create_calib_dataloader"] = (
        (lambda: _Head(loader_of(), steps)) if isinstance(steps, int) else loader_of
    )
    functions["collate_fn"] = take
    if evaluate is not None:
        functions["evaluate"] = _as_metrics(evaluate, metric)
    if evaluate_final is not None:
        functions["evaluate_final"] = _as_metrics(evaluate_final, metric)
    given = [each for each in (evaluate, evaluate_final, collate, calibration) if callable(each)]
    source = next(filter(None, map(_source_file, given)), None)
    place = source or Path.cwd() / "notebook"
    module = ModuleType("the call")
    vars(module).update(functions, QUANT_CONFIG=values)
    contract = contract_of(
        module, place, known_targets, surroundings=Surroundings(place.parent), is_file=False
    )
    digest = hashlib.sha256(config_text(contract.config))
    for function in given:
        digest.update(_code_of(function))
    return replace(contract, fingerprint=digest.hexdigest())


def _in_eval_mode(model: Any) -> Any:
    # Who has no torch loaded has no module either, and importing it takes seconds.
    torch = sys.modules.get("torch")
    if torch is None or not isinstance(model, torch.nn.Module):
        raise ContractError(
            f"model is a {type(model).__name__}, expected a torch.nn.Module or the path of an "
            "ONNX file",
            "pass the network itself, with its trained weights",
        )
    return model.eval()


def _required_inputs(model: Any) -> int | None:
    """Return how many inputs forward() needs; None where its signature does not say."""
    kinds = inspect.Parameter
    try:
        parameters = inspect.signature(model.forward).parameters.values()
    except ValueError:
        # That of TorchScript has none.
        return None
    if any(each.kind == kinds.VAR_POSITIONAL for each in parameters):
        return None
    positional = (kinds.POSITIONAL_ONLY, kinds.POSITIONAL_OR_KEYWORD)
    return sum(each.default is kinds.empty and each.kind in positional for each in parameters)


def _graph_inputs(path: Path) -> int | None:
    """Return how many inputs an ONNX file has; None where it cannot be read."""
    import onnx

    try:
        graph = onnx.load(path, load_external_data=False).graph
    except Exception:  # of protobuf's own kind; who loads the model says what is wrong with it
        return None
    constants = {initializer.name for initializer in graph.initializer}
    return sum(entry.name not in constants for entry in graph.input)


def _first_parts(batch: Any, inputs: int | None) -> Any:
    """Take the inputs out of a batch, which may have labels behind them."""
    if isinstance(batch, (list, tuple)):
        # Where nobody knows, a pair is an input and its label.
        count = inputs or max(len(batch) - 1, 1)
        return batch[0] if count == 1 else list(batch[:count])
    return batch


def _loader_of(calibration: Any) -> Callable[[], Any]:
    if isinstance(calibration, Iterator):
        raise ContractError(
            f"calibration is a {type(calibration).__name__}, which can be read only once",
            "pass a DataLoader, a list of batches, or a function that returns an iterable",
        )
    if isinstance(calibration, (str, bytes, Path)):
        raise ContractError(
            f"calibration is a {type(calibration).__name__}, expected an iterable of batches",
            "read the files: pass a DataLoader, or a function that returns an iterable of batches",
        )
    shape = getattr(calibration, "shape", None)
    if shape is not None:
        tensor = "calibration"
        if not hasattr(calibration, "split"):
            tensor = "torch.from_numpy(calibration)"
        raise ContractError(
            f"calibration is one {type(calibration).__name__} {list(shape)}, expected an iterable "
            "of batches",
            f"pass {tensor}.split(32)",
        )
    if isinstance(calibration, Iterable):
        return lambda: calibration
    if callable(calibration):
        function: Callable[[], Any] = calibration
        return function
    raise ContractError(
        f"calibration is a {type(calibration).__name__}, expected an iterable of batches",
        "pass a DataLoader, a list of batches, or a function that returns an iterable",
    )


def _described(
    loader_of: Callable[[], Any],
    take: Callable[[Any], Any],
    torch_model: Callable[[], Any] | None,
) -> dict[str, Any]:
    """Return what the calibration data says of itself."""
    loader = loader_of()
    first = next(iter(loader), None)
    if first is None:
        raise ContractError("calibration is empty: not one batch", "pass some batches")
    try:
        batch = Batch.of(take(first))
    except (TypeError, ValueError) as error:
        raise ContractError(
            f"the first calibration batch is no batch of inputs: {error}",
            "let the loader yield tensors, or pass collate=, which takes the inputs out of a batch",
        ) from error
    shapes = [list(tensor.shape[1:]) for tensor in batch.tensors]
    for shape, tensor in zip(shapes, batch.tensors, strict=True):
        if not shape:
            raise ContractError(
                f"an input of the first calibration batch has the shape {list(tensor.shape)}: no "
                "axis behind the batch's",
                "let the loader yield batches; pass collate= where labels come first",
            )
    if torch_model is not None and len(batch.tensors) == 1:
        _refuse_sample(torch_model(), batch.tensors[0])
    described: dict[str, Any] = {
        "input_shape": shapes[0] if len(shapes) == 1 else shapes,
        "batch_size": batch.sample_count,
    }
    most = -(-MOST_SAMPLES // batch.sample_count)
    length = (
        len(loader)
        if hasattr(loader, "__len__")
        else sum(1 for _ in itertools.islice(loader_of(), most))
    )
    # esp-ppq wants two at least; of a single batch, it takes the same twice.
    described["calib_steps"] = max(min(length, most), 2)
    return described


def _refuse_sample(model: Any, tensor: Any) -> None:
    """Refuse a single sample that stands where a batch of them belongs.

    A convolution takes one without complaint, and it is the layer behind it that fails.

    Raises:
        ContractError: the model takes the tensor only with one axis more.
    """
    import torch

    first = next((each for each in model.modules() if hasattr(each, "in_channels")), None)
    if first is None or tensor.dim() != first.weight.dim() - 1:
        return
    if tensor.shape[0] != first.in_channels:
        return
    with torch.no_grad():
        if not _runs(model, tensor) and _runs(model, tensor.unsqueeze(0)):
            raise ContractError(
                f"the first calibration batch has the shape {list(tensor.shape)}, which is that of "
                "one sample",
                "let the loader yield batches [batch, channels, ...]: DataLoader(samples, "
                "batch_size=32), or torch.stack(samples).split(32)",
            )


def _runs(model: Any, tensor: Any) -> bool:
    try:
        model(tensor)
    except Exception:  # of whatever kind the user's code raises
        return False
    return True


class _Head:
    """The first batches of an iterable.

    Args:
        batches: the iterable.
        count: how many to yield at most.
    """

    def __init__(self, batches: Iterable[Any], count: int) -> None:
        self._batches, self._count = batches, count

    def __iter__(self) -> Iterator[Any]:
        return itertools.islice(iter(self._batches), self._count)


def _as_metrics(evaluate: Callable[[Any], Any], metric: str | None) -> Callable[[Any], Any]:
    """Let a function return what evaluate() of a contract returns."""

    def evaluate_graph(quant_graph: Any) -> Any:
        returned = evaluate(quant_graph)
        if isinstance(returned, numbers.Real) or _is_scalar_tensor(returned):
            return {metric or METRIC: float(returned)}
        if metric is None and isinstance(returned, Mapping) and METRIC not in returned:
            named = [key for key, value in returned.items() if _is_number(value)]
            if len(named) != 1:
                raise ContractError(
                    f"evaluate() returned {len(named)} numbers ({', '.join(map(str, named))})",
                    "name the one to improve by metric=",
                )
            return {**returned, METRIC: float(returned[named[0]])}
        if not isinstance(returned, Mapping):
            shape = getattr(returned, "shape", None)
            raise ContractError(
                f"evaluate() returned a {type(returned).__name__}"
                f"{'' if shape is None else f' of the shape {list(shape)}'}, expected a number, or "
                "a dict of numbers by name",
                "return one number for all samples, such as 71.2",
            )
        return returned

    return evaluate_graph


def _is_number(value: Any) -> bool:
    return isinstance(value, numbers.Real) and not isinstance(value, bool)


def _is_scalar_tensor(value: Any) -> bool:
    shape = getattr(value, "shape", None)
    return shape is not None and math.prod(shape) == 1 and hasattr(value, "item")


def _source_file(function: Any) -> Path | None:
    try:
        file = inspect.getsourcefile(function)
    except TypeError:
        return None
    path = Path(file).resolve() if file else None
    return path if path is not None and path.is_file() else None


def _code_of(function: Any) -> bytes:
    """Return bytes that change with a function's code; what it reads from elsewhere is not seen."""
    called = function if hasattr(function, "__code__") else type(function).__dict__.get("__call__")
    code = getattr(called, "__code__", None)
    parts = [getattr(function, "__qualname__", type(function).__qualname__).encode()]
    if isinstance(code, CodeType):
        parts += _instructions(code)
    return b"\0".join(parts)


def _instructions(code: CodeType) -> Iterator[bytes]:
    yield code.co_code
    yield repr(code.co_names).encode()
    for constant in code.co_consts:
        if isinstance(constant, CodeType):
            yield from _instructions(constant)
        else:
            # A set's order, and so its repr, changes from process to process.
            ordered = sorted(map(repr, constant)) if isinstance(constant, frozenset) else constant
            yield repr(ordered).encode()
