from __future__ import annotations

from typing import Any

import pytest

from espdl_quantize.core import EXIT_USAGE, UsageError
from espdl_quantize.tuning import Budget, parse_duration


@pytest.mark.parametrize(
    ("text", "seconds"),
    [
        ("45m", 2700),
        ("1h30m", 5400),
        ("90s", 90),
        ("90", 90),
        ("1.5h", 5400),
        ("1h30", 3630),
        ("2 h", 7200),
        ("10MIN", 600),
        ("1h2m3s", 3723),
        ("0.5", 0.5),
    ],
)
def test_durations(text: Any, seconds: Any) -> None:
    assert parse_duration(text) == seconds


@pytest.mark.parametrize(
    "text",
    ["", "abc", "-5m", "5d", "0", "0s", "m", "1m1h", "nan", "inf", "1e3", "9999999h", "\u0661m"],
)
def test_what_is_no_duration_is_a_usage_error(text: Any) -> None:
    with pytest.raises(UsageError) as error:
        parse_duration(text)
    assert error.value.exit_code == EXIT_USAGE
    assert error.value.hint


@pytest.mark.parametrize("fields", [{"iterations": 0}, {"iterations": -3}, {"seconds": 0}])
def test_a_budget_is_positive(fields: Any) -> None:
    with pytest.raises(UsageError):
        Budget(**fields)


@pytest.mark.parametrize(
    ("budget", "told"),
    [
        (Budget(), "none"),
        (Budget(1), "1 iteration"),
        (Budget(20, 2700), "20 iterations and 45 min"),
        (Budget(seconds=90), "1 min 30 s"),
    ],
)
def test_a_budget_in_words(budget: Any, told: Any) -> None:
    assert str(budget) == told
    assert budget.is_set is (told != "none")
