"""Whatever lies in an output folder: an answer or an error of our own, no traceback."""

from __future__ import annotations

import json
import tempfile
from pathlib import Path
from typing import Any

from hypothesis import given
from hypothesis import strategies as st

from espdl_quantize.report import compare
from tests.matrix import examples
from tests.search.made_runs import SWEEP, evidence, hot, swept, weight, write_history

VALUES = st.recursive(
    st.one_of(
        st.none(),
        st.booleans(),
        st.integers(),
        st.floats(),
        st.text(max_size=8),
        st.sampled_from(["max", "min", "failed", "ok", "iter_1", "../..", 10**400]),
    ),
    lambda inner: st.one_of(
        st.lists(inner, max_size=3), st.dictionaries(st.text(max_size=5), inner, max_size=3)
    ),
    max_leaves=6,
)
FILES = (
    "iteration_index",
    "metrics",
    "setting",
    "layerwise_error",
    "layer_stats_full",
    "non_computing_hot_ops",
    "graphwise_jumps",
    "simplified_ops",
    "applied_setting_summary",
)


@given(
    st.lists(
        st.tuples(
            st.integers(0, 3), st.sampled_from(FILES), st.integers(0, 40), VALUES, st.booleans()
        ),
        max_size=6,
    )
)
@examples(20, whole=60)
def test_any_values(edits: list[tuple[int, str, int, Any, bool]]) -> None:
    with tempfile.TemporaryDirectory() as name:
        outputs = Path(name)
        artifacts = evidence(hot_ops=(hot("Add", 0.25),), stats=(weight("conv0", 12.0),))
        write_history(outputs, swept(*SWEEP, target=0.9), artifacts)
        for number, file, position, value, whole in edits:
            _spoil(outputs / f"iter_{number}" / f"{file}.json", position, value, whole)
        result = compare(outputs, finalize=True, force_finalize=True)
        text = (outputs / "comparison.json").read_text(encoding="utf-8")
        assert json.loads(text) == result.comparison.to_json()
        assert result.exit_code in (0, 1)


def _spoil(path: Path, position: int, value: Any, whole: bool) -> None:
    """Replace the file, or one value somewhere in it."""
    try:
        content = json.loads(path.read_text(encoding="utf-8"))
    except (OSError, ValueError):
        whole, content = True, None
    if whole or not content:
        content = value
    elif isinstance(content, dict):
        content[sorted(content)[position % len(content)]] = value
    elif isinstance(content, list) and isinstance(content[0], dict) and content[0]:
        content[0][sorted(content[0])[position % len(content[0])]] = value
    path.write_text(json.dumps(content), encoding="utf-8")
