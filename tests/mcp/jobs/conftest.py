import os

import pytest


@pytest.fixture(autouse=True)
def no_signal_reaches_all(monkeypatch: pytest.MonkeyPatch) -> None:
    """Should a number of a record ever reach killpg, no test may end what runs beside it."""
    real = os.killpg

    def guarded(group: int, number: int) -> None:
        assert group > 1 and group != os.getpgrp(), f"the group {group} was to be signalled"
        real(group, number)

    monkeypatch.setattr(os, "killpg", guarded)
