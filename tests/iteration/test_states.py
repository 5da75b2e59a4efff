"""The frames of a recurrent model are known by their place in the sequence."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import Tensor

from espdl_quantize.iteration._signals import FloatOutputs, SignalMeter, Watcher
from tests.networks import Streaming, held_out_images
from tests.there import there

AXES = (0, 1, None)


def stream(
    watcher: Watcher,
    model: Streaming,
    images: Tensor,
    *,
    order: list[int] | None = None,
    hand_on: Callable[[Tensor], Tensor] = lambda state: state,
) -> None:
    """Let a watcher see one sequence per batch of images, row by row."""
    parts = torch.split(images.squeeze(1), 4)
    for number in order or range(len(parts)):
        part = parts[number]
        state, rate = torch.zeros(1, len(part), 16), torch.ones(1)
        for row in range(28):
            inputs = [part[:, row], state, rate]
            with torch.no_grad():
                logits, new = model(*inputs)
            watcher(inputs, [logits, new])
            state = hand_on(new)


@pytest.fixture
def models() -> tuple[Streaming, Streaming]:
    torch.manual_seed(0)
    exact, noisy = Streaming().eval(), Streaming().eval()
    noisy.load_state_dict(
        {key: value + 0.01 * torch.randn(value.shape) for key, value in exact.state_dict().items()}
    )
    return exact, noisy


def meter_after(folder: Path, exact: Streaming, images: Tensor) -> SignalMeter:
    kept = FloatOutputs(AXES)
    stream(kept, exact, images)
    kept.save(folder, "evaluate", "key")
    return SignalMeter(folder, "evaluate", "key", ["logits", "state"], set(), AXES)


def test_frames_pair_though_the_states_differ(tmp_path: Path, models: Any) -> None:
    exact, noisy = models
    images = held_out_images(12)
    meter = meter_after(tmp_path, exact, images)
    # In another order of the sequences, which changes nothing within them.
    stream(meter, noisy, images, order=[2, 0, 1])
    assert len(meter.digests) == 12 * 28
    # Less the first rows of images, which are alike.
    assert len(set(meter.digests)) > 300
    signals = there(meter.summary())
    assert signals.samples == 12 * 28
    for output in signals.outputs:
        assert 0 < there(output.noise_signal) < 0.1
    # Both outputs hold the samples along an axis of their own: they were laid one over the other.
    assert there(signals.outputs[1].cosine) > 0.99


def test_a_state_that_is_changed_on_the_way_has_no_signals(tmp_path: Path, models: Any) -> None:
    exact, noisy = models
    images = held_out_images(12)
    meter = meter_after(tmp_path, exact, images)
    stream(meter, noisy, images, hand_on=lambda state: state * 0.5)
    # The first frames have a state of zeros in both.
    assert 0 < meter.compared <= 24
    assert meter.misses_most
    assert meter.summary() is None
    assert meter.arrays() == {}


def test_blank_frames_are_no_calibration_samples() -> None:
    watcher = Watcher(AXES)
    silence = [torch.zeros(3, 28), torch.zeros(1, 3, 16), torch.ones(1)]
    sound = [torch.rand(3, 28), torch.zeros(1, 3, 16), torch.ones(1)]
    for inputs in (silence, sound):
        watcher(inputs, None)
    assert watcher.shared_with(set(watcher.digests)) == 3


def test_an_input_counts_as_a_state_only_where_a_forward_put_it_out() -> None:
    fed_back, plain = Watcher(), Watcher()
    first, given, other = torch.rand(2, 8), torch.rand(2, 8), torch.rand(2, 8)
    fed_back([first], [given])
    plain([first], [other])
    for watcher in (fed_back, plain):
        watcher([given], None)
    assert fed_back.digests[:2] == plain.digests[:2]
    assert not set(fed_back.digests[2:]) & set(plain.digests[2:])
    again = Watcher()
    again([given], None)
    assert again.digests == plain.digests[2:]
