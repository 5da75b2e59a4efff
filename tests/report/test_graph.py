"""The map of the graph, and the histograms of the worst layers."""

from __future__ import annotations

import json
import re
from pathlib import Path

from espdl_quantize.record import Evidence, GraphOp, LayerError, VariableStats
from espdl_quantize.report import render_again
from espdl_quantize.report.figures import graph_map, histogram_figures
from espdl_quantize.report.figures.graph import MOST_OPS
from tests.report.test_html import NASTY, Outline, page, valid_figures
from tests.search.made_runs import SWEEP, evidence, hot, swept, write_history


def chain(count: int, name: str = "/blocks/b.{}/Conv") -> tuple[GraphOp, ...]:
    return tuple(
        GraphOp(name.format(at), "Conv", (f"v{at}", f"w{at}"), (f"v{at + 1}",))
        for at in range(count)
    )


def test_ops_know_what_they_read_and_how_bad_they_are() -> None:
    ops = (
        GraphOp("/stem/Conv", "Conv", ("x", "w"), ("a",)),
        GraphOp("/b/b.0/Conv", "Conv", ("a", "w0"), ("b",)),
        GraphOp("/b/b.0/Add", "Add", ("a", "b"), ("c",)),
    )
    best = Evidence(
        ops=ops, layerwise=(LayerError("/stem/Conv", 0.123456),), hot_ops=(hot("Add", 0.2),)
    )
    before = Evidence(ops=ops, layerwise=(LayerError("/b/b.0/Conv", 0.5),))
    drawn = graph_map(best, before, 0.05)
    assert drawn is not None
    assert drawn.views == ["this op alone, best", "this op alone, baseline"]
    assert drawn.groups == ["stem", "b/b"]
    assert drawn.ops == [
        ["/stem/Conv", "Conv", 0, [], 0.123, None],
        ["/b/b.0/Conv", "Conv", 1, [0], None, 0.5],
        ["/b/b.0/Add", "Add", 1, [0, 1], None, None],
    ]


def test_a_graph_that_is_unknown_or_too_large_is_not_drawn() -> None:
    assert graph_map(Evidence(), None, 0.05) is None
    assert graph_map(Evidence(ops=chain(MOST_OPS + 1)), None, 0.05) is None


def test_a_loop_among_the_ops_ends() -> None:
    ops = (GraphOp("a", "Add", ("y",), ("x",)), GraphOp("b", "Add", ("x",), ("y",)))
    drawn = graph_map(Evidence(ops=ops), None, 0.05)
    assert drawn is not None
    assert [row[3] for row in drawn.ops] == [[], [0]]


def test_thousands_of_layers_keep_the_page_small(tmp_path: Path) -> None:
    ops = chain(5000)
    errors = tuple(LayerError(op.name, 1 / (at + 2)) for at, op in enumerate(ops))
    text = page(tmp_path, swept(*SWEEP[:2]), evidence(ops=ops, layerwise=errors))
    assert len(text) < 2_500_000
    assert "Map of the 5000 ops of the model" in text


def test_hostile_names_are_data(tmp_path: Path) -> None:
    ops = (GraphOp(NASTY, NASTY, ("x",), ("y",)),)
    text = page(tmp_path, swept(*SWEEP[:2]), evidence(ops=ops))
    assert not Outline(text).named("img")
    (raw,) = text.split('data-graph="graph-map">')[1:]
    content = raw.split("</script>")[0]
    assert "<" not in content
    assert "alert(1)" in json.loads(content)["ops"][0][0]


def test_worst_layers_have_their_values_drawn(tmp_path: Path) -> None:
    stats = VariableStats(
        "conv0",
        "Conv",
        "y",
        is_output=True,
        float_min=-1.0,
        float_max=1.0,
        float_hist=(1.0, 3.0),
        quantized_min=-0.5,
        quantized_max=0.5,
        quantized_hist=(2.0, 2.0),
    )
    best = evidence(stats=(stats,))
    (figure,) = histogram_figures(best, "iter_2")
    assert [trace["name"] for trace in figure.data] == ["Float", "Quantized"]
    assert figure.data[0]["x"] == [-0.5, 0.5]
    assert figure.data[0]["y"] == [0.25, 0.75]
    empty = VariableStats("conv0", "Conv", "y", is_output=True, float_min=0.0, float_max=0.0)
    assert list(histogram_figures(evidence(stats=(empty,)), "iter_2")) == []
    valid_figures(page(tmp_path, swept(*SWEEP[:2]), best))


def test_trained_blocks_have_their_losses_drawn(tmp_path: Path) -> None:
    past = swept(*SWEEP[:2])
    write_history(tmp_path, past, evidence())
    assert "chart-training" not in render_again(tmp_path).html.read_text("utf-8")
    log = tmp_path / "iter_1" / "console.log"
    lines = [f"# Block [{at} / 3]: [a -> {NASTY}]\n" for at in (1, 2, 3)]
    end = "# Tuning Finished  : (0.5 -> 0.25) [Block Loss]\n"
    log.write_text(lines[0] + end + lines[1], encoding="utf-8")
    text = render_again(tmp_path).html.read_text("utf-8")
    (before, after) = valid_figures(text)["chart-training"]["data"]
    assert (before["x"], after["x"]) == ([0.5], [0.25])
    assert "is not recorded: plain esp-ppq does not print it." in Outline(text).text
    steps = (
        "# Loss by Step     : 0 1e308, 250 1e-308, 500 0.75\n",
        "# Loss by Step     : 0 1, 9 2\n",
    )
    blocks = lines[0] + end, lines[1] + steps[0] + end, lines[2] + steps[1] + end
    log.write_text("".join(blocks), encoding="utf-8")
    text = render_again(tmp_path).html.read_text("utf-8")
    sparks = re.findall(r'<svg class="spark"[^>]* aria-label="([^"]*)"', text)
    # The worst first; of the one that plain esp-ppq did no steps are known.
    assert sparks == ["loss 1 at step 0, 2 at step 9", "loss 1e+308 at step 0, 0.75 at step 500"]
    assert "1 would have grown: kept as it was" in Outline(text).text
    path = re.findall(r'<path d="([^"]*)"', text)[1]
    assert path == "M3.0 3.0 L80.0 29.0 157.0 29.0"


def test_what_a_program_needs_to_know_is_on_the_page(tmp_path: Path) -> None:
    write_history(tmp_path, swept(*SWEEP[:2]), evidence())
    card = tmp_path / "iter_1" / "model_card.json"
    tensor = {"name": NASTY, "dtype": "int8", "shape": [1, 28, 28, 1], "exponent": -7}
    whole = {"inputs": [tensor], "outputs": [{}, 3], "op_widths": {"S8": 26, "S16": 1}}
    card.write_text(json.dumps(whole), encoding="utf-8")
    text = Outline(render_again(tmp_path).html.read_text("utf-8")).text
    assert "Widths in the file: 26 ops in S8, 1 ops in S16." in text
    assert "int8 1 x 28 x 28 x 1 -7" in text
    card.write_text('{"inputs": 3, "op_widths": [], "outputs": {"a": 1}}', encoding="utf-8")
    assert "Widths in the file" not in render_again(tmp_path).html.read_text("utf-8")
