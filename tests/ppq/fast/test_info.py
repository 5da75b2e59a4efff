"""The text of long arrays against numpy's."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from espdl_quantize.ppq.fast.writing import repr_of


@pytest.fixture(scope="module", autouse=True)
def whole_arrays() -> Iterator[None]:
    """As esp-ppq sets it before it writes an .info file."""
    with np.printoptions(threshold=np.inf):  # type: ignore[arg-type]
        yield


@given(
    count=st.integers(1, 3000),
    kind=st.sampled_from([np.int8, np.int16]),
    ends=st.tuples(st.integers(-(2**15), 2**15 - 1), st.integers(-(2**15), 2**15 - 1)),
    seed=st.integers(0, 9),
)
def test_it_is_numpys(count: int, kind: type, ends: tuple[int, int], seed: int) -> None:
    limits = np.iinfo(kind)
    low, high = (int(np.clip(end, limits.min, limits.max)) for end in sorted(ends))
    array: Any = np.random.default_rng(seed).integers(low, high + 1, count).astype(kind)
    assert repr_of(array) == repr(array)


@pytest.mark.parametrize("width", [1, 12, 20, 75, 200])
def test_it_fits_any_width_of_a_line(width: int) -> None:
    with np.printoptions(threshold=np.inf, linewidth=width):  # type: ignore[arg-type]
        for count in (1, 2, 7, 100):
            array = np.arange(count, dtype=np.int8)
            assert repr_of(array) == repr(array)
