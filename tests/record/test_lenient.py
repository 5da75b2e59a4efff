"""A record takes only what is of its types, and reads whatever a file holds."""

from __future__ import annotations

from dataclasses import fields

import pytest
from hypothesis import given
from hypothesis import strategies as st
from pydantic import ValidationError

from espdl_quantize.core import Engine
from espdl_quantize.record import IterationRecord, LayerError, record_from_json

PLAIN = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(max_size=3),
    lambda inner: (
        st.lists(inner, max_size=2) | st.dictionaries(st.text(max_size=3), inner, max_size=2)
    ),
    max_leaves=4,
)
KEYS = sorted({*IterationRecord(value=0.5).to_json(), "attempts", "draw", "model_sha256"})


@pytest.mark.parametrize(
    "wrong", [{"value": "0.5"}, {"num_of_bits": 9}, {"warnings": [3]}, {"engine": "slow"}]
)
def test_a_wrong_value_cannot_be_written(wrong: dict[str, object]) -> None:
    with pytest.raises(ValidationError):
        IterationRecord(**wrong)  # type: ignore[arg-type]


def test_entries_that_fit_are_kept() -> None:
    record = record_from_json(
        {
            "top_5_error_layers": [
                {"op": "a", "snr": "high"},
                3,
                {"snr": 1},
                {"op": "b", "snr": 2},
            ],
            "elapsed_by_stage": {"quantize": 1, "export": "long"},
            "applied_setting_warnings": ["old", 7],
            "engine": "fast",
            "seed": True,
        }
    )
    assert record.top_5_error_layers == (LayerError("a"), LayerError("b", 2.0))
    assert record.elapsed_by_stage == {"quantize": 1.0}
    assert record.warnings == ("old",)
    assert (record.engine, record.seed) == (Engine.FAST, None)


@given(st.dictionaries(st.sampled_from(KEYS), PLAIN))
def test_any_value_is_read_and_can_be_written_again(form: dict[str, object]) -> None:
    record = record_from_json(form)
    again = IterationRecord(**{each.name: getattr(record, each.name) for each in fields(record)})
    assert again == record
    assert record_from_json(record.to_json()).engine == record.engine
