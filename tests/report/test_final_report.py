from __future__ import annotations

import json
import re
from pathlib import Path
from typing import Any

import pytest

from espdl_quantize.record import Evidence, History, Jump, LayerError
from espdl_quantize.report import compare
from espdl_quantize.report._blocks import Code
from espdl_quantize.report._escape import md, plain
from espdl_quantize.report._render import markdown_block
from tests.search.made_runs import (
    SWEEP,
    evidence,
    hot,
    run,
    swept,
    trained,
    write_history,
    write_run,
)

NASTY = "a|b`c`<script>alert(1)</script>*_[x](http://y) ```\n# big"


def report(outputs: Path, past: History, artifacts: Evidence | None = None, **flags: Any) -> str:
    write_history(outputs, past, artifacts)
    compare(outputs, **({"finalize": True, "force_finalize": True} | flags))
    return (outputs / "final_report.md").read_text()


def sections(text: str) -> list[str]:
    return re.findall(r"^## (.+)$", text, flags=re.MULTILINE)


def test_sections_in_order_with_a_missed_target(tmp_path: Path) -> None:
    text = report(tmp_path, swept(*SWEEP, target=0.9), evidence())
    assert sections(text) == [
        "Summary",
        "Stop reason",
        "Iteration history",
        "Best setting",
        "Python snippet",
        "Key findings",
        "Remaining gap",
    ]
    assert "# Final report: tiny on esp32p4" in text
    assert "Best iteration: iter_2" in text
    assert "top1: 0.7 (target: 0.9; max is better)" in text
    assert "Float model: 0.82 (quantized: -0.12)" in text
    assert "The float model itself scores 0.82" in text
    assert "Time on the PC: 0.8 minutes" in text
    assert "top5 0.9" in text


def test_no_remaining_gap_once_the_target_is_reached(tmp_path: Path) -> None:
    assert "Remaining gap" not in sections(report(tmp_path, swept(*SWEEP, target=0.7)))


def test_no_remaining_gap_without_a_target(tmp_path: Path) -> None:
    assert "Remaining gap" not in sections(report(tmp_path, swept(*SWEEP)))


def table(text: str) -> list[list[str]]:
    lines = text.split("## Iteration history\n\n")[1].split("\n\n")[0].splitlines()
    return [re.split(r"(?<!\\)\|", line)[1:-1] for line in lines]


def test_history_table(tmp_path: Path) -> None:
    rest = ((0.8, trained(dispatching_table=[{"op": "c", "bits": 16}])), (None, trained("kl")))
    rows = table(report(tmp_path, swept(*SWEEP, rest=rest)))
    assert [cell.strip() for cell in rows[0]] == [
        "iter",
        "method changed",
        "top1",
        "95 % interval",
        "delta",
        "outcome",
        "against best",
        "output noise:signal",
        "agrees with float",
        "rank",
        "affects inference speed",
    ]
    first = ["0", "kl", "0.5", "-", "-", "first score", "noise unknown", "-", "-", "5", "No"]
    assert [cell.strip() for cell in rows[2]] == first
    assert [cell.strip() for cell in rows[6]][1:] == [
        "+int16 on c",
        "0.8",
        "-",
        "+0.1",
        "new best",
        *("-", "-", "-"),
        "1",
        "Yes (int16 on 1 op: c)",
    ]
    assert [cell.strip() for cell in rows[7]][2:7] == ["-", "-", "-", "failed", "-"]
    assert "tqt\\_optimization" not in "".join(rows[3])


def test_hostile_names_break_nothing(tmp_path: Path) -> None:
    past = swept(
        *SWEEP,
        rest=((0.8, trained(dispatching_table=[{"op": NASTY, "bits": 16}], extra={NASTY: NASTY})),),
        metric="top1",
    )
    artifacts = evidence(
        layerwise=(LayerError(NASTY, 0.4),),
        hot_ops=(hot("Add", 0.25, name=NASTY),),
        jumps=(Jump(NASTY, NASTY, 0.1, (NASTY,)),),
    )
    write_history(tmp_path, past, artifacts)
    write_run(tmp_path, run(5, 0.1, trained("kl")), model_name=NASTY, target_chip=NASTY)
    for number in range(5):
        index = tmp_path / f"iter_{number}" / "iteration_index.json"
        changed = json.loads(index.read_text()) | {
            "model_name": NASTY,
            "target_chip": NASTY,
            "applied_setting_warnings": [NASTY],
        }
        index.write_text(json.dumps(changed))
    metrics = tmp_path / "iter_4" / "metrics.json"
    metrics.write_text(json.dumps(json.loads(metrics.read_text()) | {NASTY: NASTY}))
    compare(tmp_path, finalize=True)
    text = (tmp_path / "final_report.md").read_text()
    assert "<script>" not in text
    assert sections(text)[0] == "Summary"
    prose = re.sub(r"```.*?```", "", text, flags=re.DOTALL)
    assert len(re.findall(r"^# ", prose, flags=re.MULTILINE)) == 1
    assert all(len(row) == 11 for row in table(text))
    assert text.count("```") == 4
    block = text.split("```json\n")[1].split("\n```")[0]
    assert json.loads(block)["dispatching_table"][0]["op"] == NASTY
    compile(text.split("```python\n")[1].split("```")[0], "snippet", "exec")


@pytest.mark.parametrize(
    ("raw", "escaped"),
    [
        ("features.3_conv/Conv", "features.3_conv/Conv"),
        ("_x_", r"\_x\_"),
        ("a|b", r"a\|b"),
        ("a`b", r"a\`b"),
        ("<b>&", "&lt;b>&amp;"),
        (">x -> y", "&gt;x -> y"),
        ("a\nb\x1b[0m", r"a b \[0m"),
        ("*x* [y](z)", r"\*x\* \[y\](z)"),
        ("a\\|b", r"a\\\|b"),
    ],
)
def test_md(raw: str, escaped: str) -> None:
    assert md(raw) == escaped


def test_plain_cuts_and_cleans() -> None:
    assert plain("x" * 400) == "x" * 297 + "..."
    assert plain("a\u202eb\ud800") == "a b?"


def test_json_block_round_trips() -> None:
    value = {"a": ["```", "<b>", 1.5, None]}
    block = markdown_block(Code("a", "a", "json", json.dumps(value)))
    assert block.count("```") == 2
    assert json.loads(block.removeprefix("```json\n").removesuffix("\n```")) == value


def test_key_findings_name_a_cheaper_runner_up(tmp_path: Path) -> None:
    rest = ((0.7005, trained(dispatching_table=[{"op": "c", "bits": 16}])),)
    text = report(tmp_path, swept(*SWEEP, rest=rest), evidence())
    assert "iter_2 (0.7, rank 2) costs the chip nothing" in text
    assert "may be the better one to deploy" in text


def test_key_findings_say_what_ran_against_the_discipline(tmp_path: Path) -> None:
    both = trained(bias_correct={"enabled": True}, dispatching_table=[{"op": "c", "bits": 16}])
    text = report(tmp_path, swept(*SWEEP, rest=((0.8, both),)), evidence())
    assert "iter_4 ran against the rule one-change" in text


def test_key_findings_cite_the_data(tmp_path: Path) -> None:
    artifacts = evidence(
        hot_ops=(hot("Add", 0.264),), jumps=(Jump("conv0", "conv1", 0.03, ("relu",)),)
    )
    text = report(
        tmp_path, swept(*SWEEP, rest=((None, trained(bias_correct={"enabled": True})),)), artifacts
    )
    for words in (
        "iter_0 0.5 -> iter_2 0.7, 62% of the way to the float model's 0.82",
        "Gained against the best before: iter_1 +0.1 (tqt_optimization)",
        "Lost against the best before: iter_3 -0.05",
        "R8 (branches of unequal range that are joined): Add add_1 has max SNR 0.264",
        "Between conv0 and conv1 the error grows by 0.03",
        "Failed: iter_4: quantize: out of memory",
        "one alone may look worse although the whole is better",
    ):
        assert words in text


def test_a_best_without_training_needs_no_word_on_it(tmp_path: Path) -> None:
    text = report(tmp_path, swept(*SWEEP[:1]), evidence())
    assert "Worst layers of iter_0" in text
    assert "one alone may look worse" not in text


def test_a_fast_score_is_marked(tmp_path: Path) -> None:
    write_run(tmp_path, run(0, 0.5), evaluated_by="evaluate_fast")
    compare(tmp_path, finalize=True)
    assert "--use-full-eval" in (tmp_path / "final_report.md").read_text()


def test_a_best_without_a_usable_setting_still_gets_a_report(tmp_path: Path) -> None:
    write_history(tmp_path, swept(*SWEEP))
    (tmp_path / "iter_2" / "setting.json").write_text("{")
    compare(tmp_path, finalize=True, force_finalize=True)
    assert "cannot be read" in (tmp_path / "final_report.md").read_text()


def test_what_was_found_in_the_exported_file_is_told(tmp_path: Path) -> None:
    from espdl_quantize.record import read_history

    write_history(tmp_path, swept(*SWEEP))
    checked = {
        "legal": True,
        "exact_percent": 99.9999,
        "largest_difference": 1,
        "end_to_end_exact_percent": 100.0,
        "ops_checked": 9,
        "ops_skipped": 2,
        "overflows": 7,
    }
    for folder in tmp_path.glob("iter_*"):
        index = json.loads((folder / "iteration_index.json").read_text())
        (folder / "iteration_index.json").write_text(json.dumps(index | {"chip_check": checked}))
    compare(tmp_path, finalize=True, force_finalize=True)
    for name in ("final_report.md", "report.html"):
        text = (tmp_path / name).read_text()
        assert "On the chip" in text
        assert "obeys the rules known of esp32p4" in text
        assert "99.99 % of the outputs of 9 ops" in text
        assert "7 sums do not fit" in text
    (tmp_path / "iter_0/iteration_index.json").write_text(
        json.dumps(index | {"iteration_id": 0, "chip_check": {"legal": "x", "overflows": "<b>"}})
    )
    on_chip = read_history(tmp_path).iterations[0].on_chip
    assert on_chip is not None
    assert on_chip.legal is None
