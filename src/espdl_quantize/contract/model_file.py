"""Reads what an ONNX file declares, and recognizes files that are none."""

from __future__ import annotations

import zipfile
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from espdl_quantize.core import ContractError

_CONVERT = "export the model to ONNX, e.g. by torch.onnx.export(..., dynamo=False) or tf2onnx"
_SIGNATURES: tuple[tuple[int, bytes, str, str], ...] = (
    (4, b"TFL3", "a TensorFlow Lite model", "convert it to ONNX by tf2onnx"),
    (0, b"\x89HDF\r\n\x1a\n", "an HDF5 file, as Keras writes", "convert it to ONNX by tf2onnx"),
    (0, b"EDL", "an .espdl file, quantized already", "give the float ONNX file it was made of"),
    (0, b"version https://git-lfs", "a Git LFS pointer, not the file itself", "run git lfs pull"),
    (0, b"<?xml", "an XML file", _CONVERT),
    (0, b"<", "a web page or another text, as of a failed download", "download the file again"),
    (0, b"{", "a JSON file", _CONVERT),
    (0, b"\x1f\x8b", "a gzip archive", "unpack it"),
    (0, b"\x93NUMPY", "a NumPy array", _CONVERT),
    (0, b"\x80\x02", "a pickle, as older versions of torch write", "load it in get_torch_model()"),
)
"""Where a file has which bytes, what it is, and what to do. HDF5: its format specification, II.A;
TFL3: the file_identifier of TensorFlow Lite's schema.fbs."""


@dataclass(frozen=True)
class DeclaredInput:
    """An input as an ONNX file declares it.

    Attributes:
        name: of the input.
        dtype: of its elements, as numpy or ONNX names it, in lower case.
        shape: the whole shape; a name or None for a size that is not fixed. None where the file
            does not say how many axes there are.
    """

    name: str
    dtype: str
    shape: tuple[int | str | None, ...] | None

    def describe(self) -> str:
        """Return name and shape."""
        if self.shape is None:
            return f"{self.name!r} of unknown shape"
        sizes = ", ".join("?" if size is None else str(size) for size in self.shape)
        return f"{self.name!r} [{sizes}]"


@dataclass(frozen=True)
class ModelFile:
    """What is read of an ONNX file without its weights.

    Attributes:
        inputs: in the file's order, less those that have a default.
        outputs: the names.
        missing: files that hold its weights and are not beside it, or are too short.
    """

    inputs: tuple[DeclaredInput, ...]
    outputs: tuple[str, ...]
    missing: tuple[str, ...] = ()


def foreign_format(file: Path) -> tuple[str, str] | None:
    """Say by its content what a file is that is no ONNX model, and what to do.

    Returns:
        Nothing where nothing speaks against ONNX: a protobuf message has no signature.
    """
    if file.is_dir():
        return "a folder, as TensorFlow's SavedModel", "convert it to ONNX by tf2onnx"
    with file.open("rb") as opened:
        head = opened.read(64)
    if not head:
        return "an empty file", "write it again"
    for offset, bytes_there, what, remedy in _SIGNATURES:
        if head[offset : offset + len(bytes_there)] == bytes_there:
            return what, remedy
    if head.startswith(b"PK\x03\x04"):
        return _archive(file)
    return None


def _archive(file: Path) -> tuple[str, str]:
    try:
        with zipfile.ZipFile(file) as archive:
            names = archive.namelist()
    except (OSError, zipfile.BadZipFile):
        return "a damaged zip archive", "write it again"
    torch_hint = 'load it in get_torch_model(), and set model_type to "torch"; or export it to ONNX'
    if any("/code/" in name for name in names):
        return "a TorchScript model", torch_hint
    if any(name.endswith("data.pkl") for name in names):
        return "a file of torch.save()", torch_hint
    if "config.json" in names:
        return "a Keras model", "convert it to ONNX by tf2onnx"
    if any(name.endswith(".npy") for name in names):
        return "arrays of NumPy", _CONVERT
    return "a zip archive", "unpack it"


def read_model_file(file: Path) -> ModelFile:
    """Read what an ONNX file declares.

    Raises:
        ContractError: it is no ONNX model.
    """
    import onnx

    foreign = foreign_format(file)
    if foreign is not None:
        raise ContractError(f"{file} is {foreign[0]}, expected an ONNX model", foreign[1])
    try:
        model = onnx.load(str(file), load_external_data=False)
    except OSError:
        raise
    except Exception as error:
        lines = str(error).splitlines() or [type(error).__name__]
        raise ContractError(
            f"{file} is no ONNX model, or is damaged: {lines[0]}", "export or download it again"
        ) from error
    if not model.graph.node or not model.opset_import:
        raise ContractError(
            f"{file} is no ONNX model: it has no {'op' if not model.graph.node else 'opset'}",
            "export it again; a TensorFlow .pb is converted by tf2onnx",
        )
    constants = {constant.name for constant in model.graph.initializer}
    return ModelFile(
        tuple(_declared(each) for each in model.graph.input if each.name not in constants),
        tuple(each.name for each in model.graph.output),
        tuple(_missing_files(model, file.parent)),
    )


def _declared(value: Any) -> DeclaredInput:
    import onnx

    kind = value.type.tensor_type
    dtype = onnx.TensorProto.DataType.Name(kind.elem_type).lower()
    if not kind.HasField("shape"):
        return DeclaredInput(value.name, dtype, None)
    sizes = tuple(
        # Some exporters write a negative size for one that is open.
        (size.dim_value if size.dim_value > 0 else None)
        if size.HasField("dim_value")
        else (size.dim_param or None)
        for size in kind.shape.dim
    )
    return DeclaredInput(value.name, dtype, sizes)


def _missing_files(model: Any, folder: Path) -> Iterator[str]:
    import onnx

    needed: dict[str, int] = {}
    for tensor in onnx.external_data_helper._get_all_tensors(model):
        if not onnx.external_data_helper.uses_external_data(tensor):
            continue
        entries = {entry.key: entry.value for entry in tensor.external_data}
        end = int(entries.get("offset") or 0) + int(entries.get("length") or 0)
        location = entries.get("location", "")
        needed[location] = max(needed.get(location, 0), end)
    for location, size in needed.items():
        place = folder / location
        if not place.is_file():
            yield location
        elif place.stat().st_size < size:
            yield f"{location} (of {place.stat().st_size} bytes, where {size} are needed)"
