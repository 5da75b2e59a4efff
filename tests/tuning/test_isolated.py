from pathlib import Path

import pytest

from espdl_quantize.core import ContractError
from espdl_quantize.record import History
from espdl_quantize.setting import baseline
from espdl_quantize.tuning import IsolatedBackend
from espdl_quantize.tuning._isolated import derived_limit
from tests.search.made_runs import history, run, trained


def past(seconds: float) -> History:
    return history(run(0, 0.5, baseline(), elapsed_seconds=seconds))


def test_an_iteration_is_taken_to_hang_at_ten_times_what_was_measured() -> None:
    assert derived_limit(past(300.0), baseline()) == 3000.0
    # The shortest ones may be delayed by anything else on the machine.
    assert derived_limit(past(3.0), baseline()) == 600.0


def test_what_was_never_measured_has_no_limit() -> None:
    assert derived_limit(history(), baseline()) is None
    assert derived_limit(past(300.0), trained()) is None


def test_a_missing_contract_starts_nothing(tmp_path: Path) -> None:
    with pytest.raises(ContractError, match="is no file"):
        IsolatedBackend(tmp_path / "nothing.py")
