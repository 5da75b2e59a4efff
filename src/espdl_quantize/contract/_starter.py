"""Starter contracts for ``espdl-quantize init``."""

from __future__ import annotations

import json
import os
import re
from collections.abc import Mapping, Sequence
from importlib import resources
from pathlib import Path
from typing import Literal

from espdl_quantize.contract._config import InputSpec
from espdl_quantize.contract.model_file import DeclaredInput, read_model_file
from espdl_quantize.core import UsageError

ModelType = Literal["torch", "onnx"]

_FREE_SIZE = 224
"""Stands in the starter where the file leaves a size open; a comment says so."""

_FACTORY = re.compile(r"[A-Za-z_]\w*(\.[A-Za-z_]\w*)*:[A-Za-z_]\w*")


def starter_contract(model_type: ModelType) -> str:
    """Return the source of a commented contract to copy and fill in."""
    folder = resources.files("espdl_quantize.contract") / "templates"
    parts = [f"{model_type}_model", "common"]
    if model_type == "torch":
        parts.append("torch_functions")
    return "".join((folder / f"{part}.py.txt").read_text(encoding="utf-8") for part in parts)


def starter_from(model: str, contract: Path) -> str:
    """Return a starter contract with what is known of a model filled in.

    Args:
        model: the path of an ONNX file, or ``module:function`` that returns a torch model.
        contract: where the contract will be; the file's path is written relative to its folder.

    Raises:
        ContractError: the file is no ONNX model.
        UsageError: there is no such file, and it names no function.
    """
    file = Path(model)
    if file.is_file():
        return _of_onnx(file.resolve(), contract.resolve())
    if _FACTORY.fullmatch(model) is None:
        raise UsageError(
            f"{model!r} is no file, and no function of a module",
            "give the path of an ONNX file, or module:function that returns a torch model",
        )
    module, _, function = model.partition(":")
    name = module.rpartition(".")[2]
    return _filled(
        starter_contract("torch"),
        {
            '"model_type": "torch",': f'"model_type": "torch",\n    "model_name": "{name}",',
            '    raise NotImplementedError("return your torch.nn.Module here")': (
                f"    from {module} import {function}\n\n    return {function}().eval()"
            ),
        },
    )


def _of_onnx(file: Path, contract: Path) -> str:
    declared = read_model_file(file)
    specs = [_spec_of(each) for each in declared.inputs]
    path = os.path.relpath(file, contract.parent)
    path = str(file) if path.startswith("..") else Path(path).as_posix()
    open_sizes = [
        f"{each.name!r} {each.describe()}"
        for each, spec in zip(declared.inputs, specs, strict=True)
        if each.shape is None
        or any(not isinstance(size, int) for at, size in enumerate(each.shape) if at != spec.axis)
    ]
    shapes = _dict({spec.name: list(spec.shape) for spec in specs})
    axes = {spec.name: spec.axis for spec in specs if spec.axis != 0}
    lines = [_comment(f"The file's outputs: {', '.join(declared.outputs)}.")]
    if open_sizes:
        lines.append(_comment(f"TODO: the file leaves sizes open: {', '.join(open_sizes)}."))
    is_plain = len(specs) == 1 and not axes
    lines.append(f'    "input_shape": {list(specs[0].shape) if is_plain else shapes},')
    if axes:
        lines.append("    # The axis that holds the samples; None for one that is for all.")
        lines.append(f'    "batch_axis": {_dict(axes)},')
    parts = {
        '"onnx_path": "model.onnx",': f'"onnx_path": {_literal(path)},',
        '    "input_shape": [3, 224, 224],': "\n".join(lines),
        '"model_type": "onnx",': f'"model_type": "onnx",\n    "model_name": {_literal(file.stem)},',
    }
    batch = _fixed_batch(declared.inputs, specs)
    if batch > 1:
        parts['"batch_size": 32,'] = f'"batch_size": {batch},'
    sample = f"a tensor {list(specs[0].shape)}" if is_plain else f"a dict of tensors {shapes}"
    unfilled = '"load and preprocess the file: a tensor [3, 224, 224]"'
    parts[unfilled] = _literal(f"load and preprocess the file: {sample}")
    if not is_plain:
        parts["inputs.to(device))[0]\n"] = (
            "{name: value.to(device) for name, value in inputs.items()})[0]\n"
        )
    if axes:
        parts["def create_calib_dataloader"] = f"{_stacking(specs)}def create_calib_dataloader"
        loader = 'DataLoader(samples, batch_size=QUANT_CONFIG["batch_size"]'
        parts[f"    return torch.utils.data.{loader})"] = (
            f"    return torch.utils.data.{loader}, collate_fn=stack)"
        )
    return _filled(starter_contract("onnx"), parts)


def _filled(source: str, parts: Mapping[str, str]) -> str:
    """Return a starter with parts of it replaced; nothing is looked for in what goes in."""
    missing = [part for part in parts if part not in source]
    if missing:
        raise AssertionError(f"the starter has no {missing[0]!r}")
    return re.sub("|".join(map(re.escape, parts)), lambda match: parts[match[0]], source)


def _dict(values: Mapping[str | None, object]) -> str:
    return f"{{{', '.join(f'{_literal(name)}: {value}' for name, value in values.items())}}}"


def _literal(text: str | None) -> str:
    """Return a string as Python source. Names in a file are anybody's, and a contract is run."""
    text = text or ""
    if text.isprintable():
        return json.dumps(text, ensure_ascii=False)
    escaped = text.encode("unicode_escape").decode("ascii").replace('"', '\\"')
    return f'"{escaped}"'


def _comment(text: str) -> str:
    """Return a line of comment that nothing in it can end."""
    return "    # " + "".join(each if each.isprintable() else repr(each)[1:-1] for each in text)


def _stacking(specs: Sequence[InputSpec]) -> str:
    """Return a collate_fn for samples that do not all lie along the first axis."""
    lines = []
    for spec in specs:
        name = _literal(spec.name)
        made = (
            f"samples[0][{name}]"
            if spec.axis is None
            else f"torch.stack([sample[{name}] for sample in samples], dim={spec.axis})"
        )
        lines.append(f"        {name}: {made},\n")
    return (
        "def stack(samples):\n"
        '    """Make a batch: of each input, the samples along the axis that holds them."""\n'
        "    if isinstance(samples[0], tuple):  # (inputs, label)\n"
        "        inputs, labels = zip(*samples)\n"
        "        return stack(inputs), torch.tensor(labels)\n"
        f"    return {{\n{''.join(lines)}    }}\n\n\n"
    )


def _spec_of(declared: DeclaredInput) -> InputSpec:
    """Guess which axis of an input holds the samples: of size 1 or without a fixed size."""
    shape = declared.shape
    if shape is None:
        return InputSpec(declared.name, (3, _FREE_SIZE, _FREE_SIZE))
    free = [at for at, size in enumerate(shape) if not isinstance(size, int)]
    if shape in ((), (1,)):
        axis: int | None = None
    elif not isinstance(shape[0], int) or shape[0] == 1:
        axis = 0
    elif free:
        axis = free[0]
    else:
        axis = shape.index(1) if 1 in shape else 0
    sizes = [size if isinstance(size, int) else _FREE_SIZE for size in shape]
    rest = tuple(size for at, size in enumerate(sizes) if at != axis)
    return InputSpec(declared.name, rest, axis)


def _fixed_batch(inputs: tuple[DeclaredInput, ...], specs: list[InputSpec]) -> int:
    """Return the size that the file fixes the batch to; 1 where it fixes none."""
    for declared, spec in zip(inputs, specs, strict=True):
        size = None if spec.axis is None or declared.shape is None else declared.shape[spec.axis]
        if isinstance(size, int):
            return size
    return 1
