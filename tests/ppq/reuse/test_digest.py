"""Equal digests only where a pass would compute the same."""

import random

import numpy as np
import pytest
import torch

from espdl_quantize.ppq._random import random_state, restore_random_state
from espdl_quantize.ppq.reuse._digest import Digest, UndigestibleError


def digest(*values: object) -> str:
    made = Digest()
    made.add(*values)
    return made.hex()


IMAGE = torch.arange(48.0).reshape(1, 3, 4, 4)


@pytest.mark.parametrize(
    ("one", "other"),
    [
        (1, 1.0),
        (1, True),
        ("1", 1),
        ("a", b"a"),
        (("ab", "c"), ("a", "bc")),
        ((1, (2, 3)), (1, 2, 3)),
        ({"a": 1}, {"a": 2}),
        (None, "None"),
        (IMAGE, IMAGE + 1e-6),
        (IMAGE, IMAGE.double()),
        (IMAGE, IMAGE.reshape(3, 1, 4, 4)),
        (IMAGE, IMAGE.contiguous(memory_format=torch.channels_last)),
        (IMAGE, IMAGE.numpy()),
        (np.zeros(2), np.zeros((2, 1))),
        (torch.relu, torch.sigmoid),
    ],
)
def test_what_differs_differs(one: object, other: object) -> None:
    assert digest(one) != digest(other)


def test_what_is_equal_is_equal() -> None:
    assert digest({"a": 1, "b": IMAGE}) == digest({"b": IMAGE.clone(), "a": 1})
    assert digest(torch.tensor(2.0), torch.zeros(0)) == digest(torch.tensor(2.0), torch.zeros(0))
    assert digest(torch.zeros(3, dtype=torch.bool)) != digest(torch.ones(3, dtype=torch.bool))


def test_what_has_no_known_equality_is_refused() -> None:
    with pytest.raises(UndigestibleError):
        digest(object())
    with pytest.raises(UndigestibleError):
        digest(np.array([object()], dtype=object))


def test_generators_go_on_from_where_they_were() -> None:
    def draw() -> tuple[float, float, float, float]:
        return random.gauss(0, 1), random.random(), float(np.random.randn()), float(torch.rand(1))

    draw()
    state = random_state()
    first = [draw() for _ in range(3)]
    restore_random_state(state)
    assert [draw() for _ in range(3)] == first
