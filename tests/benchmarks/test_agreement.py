"""The table of integer agreement: one network on one chip, and how counts are shown."""

from __future__ import annotations

from pathlib import Path

from benchmarks.agreement import integers_of, networks, table


def test_a_network_is_counted_by_op_type(tmp_path: Path) -> None:
    found = integers_of(networks()["Concat, Split"], "c", 8, tmp_path)
    assert not isinstance(found, str), found
    assert {"Conv", "Split", "Concat"} <= {op.op_type for op in found.ops}
    assert found.total.exact == found.total.outputs > 0


def test_the_table_has_a_row_per_op_and_a_column_per_chip() -> None:
    row = {"op_type": "Add", "chip": "c", "outputs": 8, "percent": 75.0, "largest": 1}
    skipped = {"op_type": "Erf", "chip": "c", "outputs": 0, "skipped": 2, "why": "in float"}
    failed = {"network": "Elu", "chip": "c", "failed": "no kernel"}
    assert table([row, skipped, failed], ["c", "esp32s3"]).splitlines() == [
        "| op | c | esp32s3 |",
        "|---|---|---|",
        "| Add | 75 % of 8, 1 step |  |",
        "| Erf | skipped: in float |  |",
        "",
        "Elu on c: no kernel",
    ]
