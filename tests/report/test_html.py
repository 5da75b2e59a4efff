from __future__ import annotations

import base64
import hashlib
import html
import json
import re
import subprocess
import sys
from html.parser import HTMLParser
from itertools import pairwise
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from espdl_quantize.core import SHELL
from espdl_quantize.record import Evidence, History, Jump, LayerError, LazyEvidence, read_history
from espdl_quantize.report import compare, render_html
from espdl_quantize.report._certainty import score_source
from espdl_quantize.report._escape import duration, md, plain
from espdl_quantize.report._html import script_json
from espdl_quantize.report.figures import (
    cost_figure,
    layer_figure,
    layer_rows,
    lever_figure,
    metric_figure,
    phase_of,
)
from espdl_quantize.search import SearchState, decide, sweep_setting
from espdl_quantize.setting import Setting, baseline
from tests.search.made_runs import (
    EQUALIZED,
    SWEEP,
    evidence,
    history,
    hot,
    make,
    run,
    swept,
    tqt,
    trained,
    write_history,
    write_run,
)

NASTY = "<script>alert(1)</script>&amp;<b>]]>--><!--<img src=x onerror=alert(1)>\u2028\u202e${x}"
INT16 = [{"op": "conv0", "bits": 16}]
CHARTS = ["chart-metric", "chart-levers", "chart-cost", "chart-layers"]


def page(outputs: Path, past: History, artifacts: Evidence | None = None, **index: Any) -> str:
    for row in past.iterations:
        write_run(outputs, row, artifacts, **index)
    result = compare(outputs, finalize=True, force_finalize=True)
    assert result.html == outputs / "report.html"
    return result.html.read_text("utf-8")


def page_of_folder(outputs: Path) -> str:
    """A page without the need of a score to finalize."""
    past = read_history(outputs)
    situation = SearchState.of(past, LazyEvidence(past))
    return render_html(situation, decide(situation), None)


def charts(text: str) -> dict[str, Any]:
    artifacts = re.findall(
        r'<script type="application/json" data-chart="([^"]+)">(.*?)</script>', text, re.DOTALL
    )
    return {name: json.loads(content) for name, content in artifacts}


def shown(text: str) -> str:
    """What a reader sees, without the inlined scripts and styles."""
    return re.sub(r"<(script|style)\b.*?</\1>", "", text, flags=re.DOTALL)


class Outline(HTMLParser):
    """The elements of a page; fails where one is not closed in its order."""

    VOID = ("meta", "br", "link", "img", "input")

    def __init__(self, text: str) -> None:
        super().__init__()
        self.open: list[str] = []
        self.elements: list[tuple[str, dict[str, str | None]]] = []
        self.words: list[str] = []
        self.feed(text)
        self.close()
        assert self.open == []

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.elements.append((tag, dict(attrs)))
        if tag not in self.VOID:
            self.open.append(tag)

    def handle_endtag(self, tag: str) -> None:
        assert self.open.pop() == tag

    def handle_data(self, data: str) -> None:
        if not {"script", "style"} & set(self.open):
            self.words.append(data)

    def named(self, tag: str) -> list[dict[str, str | None]]:
        return [attributes for name, attributes in self.elements if name == tag]

    @property
    def text(self) -> str:
        return " ".join(" ".join(self.words).split())


def valid_figures(text: str) -> dict[str, Any]:
    """Plotly's own model of a figure knows every key; colours are the page's business."""
    import plotly.graph_objects as go

    def painted(value: Any) -> Any:
        if isinstance(value, dict):
            return {key: painted(item) for key, item in value.items()}
        if isinstance(value, list):
            return [painted(item) for item in value]
        return "#123456" if isinstance(value, str) and re.fullmatch(r"@[a-z]+\d?", value) else value

    artifacts = charts(text)
    for figure in artifacts.values():
        narrow = painted(figure["layout"])
        for path, value in figure["narrow"].items():
            *steps, last = path.split(".")
            place = narrow
            for step in steps:
                place = place[step]
            place[last] = painted(value)
        go.Figure({"data": painted(figure["data"]), "layout": painted(figure["layout"])})
        go.Figure({"layout": narrow})
    return artifacts


LONG = swept(
    *SWEEP,
    rest=(
        (0.72, trained(bias_correct={"enabled": True})),
        (None, trained(equalization=EQUALIZED)),
        (0.76, trained(dispatching_table=INT16)),
        (0.7605, trained(dispatching_table=[*INT16, {"op": "conv1", "bits": 16}])),
        (0.75, trained(weight_split={"enabled": True, "interested_layers": ["conv2"]})),
    ),
    target=0.9,
)


def test_a_whole_page(tmp_path: Path) -> None:
    artifacts = evidence(
        hot_ops=(hot("Add", 0.264),), jumps=(Jump("conv0", "conv1", 0.03, ("relu",)),)
    )
    text = page(tmp_path, LONG, artifacts)
    outline = Outline(text)
    shown_text = outline.text
    for words in (
        "tiny on esp32p4",
        "Metric: top1 (higher is better)",
        "Float model 0.82",
        "Baseline (iter_0) 0.5 -0.32 to the float model",
        "Best (iter_7) 0.7605 +0.2605 to the baseline -0.0595 to the float model target 0.9 missed",
        "81% of the accuracy lost to quantization came back, for 2 ops in int16.",
        "Of the accuracy lost to quantization, came back 81%",
        "Slower on the chip Yes int16 on 2 ops: conv0, conv1",
        "Ended by hand while the search was open",
        "The same function chose the best of 8 scored iterations",
        "R8 (branches of unequal range that are joined): Add add_1 has max SNR 0.264",
        "Between conv0 and conv1 the error grows by 0.03",
        "Remaining gap",
        "Failed: iter_5: quantize: out of memory -> take a smaller batch.",
        "setting.dispatching_table.append('conv0', get_target_platform('esp32p4', 16))",
    ):
        assert words in shown_text
    assert list(valid_figures(text)) == CHARTS


def test_the_page_needs_no_network(tmp_path: Path) -> None:
    outline = Outline(page(tmp_path, LONG, evidence()))
    for _, attributes in outline.elements:
        assert not {"src", "srcset", "action"} & set(attributes)
        assert (attributes.get("href") or "#").startswith("#")
        assert not [name for name in attributes if name.startswith("on")]
    assert not outline.named("link")


def test_only_the_two_scripts_of_the_page_may_run(tmp_path: Path) -> None:
    text = page(tmp_path, LONG, evidence())
    scripts = re.findall(r"<script>(.*?)</script>", text, re.DOTALL)
    assert len(scripts) == 2
    assert "plotly.js" in scripts[0][:200]
    (policy,) = re.findall(r'Content-Security-Policy" content="([^"]+)"', text)
    digests = [
        base64.b64encode(hashlib.sha256(script.encode()).digest()).decode() for script in scripts
    ]
    assert f"script-src 'sha256-{digests[0]}' 'sha256-{digests[1]}';" in policy
    assert "default-src 'none'" in policy


def test_a_screen_reader_finds_its_way(tmp_path: Path) -> None:
    outline = Outline(page(tmp_path, LONG, evidence()))
    tags = [tag for tag, _ in outline.elements]
    assert tags.count("h1") == 1
    levels = [int(tag[1]) for tag in tags if re.fullmatch(r"h[1-6]", tag)]
    assert all(after - before <= 1 for before, after in pairwise(levels))
    assert tags.count("caption") == tags.count("table") == 2
    assert all("scope" in attributes for attributes in outline.named("th"))
    plots = [attributes for attributes in outline.named("div") if attributes.get("role") == "img"]
    assert [attributes["id"] for attributes in plots if "id" in attributes] == CHARTS
    assert all(attributes["aria-label"] for attributes in plots)
    ids = [attributes["id"] for _, attributes in outline.elements if "id" in attributes]
    assert len(ids) == len(set(ids))
    for _, attributes in outline.elements:
        assert attributes.get("aria-labelledby", ids[0]) in ids
    assert outline.named("html")[0]["lang"] == "en"


def test_hostile_names_are_text_everywhere(tmp_path: Path) -> None:
    setting = trained(
        dispatching_table=[{"op": NASTY, "bits": 16}],
        weight_split={"enabled": True, "interested_layers": [NASTY]},
        extra={NASTY: NASTY},
        rationale=NASTY,
    )
    artifacts = evidence(
        layerwise=(LayerError(NASTY, 0.4), LayerError("@best", 0.3)),
        hot_ops=(hot("Add", 0.25, name=NASTY),),
        jumps=(Jump(NASTY, NASTY, 0.1, (NASTY,)),),
    )
    past = swept(*SWEEP, rest=((0.8, setting), (0.3, setting), (None, setting)), metric=NASTY)
    text = page(
        tmp_path,
        past,
        artifacts,
        model_name=NASTY,
        target_chip=NASTY,
        engine=NASTY,
        esp_ppq_version=NASTY,
        evaluated_by=NASTY,
        rationale=NASTY,
        applied_setting_warnings=[NASTY],
    )
    outline = Outline(text)
    assert not outline.named("img") + outline.named("b")
    # Two that run, one per chart; the name has added none.
    assert len(outline.named("script")) == 2 + len(CHARTS) + len(re.findall("data-graph=", text))
    assert text.count("alert(1)") > 20
    assert "<script>alert" not in text
    assert "\u202e" not in text
    for figure in valid_figures(text).values():
        drawn = json.dumps(figure)
        assert "alert(1)" in drawn
        assert "<script" not in drawn
        assert "<img" not in drawn
    raw = re.findall(r"data-chart=\"[^\"]+\">(.*?)</script>", text, re.DOTALL)
    assert not re.search(r"[<>&\u2028]", "".join(raw))
    (code,) = re.findall(r'id="best-setting".*?<code>(.*?)</code>', text, re.DOTALL)
    assert json.loads(html.unescape(code))["dispatching_table"][0]["op"] == NASTY
    (code,) = re.findall(r'id="best-snippet".*?<code>(.*?)</code>', text, re.DOTALL)
    compile(html.unescape(code), "snippet", "exec")


def test_a_colour_name_is_no_colour_in_a_label(tmp_path: Path) -> None:
    """The page's script replaces "@best" under keys that end with "color" alone."""
    artifacts = evidence(layerwise=(LayerError("@best", 0.3),))
    figure = charts(page(tmp_path, swept(*SWEEP), artifacts))["chart-layers"]
    assert figure["layout"]["yaxis"]["ticktext"] == ["@best"]


@pytest.mark.parametrize("setting", [baseline(), trained(dispatching_table=INT16)])
def test_one_iteration(tmp_path: Path, setting: Setting) -> None:
    text = page(tmp_path, history(run(0, 0.5, setting)), evidence())
    shown_text = Outline(text).text
    assert "One setting has a score so far." in shown_text
    assert "came back" not in shown_text
    assert "Nothing to compare: it takes two iterations with a score." in shown_text
    assert "chart-levers" not in valid_figures(text)
    layers = charts(text)["chart-layers"]["data"]
    assert [trace["name"] for trace in layers] == ["Best (iter_0)"]


def test_all_failed(tmp_path: Path) -> None:
    write_history(tmp_path, history(run(0, None), run(1, None, sweep_setting("kl"))))
    text = page_of_folder(tmp_path)
    shown_text = Outline(text).text
    assert (
        "All 2 iterations failed; no model was made. The last cause: out of memory." in shown_text
    )
    assert "The likely cause 2 of 2 iterations: quantize: out of memory" in shown_text
    assert "Not ended yet" in shown_text
    assert charts(text) == {}
    assert "The setting of the best iteration cannot be read." in shown_text
    assert compare(tmp_path, finalize=True).html is None
    assert not (tmp_path / "report.html").exists()


def test_no_iteration_at_all(tmp_path: Path) -> None:
    assert "No iteration has been run." in Outline(page_of_folder(tmp_path)).text


def test_a_metric_to_be_lowered(tmp_path: Path) -> None:
    rest = ((0.1, trained(bias_correct={"enabled": True})),)
    text = page(
        tmp_path,
        swept(0.5, 0.3, 0.2, 0.4, rest=rest, direction="min"),
        evidence(),
        float_value=0.05,
    )
    shown_text = Outline(text).text
    assert "(lower is better)" in shown_text
    assert (
        "89% of the top1 that quantization added is gone again, at no cost on the chip."
        in shown_text
    )
    figures = valid_figures(text)
    assert figures["chart-levers"]["data"][0]["x"] == pytest.approx([-0.2, -0.1, 0.2, -0.1])
    best = next(row for row in figures["chart-metric"]["data"] if row["name"] == "Best so far")
    assert best["y"] == [0.5, 0.3, 0.2, 0.2, 0.1]


def test_without_a_float_reference(tmp_path: Path) -> None:
    text = page(tmp_path, swept(*SWEEP), evidence(), float_value=None)
    shown_text = Outline(text).text
    assert "0.2 better than the baseline, at no cost on the chip." in shown_text
    assert "came back" not in shown_text
    names = [trace["name"] for trace in valid_figures(text)["chart-metric"]["data"]]
    assert not [name for name in names if name.startswith(("Float", "Target"))]


def test_sixty_iterations(tmp_path: Path) -> None:
    rest = tuple(
        (
            0.6 + (number % 7) / 100,
            make(calib_algorithm="mse", tqt_optimization=tqt(steps=1000 + number)),
        )
        for number in range(56)
    )
    figures = valid_figures(page(tmp_path, swept(*SWEEP, rest=rest), evidence()))
    axis = figures["chart-metric"]["layout"]["xaxis"]
    assert len(axis["tickvals"]) == len(axis["ticktext"]) == 20
    assert len(figures["chart-metric"]["narrow"]["xaxis.ticktext"]) == 8
    gains = figures["chart-levers"]["data"][0]["x"]
    assert len(gains) == 24
    # What gained is never left out for what lost.
    assert [gain for gain in gains if gain > 0] == pytest.approx([0.1, 0.1])


def test_without_artifacts_and_with_odd_numbers(tmp_path: Path) -> None:
    write_history(tmp_path, LONG)
    folder = tmp_path / "iter_0"
    (folder / "layerwise_error.json").write_text(
        '{"a": NaN, "b": 0, "c": -1, "d": 1e999, "e": 0.1}'
    )
    index = folder / "iteration_index.json"
    index.write_text(json.dumps(json.loads(index.read_text()) | {"elapsed_seconds": 1e308}))
    index = tmp_path / "iter_1" / "iteration_index.json"
    index.write_text(json.dumps(json.loads(index.read_text()) | {"elapsed_seconds": 1.5e308}))
    compare(tmp_path, finalize=True, force_finalize=True)
    text = (tmp_path / "report.html").read_text("utf-8")
    layers = valid_figures(text)["chart-layers"]
    assert layers["layout"]["yaxis"]["ticktext"] == ["e"]
    assert [trace["x"] for trace in layers["data"]] == [[0.1], [None]]


def test_a_best_without_a_usable_setting(tmp_path: Path) -> None:
    write_history(tmp_path, swept(*SWEEP), evidence())
    (tmp_path / "iter_2" / "setting.json").write_text("{")
    compare(tmp_path, finalize=True, force_finalize=True)
    shown_text = Outline((tmp_path / "report.html").read_text("utf-8")).text
    assert "at an unknown cost on the chip" in shown_text
    assert "Slower on the chip Unknown" in shown_text


def test_the_page_is_always_rewritten_and_a_foreign_one_kept(tmp_path: Path) -> None:
    (tmp_path / "report.html").write_text("<p>mine</p>")
    first = page(tmp_path, swept(*SWEEP), evidence())
    assert (tmp_path / "report.html.foreign-1").read_text() == "<p>mine</p>"
    (tmp_path / "report.html").write_text(first.replace("came back", "edited"), "utf-8")
    (tmp_path / "final_report.md").write_text("mine")
    result = compare(tmp_path, finalize=True)
    assert result.report is None
    assert (tmp_path / "report.html").read_text("utf-8") == first
    assert not (tmp_path / "report.html.foreign-2").exists()
    assert any("wrote report.html" in line for line in result.lines)


def test_jinja_does_not_load_before_a_page_is_written(tmp_path: Path) -> None:
    write_history(tmp_path, swept(*SWEEP), evidence())
    program = (
        "import sys; from pathlib import Path; from espdl_quantize.report import compare\n"
        "found = lambda: sorted({'jinja2', 'plotly', 'numpy', 'pandas'} & set(sys.modules))\n"
        "compare(Path(sys.argv[1])); print(found())\n"
        "compare(Path(sys.argv[1]), finalize=True); print(found())"
    )
    done = subprocess.run(
        [sys.executable, "-c", program, str(tmp_path)], capture_output=True, text=True, check=True
    )
    assert done.stdout.split("\n")[:2] == ["[]", "['jinja2']"]


def test_phases_and_their_bands() -> None:
    rest = tuple((0.5, trained(bias_correct={"enabled": True, "steps": 9 + i})) for i in range(7))
    past = swept(*SWEEP, rest=rest)
    situation = SearchState.of(past, {row.id: evidence() for row in past.iterations})
    assert phase_of(situation) == [1, 2, 2, 2, 3, 3, 3, 3, 3, 5, 5]
    figure = metric_figure(situation)
    shapes, notes = figure.layout["shapes"], figure.layout["annotations"]
    assert [(band["x0"], band["x1"], band["fillcolor"]) for band in shapes] == [
        (-0.5, 0.5, "@phase1"),
        (0.5, 3.5, "@phase2"),
        (3.5, 8.5, "@phase3"),
        (8.5, 10.5, "@phase5"),
    ]
    names = ["1 Baseline", "2 Calibration sweep", "3 Levers", "5 Open search"]
    assert [note["text"] for note in notes] == names
    # On a phone, a narrow band has the number alone.
    narrow = figure.narrow["annotations"]
    assert [note["text"] for note in narrow] == ["1", "2", "3 Levers", "5"]


def test_failed_runs_are_marked_and_points_tell_what_changed() -> None:
    traces = {trace["name"]: trace for trace in metric_figure(SearchState.of(LONG)).data}
    assert traces["Failed"]["x"] == [5]
    assert traces["Failed"]["yaxis"] == "y2"
    assert "out of memory" in traces["Failed"]["hovertext"][0]
    assert traces["Target 0.9"]["y"] == [0.9, 0.9]
    assert traces["New best"]["x"] == [1, 2, 4, 6, 7]
    assert "+int16 on conv0" in traces["New best"]["hovertext"][3]


def test_levers_by_sign() -> None:
    figure = lever_figure(LONG)
    bars = figure.data[0]
    assert bars["marker"]["color"] == ["@gain" if x > 0 else "@loss" for x in bars["x"]]
    texts = figure.data[1]
    assert [text.strip() for text in texts["text"][:3]] == ["+0.1", "+0.1", "-0.05"]
    # No number is struck through by the interval of its bar.
    assert all(abs(at) >= abs(x) for at, x in zip(texts["x"], bars["x"], strict=True))
    assert figure.layout["yaxis"]["ticktext"][-2].startswith("\u2605 7: ")


def test_cost_names_the_cheapest_that_is_close() -> None:
    figure = cost_figure(SearchState.of(LONG))
    traces = {trace["name"]: trace for trace in figure.data}
    assert traces["Best (iter_7)"]["x"] == [2]
    assert traces["Cheapest within 0.1% of it (iter_6)"]["x"] == [1]
    assert traces["Best for its cost"]["x"] == [0, 1, 2, 2]
    assert traces["Best for its cost"]["y"] == [0.72, 0.76, 0.7605, 0.7605]
    assert "runs as fast as" in cost_figure(SearchState.of(swept(*SWEEP))).empty


def test_layers_by_the_larger_of_both_errors() -> None:
    before = evidence(layerwise=(LayerError("a", 0.3), LayerError("b", 0.1), LayerError("c", None)))
    after = evidence(layerwise=(LayerError("b", 0.4), LayerError("d", 0.2)))
    rows = layer_rows(before, after, ("a",))
    assert [(row.op, row.baseline, row.best) for row in rows] == [
        ("b", 0.1, 0.4),
        ("a", 0.3, None),
        ("d", None, 0.2),
    ]
    assert [row.is_int16 for row in rows] == [False, True, False]
    figure = layer_figure(rows, "iter_0", "iter_3", 0.05)
    assert [trace["x"] for trace in figure.data] == [[0.1, 0.3, None], [0.4, None, 0.2]]
    assert figure.layout["yaxis"]["ticktext"] == ["b", "a (int16)", "d"]


@pytest.mark.parametrize(
    ("used", "words"),
    [
        (("evaluate", "evaluate"), "also the score it was selected by"),
        (("evaluate",), "The score is from the contract's evaluate()."),
        (("evaluate_fast", "evaluate_fast"), "--use-full-eval"),
        (("evaluate_fast", "evaluate"), "may not compare"),
        ((None, None), "No record says"),
        ((), "No iteration has a score."),
    ],
)
def test_where_the_score_is_from(used: tuple[str | None, ...], words: str) -> None:
    rows = [run(i, 0.5 + i / 10, evaluated_by=name) for i, name in enumerate(used)]
    assert words in SHELL.spell(score_source(history(*rows)))


def test_best_is_measured_against_the_default_setting() -> None:
    past = history(run(0, 0.6, sweep_setting("mse")), run(1, 0.5, baseline(1)))
    assert past.baseline == past.iterations[1]
    alone = history(run(0, 0.6, sweep_setting("mse")))
    assert alone.baseline == alone.iterations[0]
    assert history(run(0, None)).baseline is None


@given(st.text())
def test_markdown_shows_the_text_as_it_is(text: str) -> None:
    undone = html.unescape(re.sub(r"\\([\\`*\[\]|~#$_])", r"\1", md(text)))
    assert undone == plain(text)


@given(st.recursive(st.text() | st.none() | st.floats(), lambda inner: st.lists(inner)))
def test_script_json_stands_in_a_script(value: Any) -> None:
    text = script_json(value)
    assert not re.search(r"[<>&\u2028\u2029]", text)
    json.loads(text)


@pytest.mark.parametrize(
    ("seconds", "words"), [(None, "-"), (float("inf"), "-"), (12.5, "12 s"), (3700, "1 h 1 min")]
)
def test_duration(seconds: float | None, words: str) -> None:
    assert duration(seconds) == words
