"""The state of the random generators that a pass may draw from, as arrays."""

from __future__ import annotations

import random
from typing import Any

import numpy as np
import torch

Arrays = dict[str, Any]


def random_state() -> Arrays:
    """Return the states of Python's, NumPy's and torch's generator."""
    version, numbers, spare = random.getstate()
    _, keys, place, has_spare, cached = np.random.get_state(legacy=True)
    return {
        "python": np.array([version, *numbers], dtype=np.uint64),
        "python.spare": np.array([float("nan") if spare is None else spare]),
        "numpy": np.array([*keys, place, has_spare], dtype=np.uint64),
        "numpy.spare": np.array([cached]),
        "torch": torch.get_rng_state().numpy(),
    }


def restore_random_state(state: Arrays) -> None:
    """Go on as the generators did from a state that :func:`random_state` returned."""
    version, *numbers = (int(number) for number in state["python"])
    spare = float(state["python.spare"][0])
    random.setstate((version, tuple(numbers), None if spare != spare else spare))
    *keys, place, has_spare = (int(number) for number in state["numpy"])
    cached = float(state["numpy.spare"][0])
    np.random.set_state(("MT19937", np.array(keys, np.uint32), place, has_spare, cached))
    torch.set_rng_state(torch.from_numpy(np.array(state["torch"], dtype=np.uint8)))
