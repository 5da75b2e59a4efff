"""The float model's score on the images that score the quantized model, once per output folder."""

from __future__ import annotations

import hashlib
from pathlib import Path

from espdl_quantize.contract import Contract
from espdl_quantize.iteration._score import Evaluator, Score
from espdl_quantize.iteration._signals import FloatOutputs, float_samples, has_float_outputs
from espdl_quantize.ppq import FloatModel
from espdl_quantize.record import FloatScore, FloatScores, read_float_scores


class FloatReference:
    """The stored float scores of one output folder, by the function that scored.

    They are dropped where the contract or the float model changed since.

    Attributes:
        key: stands for the contract and the float model.
    """

    def __init__(self, outputs: Path, contract: Contract, model: FloatModel) -> None:
        self._outputs = outputs
        self.key = _key(contract, model)
        stored, _ = read_float_scores(outputs)
        self._scores = stored if stored.key == self.key else FloatScores(self.key)

    def value(self, used: Evaluator) -> float | None:
        """Return the stored value that ``used`` gave, None where there is none."""
        return self._scores.value(used)

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
        self._scores = self._scores.with_score(
            scored.used, FloatScore(scored.value, scored.metrics)
        )
        self._scores.write(self._outputs)


def _key(contract: Contract, model: FloatModel) -> str:
    digest = hashlib.sha256(contract.fingerprint.encode())
    # A model of more than 2 GB has its weights in a file of their own.
    for file in (model.onnx_file, model.onnx_file.with_name(f"{model.onnx_file.name}.data")):
        if file.exists():
            digest.update(file.read_bytes())
    return digest.hexdigest()
