"""The float model's score on the images that score the quantized model, once per output folder."""

from __future__ import annotations

import hashlib
from pathlib import Path
from typing import Any

from espdl_quantize.contract import Contract
from espdl_quantize.core import OutputFolderError, read_json, write_json
from espdl_quantize.iteration._score import Evaluator, Score
from espdl_quantize.iteration._signals import FloatOutputs, float_samples, has_float_outputs
from espdl_quantize.ppq import FloatModel

FLOAT_REFERENCE = "float_reference.json"


class FloatReference:
    """The stored float scores of one output folder, by the function that scored.

    They are dropped where the contract or the float model changed since.

    Attributes:
        key: stands for the contract and the float model.
    """

    def __init__(self, outputs: Path, contract: Contract, model: FloatModel) -> None:
        self._outputs = outputs
        self._file = outputs / FLOAT_REFERENCE
        self.key = _key(contract, model)
        self._scores = self._load()

    def _load(self) -> dict[str, Any]:
        try:
            stored = read_json(self._file)
        except OutputFolderError:
            return {}
        scores = stored.get("scores")
        return scores if stored.get("key") == self.key and isinstance(scores, dict) else {}

    def value(self, used: Evaluator) -> float | None:
        """Return the stored value that ``used`` gave, None where there is none."""
        stored = self._scores.get(used)
        value = stored.get("primary_value") if isinstance(stored, dict) else None
        return float(value) if isinstance(value, (int, float)) else None

    def is_complete(self, used: Evaluator) -> bool:
        """Tell whether the score is there, and the outputs that it was taken of."""
        return self.value(used) is not None and has_float_outputs(self._outputs, used, self.key)

    def samples(self, used: Evaluator) -> set[bytes]:
        """Return the content of the samples that were seen while ``used`` scored."""
        return float_samples(self._outputs, used, self.key)

    def store(self, scored: Score) -> None:
        """Keep a score of the float model, and the outputs where they were watched."""
        if isinstance(scored.watcher, FloatOutputs):
            scored.watcher.save(self._outputs, scored.used, self.key)
        self._scores[scored.used] = {"metrics": scored.metrics, "primary_value": scored.value}
        write_json(self._file, {"key": self.key, "scores": self._scores})


def _key(contract: Contract, model: FloatModel) -> str:
    digest = hashlib.sha256(contract.fingerprint.encode())
    # A model of more than 2 GB has its weights in a file of their own.
    for file in (model.onnx_file, model.onnx_file.with_name(f"{model.onnx_file.name}.data")):
        if file.exists():
            digest.update(file.read_bytes())
    return digest.hexdigest()
