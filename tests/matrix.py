"""Combinations of networks, chips and engines: which of them each run of the tests makes."""

from __future__ import annotations

from collections.abc import Hashable, Iterable, Sequence
from itertools import combinations
from typing import Any

import pytest
from hypothesis import settings

_run = {"whole": False}


def run_whole(whole: bool) -> None:
    """Say, before the tests are imported, whether this run is with ``--matrix``."""
    _run["whole"] = whole


def examples(few: int, *, whole: int) -> settings:
    """Return hypothesis's settings of a property that takes long.

    Args:
        few: examples of a quick run.
        whole: examples with ``--matrix``.
    """
    return settings(deadline=None, max_examples=whole if _run["whole"] else few)


def thinned(cases: Iterable[Sequence[Hashable]], *, strength: int = 1) -> list[Any]:
    """Mark as ``matrix`` the cases that a quick run can do without.

    Args:
        cases: of equally many values, in the order of the tests.
        strength: 1 keeps cases until each value is in one of them, 2 until each pair of values of
            any case is.

    Returns:
        All cases as parameters of a test; ``--matrix`` runs those that are marked, too.
    """
    all_cases = [tuple(case) for case in cases]
    covers = [
        {(places, *(case[place] for place in places)) for places in _places(case, strength)}
        for case in all_cases
    ]
    missing, kept = set().union(*covers), set()
    while missing:
        most = max(range(len(covers)), key=lambda number: len(covers[number] & missing))
        kept.add(most)
        missing -= covers[most]
    return [
        pytest.param(*case, marks=() if number in kept else pytest.mark.matrix)
        for number, case in enumerate(all_cases)
    ]


def _places(case: Sequence[Hashable], strength: int) -> Iterable[tuple[int, ...]]:
    return combinations(range(len(case)), strength)
