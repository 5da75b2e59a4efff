"""What the model declares of its inputs, held against what the contract says of them."""

from __future__ import annotations

import difflib
import inspect
import itertools
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from typing import Any

from espdl_quantize.contract._config import InputSpec, QuantConfig
from espdl_quantize.contract.model_file import DeclaredInput, ModelFile

_FEW_INPUTS = 6
"""Up to so many, every order of the inputs is tried."""


@dataclass(frozen=True)
class Contradiction:
    """One thing in which the contract contradicts its model.

    Attributes:
        code: a stable name of the cause.
        subject: the input, the key or the function.
        message: both sides, with their figures.
        hint: what to do.
        figures: names and numbers, for programs.
    """

    code: str
    subject: str
    message: str
    hint: str
    figures: dict[str, Any] = field(default_factory=dict)


def contradictions(
    config: QuantConfig, model: ModelFile, names: Sequence[str] | None = None
) -> list[Contradiction]:
    """Name everything in which the contract's inputs are not those of its ONNX file.

    Args:
        config: the contract's.
        model: what the file declares.
        names: of the loader's batches, where they are dicts and input_shape has no names.
    """
    found = [
        Contradiction(
            "external_data_missing",
            "onnx_path",
            f"the weights of the ONNX file are in {name}, which is not beside it",
            "put the file there, or save the model as one file by onnx.save(model, path)",
            {"file": name},
        )
        for name in model.missing
    ]
    converted = _HALF if config.convert_fp16 else ()
    types = (_of_dtype(each) for each in model.inputs if each.dtype not in converted)
    found += [each for each in types if each is not None]
    names = config.input_names or names
    specs = config.inputs
    if names is not None and len(names) == len(specs):
        by_name = dict(zip(names, specs, strict=True))
        wrong = list(_of_names(by_name, model.inputs, in_shape=config.input_names is not None))
        if wrong:
            return found + wrong
        pairs = [(by_name[declared.name], declared) for declared in model.inputs]
    elif len(specs) != len(model.inputs):
        return [*found, _of_count(specs, model.inputs)]
    else:
        pairs = list(zip(specs, model.inputs, strict=True))
        order = _other_order(specs, model.inputs)
        if order is not None:
            return [*found, order]
    for spec, declared in pairs:
        found += _of_shape(spec, declared, config)
    return found


_HALF = ("float16", "bfloat16")


def _of_dtype(declared: DeclaredInput) -> Contradiction | None:
    if declared.dtype in ("float", "bool"):
        return None
    figures = {"input": declared.name, "dtype": declared.dtype}
    message = f"input {declared.name!r} of the ONNX file is {declared.dtype}, expected float"
    if declared.dtype == "undefined":
        hint = "export the file again, with the types of its inputs"
        message = f"input {declared.name!r} of the ONNX file has no type, expected float"
        return Contradiction("input_has_no_type", declared.name, message, hint, figures)
    if declared.dtype in (*_HALF, "double"):
        hint = "convert the model to float32, or export it with float32 weights and inputs"
        if declared.dtype in _HALF:
            hint = f'set QUANT_CONFIG["convert_fp16"] to True, or {hint}'
        return Contradiction("input_is_no_float32", declared.name, message, hint, figures)
    if declared.dtype in ("uint8", "int8"):
        hint = (
            "cut the model behind its Cast or DequantizeLinear, so that it takes float; the "
            "exported model takes integers all the same"
        )
    else:
        hint = (
            "numbers of tokens or classes cannot be quantized: cut the model behind its embedding "
            "(Gather), so that it takes the vectors, and look them up in the application"
        )
    return Contradiction("input_is_integer", declared.name, message, hint, figures)


def _of_names(
    by_name: dict[str, InputSpec], inputs: Sequence[DeclaredInput], *, in_shape: bool
) -> Iterator[Contradiction]:
    place = "input_shape" if in_shape else "the calibration loader"
    own, theirs = list(by_name), [declared.name for declared in inputs]
    shown = ", ".join(declared.describe() for declared in inputs)
    missing = [name for name in theirs if name not in own]
    surplus = [name for name in own if name not in theirs]
    for name in missing:
        near = difflib.get_close_matches(name, surplus, 1)
        hint = f"rename {near[0]!r} to {name!r}" if near else f"give {name!r}, too"
        if len(missing) == len(surplus) == 1:
            hint = f"rename {surplus[0]!r} to {name!r}"
        yield Contradiction(
            "input_missing",
            name,
            f"{place} names no {name!r}, which is an input of the ONNX file ({shown})",
            hint,
            {"input": name},
        )
    if len(surplus) > len(missing) or not missing:
        for name in surplus:
            yield Contradiction(
                "input_unknown",
                name,
                f"{place} names {name!r}, which is no input of the ONNX file ({shown})",
                "leave it out, or use the file's name",
                {"input": name},
            )


def _of_count(specs: Sequence[InputSpec], inputs: Sequence[DeclaredInput]) -> Contradiction:
    shown = ", ".join(declared.describe() for declared in inputs) or "none"
    figures = {"found": len(specs), "expected": len(inputs)}
    counted = f"{len(inputs)} input{'' if len(inputs) == 1 else 's'}"
    message = f"the ONNX file has {counted} ({shown}), input_shape has {len(specs)}"
    if len(specs) < len(inputs):
        hint = "give input_shape a shape for each, and let the loader yield a tensor for each"
        return Contradiction("input_missing", "input_shape", message, hint, figures)
    hint = "give the shapes of the model's inputs alone, without labels"
    return Contradiction("input_unknown", "input_shape", message, hint, figures)


def _other_order(
    specs: Sequence[InputSpec], inputs: Sequence[DeclaredInput]
) -> Contradiction | None:
    """Say so where the shapes fit in another order alone."""
    if len(specs) > _FEW_INPUTS or all(map(_fits, specs, inputs)):
        return None
    for order in itertools.permutations(range(len(specs))):
        if all(_fits(specs[at], declared) for at, declared in zip(order, inputs, strict=True)):
            shown = ", ".join(declared.describe() for declared in inputs)
            return Contradiction(
                "inputs_in_another_order",
                "input_shape",
                f"the ONNX file's inputs are in the order {shown}; input_shape is in another",
                "put input_shape and the loader's tensors into that order, or name them: "
                'input_shape {"name": shape, ...}',
                {"order": [declared.name for declared in inputs]},
            )
    return None


def _fits(spec: InputSpec, declared: DeclaredInput) -> bool:
    if declared.shape is None:
        return True
    own: list[int | None] = [*spec.shape]
    if spec.axis is not None:
        own.insert(spec.axis, None)
    return len(own) == len(declared.shape) and all(
        size is None or not isinstance(fixed, int) or size == fixed
        for size, fixed in zip(own, declared.shape, strict=True)
    )


def _of_shape(
    spec: InputSpec, declared: DeclaredInput, config: QuantConfig
) -> Iterator[Contradiction]:
    shape, name = declared.shape, declared.name
    if shape is None:
        return
    figures = {"input": name, "file": list(shape), "input_shape": list(spec.shape)}
    if not _fits(spec, declared):
        yield Contradiction(
            "input_shape_contradicts_the_file",
            name,
            f"the ONNX file declares input {declared.describe()}, the contract says "
            f"{spec.describe()}",
            _hint_shape(spec, shape),
            figures,
        )
        return
    batch = None if spec.axis is None else shape[spec.axis]
    if isinstance(batch, int) and batch not in (1, config.batch_size):
        yield Contradiction(
            "batch_is_fixed",
            name,
            f"the ONNX file fixes the batch of input {declared.describe()} to {batch}, batch_size "
            f"is {config.batch_size}, and the chip runs single samples",
            "export it with a batch of 1 or a dynamic one" + _hint_axis(spec, shape),
            figures | {"batch_size": config.batch_size},
        )


def _hint_axis(spec: InputSpec, shape: tuple[int | str | None, ...]) -> str:
    """Name an axis of free size that may be the batch's instead; empty where there is none."""
    for axis, size in enumerate(shape):
        other = InputSpec(None, spec.shape, axis)
        if not isinstance(size, int) and _fits(other, DeclaredInput("", "float", shape)):
            return f'; where axis {axis} holds the samples, say so in QUANT_CONFIG["batch_axis"]'
    return ""


def _hint_shape(spec: InputSpec, shape: tuple[int | str | None, ...]) -> str:
    """Say which contradiction it is."""

    def are(sizes: Sequence[int]) -> bool:
        changed = InputSpec(None, tuple(sizes), spec.axis)
        return _fits(changed, DeclaredInput("", "float", shape))

    own = list(spec.shape)
    if (
        spec.axis is not None
        and len(own) == len(shape)
        and _fits(InputSpec(None, tuple(own), None), DeclaredInput("", "float", shape))
    ):
        return (
            f"input_shape is without the batch: set it to {own[1:]}; where the input holds no "
            'samples, set it to None in QUANT_CONFIG["batch_axis"]'
        )
    if len(own) == 3:
        channels, *rest = own
        if are([*rest, channels]):
            return (
                f"the file takes channels last (NHWC): set input_shape to {[*rest, channels]} and "
                "let the loader yield such images"
            )
        if are([own[2], own[0], own[1]]):
            return (
                "the file takes channels first (NCHW): set input_shape to "
                f"{[own[2], own[0], own[1]]} and let the loader yield such images"
            )
        if are([own[0], own[2], own[1]]):
            return (
                "height and width are swapped: set input_shape to "
                f"{[own[0], own[2], own[1]]}, and see that the loader yields such images"
            )
    for axis in range(len(own) + 1):
        if _fits(InputSpec(None, spec.shape, axis), DeclaredInput("", "float", shape)):
            return f'where its axis {axis} holds the samples, say so in QUANT_CONFIG["batch_axis"]'
    fixed = [size for at, size in enumerate(shape) if at != spec.axis]
    if all(isinstance(size, int) for size in fixed):
        return f"set input_shape to {fixed}, or export the model for {spec.describe()}"
    return "make input_shape and the file agree"


def forward_contradiction(
    signature: inspect.Signature, names: Sequence[str] | None, count: int
) -> Contradiction | None:
    """Hold the tensors of a batch against the parameters of a torch model's forward.

    Args:
        signature: of the bound forward, without self.
        names: of the tensors; None where their order counts.
        count: how many tensors a batch has.
    """
    parameters = list(signature.parameters.values())
    kinds = inspect.Parameter
    if any(each.kind in (kinds.VAR_POSITIONAL, kinds.VAR_KEYWORD) for each in parameters):
        return None
    required = [each.name for each in parameters if each.default is kinds.empty]
    known = [each.name for each in parameters]
    shown = f"forward({', '.join(known)})"
    figures = {"parameters": known, "names": None if names is None else list(names)}
    if names is None:
        if len(required) <= count <= len(known):
            return None
        of = f"{len(required)}" if len(required) == len(known) else f"{len(required)} or more"
        missing = list(required[count:])
        hint = (
            f"give input_shape and the loader's batches {', '.join(map(repr, missing))}, too"
            if missing
            else "let the loader yield the model's inputs alone, by collate_fn(batch)"
        )
        message = f"{shown} of the torch model takes {of} inputs, a batch has {count}"
        code = "input_missing" if missing else "input_unknown"
        return Contradiction(code, "get_torch_model()", message, hint, figures)
    unknown = [name for name in names if name not in known]
    missing = [name for name in required if name not in names]
    if not unknown and not missing:
        return None
    parts = [f"no {name!r}" for name in missing] + [f"a {name!r} that it lacks" for name in unknown]
    return Contradiction(
        "input_missing" if missing else "input_unknown",
        "get_torch_model()",
        f"the batch gives {shown} of the torch model {' and '.join(parts)}",
        "name the tensors as forward's parameters, in input_shape and in the loader's dicts",
        figures,
    )
