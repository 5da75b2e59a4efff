"""Final scores and draws of the calibration data, with the real engine on a small network."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

from espdl_quantize.contract import load_contract
from espdl_quantize.core import ContractError, Json, NoProgress, OutputFolderError
from espdl_quantize.iteration import RunOptions
from espdl_quantize.record import read_history
from espdl_quantize.report import compare
from espdl_quantize.setting import baseline
from espdl_quantize.tuning import (
    Budget,
    IsolatedBackend,
    RealBackend,
    TuneOptions,
    compare_draws,
    preview,
    repeat,
    tune,
)
from tests.cli.conftest import Command
from tests.contracts import CALIBRATION, write_contract

pytestmark = [pytest.mark.slow, pytest.mark.usefixtures("short_training")]

ROOT = Path(__file__).parent.parent.parent
SCORE = """
def score(graph, first, last):
    from esp_ppq.executor import TorchExecutor
    from tests.networks import depthwise_cnn, held_out_images
    images = held_out_images(last)[first:]
    run = TorchExecutor(graph=graph, device="cpu")
    right = (run.forward(images)[0].argmax(1) == depthwise_cnn()(images).argmax(1)).tolist()
    return {"top1": 100.0 * sum(right) / len(right), "per_sample": right}
"""
FINAL = SCORE + "\ndef evaluate_final(quant_graph):\n    return score(quant_graph, 150, 400)\n"


def contract(folder: Path, extra: str = FINAL, last: int = 200) -> Path:
    evaluate = f"return score(quant_graph, 0, {last})"
    folder.mkdir(exist_ok=True)
    return write_contract(folder, evaluate=evaluate, extra=extra)


FORBID = """
import sys

class Forbid:
    def find_spec(self, name, path=None, target=None):
        if name.partition(".")[0] in ("torch", "esp_ppq", "onnx"):
            raise ImportError(f"{name} must not be imported")

sys.meta_path.insert(0, Forbid())
from espdl_quantize.search import sweep_setting
vars(sweep_setting("kl").tqt_optimization)["steps"] = 20
from espdl_quantize.cli import main
main()
"""


@pytest.fixture(scope="module")
def printed(tmp_path_factory: pytest.TempPathFactory) -> Json:
    """Return what ``tune --json`` printed of a search that imported no torch itself."""
    folder = tmp_path_factory.mktemp("tuned")
    arguments = ["tune", str(contract(folder)), "--iterations", "2", "--json"]
    done = subprocess.run(
        [sys.executable, "-c", FORBID, *arguments, "--output-dir", str(folder / "outputs")],
        capture_output=True,
        text=True,
        cwd=ROOT,
        check=False,
    )
    assert done.returncode == 0, done.stderr
    return {**json.loads(done.stdout), "folder": str(folder / "outputs")}


@pytest.fixture(scope="module")
def tuned(printed: Json) -> Path:
    return Path(printed["folder"])


def test_the_process_that_watches_over_the_search_imports_no_torch(printed: Json) -> None:
    assert printed["iterations_run"] == 2


def test_tune_ends_with_a_final_score_of_the_same_model(tuned: Path) -> None:
    history = read_history(tuned)
    best, first = history.best, history.baseline
    assert best is not None
    assert first is not None
    assert set(history.finals) == {best.id, first.id}
    for final in history.finals.values():
        assert final.same_model is True
        assert final.score.evaluated_by == "evaluate_final"
        assert final.score.sample_count == 250
        # 150 to 199 were scored by the search.
        assert final.score.samples_shared_with_search == 50
        assert final.score.samples_shared_with_calibration == 0
        assert final.score.signals is not None
        assert final.score.signals.samples == 250
        assert not (final.score.folder / "model.espdl").exists()
    report = (tuned / "final_report.md").read_text()
    assert f"Final score of {best.name} by evaluate_final() on 250 samples" in report
    assert "exports to best/model.espdl byte for byte" in report
    assert "50 of its samples were scored by the search, too" in report
    assert "byte for byte" in (tuned / "report.html").read_text()
    comparison = json.loads((tuned / "comparison.json").read_text())
    assert comparison["final"]["taken"] is True
    names = set(json.loads((tuned / "float_reference.json").read_text())["scores"])
    assert names == {"evaluate", "evaluate_final"}


def test_a_model_that_is_another_is_told(tuned: Path) -> None:
    history = read_history(tuned)
    assert history.best is not None
    model = history.best.folder / "model.espdl"
    content = model.read_bytes()
    try:
        model.write_bytes(content + b" ")
        found = compare(tuned, finalize=True).comparison.to_json()["final"]
    finally:
        model.write_bytes(content)
    assert "does not export to the same bytes" in " ".join(found["told"])


@pytest.mark.usefixtures("short_training")
def test_best_and_its_rival_run_on_the_same_draws(tmp_path: Path) -> None:
    backend = RealBackend(load_contract(contract(tmp_path), ["esp32s3"]))
    options = TuneOptions(Budget(iterations=2), final=False, confirm_draws=2)
    result = tune(backend, tmp_path / "outputs", options)
    assert result.history.best is not None
    told = json.loads((tmp_path / "outputs/repeat/confirmed.json").read_text())
    assert told["best"] == result.history.best.id
    assert {told["best"], told["rival"]} == {0, 1}
    assert told["best_versus_rival"]["draws"] == 2
    report = (tmp_path / "outputs/final_report.md").read_text()
    assert "Over 2 draws of the calibration data" in report
    assert f"nearest rival iter_{told['rival']}" in report


@pytest.mark.usefixtures("short_training")
def test_without_a_final_function_the_choice_is_told(tmp_path: Path, command: Command) -> None:
    backend = RealBackend(load_contract(contract(tmp_path, SCORE), ["esp32s3"]))
    result = tune(backend, tmp_path / "outputs", TuneOptions(Budget(iterations=2)))
    assert result.history.finals == {}
    assert not (tmp_path / "outputs/final").exists()
    report = (tmp_path / "outputs/final_report.md").read_text()
    assert "the final score is also the score it was selected by" in report
    for options in ((), ("--json",)):
        path, outputs = tmp_path / "user_quant.py", tmp_path / "outputs"
        done = command("final", path, "--output-dir", outputs, "--in-process", *options)
        assert done.returncode == 0
        message = json.loads(done.stdout)["told"][0] if options else " ".join(done.stdout.split())
        assert "the contract has one way to score, and that chose the best" in message


def test_no_batches_beside_scores_are_no_iteration(tmp_path: Path) -> None:
    outputs, size = tmp_path / "outputs", tmp_path / "size.txt"
    path = write_contract(
        tmp_path,
        calibration=CALIBRATION.replace("images(64)", f"images(int(open({str(size)!r}).read()))"),
        evaluate="return score(quant_graph, 0, 200)",
        extra=SCORE,
    )
    size.write_text("64")
    first = RealBackend(load_contract(path, ["esp32s3"]))
    tune(first, outputs, TuneOptions(Budget(iterations=1), final=False))
    size.write_text("0")
    with (
        IsolatedBackend(path) as backend,
        pytest.raises(ContractError, match="not one batch"),
    ):
        tune(backend, outputs, TuneOptions(Budget(iterations=1)))
    assert [row.id for row in read_history(outputs).iterations] == [0]
    assert not (outputs / "iter_1").exists()
    path.write_text(path.read_text() + "EDITED = True\n")
    edited = RealBackend(load_contract(path, ["esp32s3"]))
    with pytest.raises(OutputFolderError, match="the contract was edited since iter_0"):
        preview(edited, outputs)


def test_a_fast_score_ends_with_the_whole_one(tmp_path: Path) -> None:
    extra = SCORE + "\ndef evaluate_fast(quant_graph):\n    return score(quant_graph, 0, 60)\n"
    backend = RealBackend(load_contract(contract(tmp_path, extra), ["esp32s3"]))
    options = TuneOptions(Budget(iterations=1), final=False)
    tune(backend, tmp_path / "outputs", options)
    told = compare(tmp_path / "outputs", finalize=True)
    assert "No final score was taken of iter_0" in "\n".join(told.lines)
    result = tune(backend, tmp_path / "outputs", TuneOptions(Budget(iterations=1)))
    final = result.history.finals[0]
    assert (final.score.evaluated_by, final.score.sample_count) == ("evaluate", 200)
    assert final.score.samples_shared_with_search == 60


def test_draws_are_kept_and_compared(tmp_path: Path) -> None:
    backend = RealBackend(load_contract(contract(tmp_path), ["esp32s3"]), RunOptions())
    ran: list[Any] = []
    run = backend.run_auxiliary

    def noted(*given: Any, **named: Any) -> Any:
        ran.append(given)
        return run(*given, **named)

    backend.run_auxiliary = noted  # type: ignore[method-assign]
    said: list[str] = []
    for _ in range(2):
        found = repeat(backend, tmp_path / "outputs", baseline(), 3, 0, NoProgress(), said.append)
    assert len(ran) == 3
    noises = {row.signals.noise_signal for row in found.iterations if row.signals is not None}
    # A scale is a power of two: draws of so small a network need not all differ.
    assert len(noises) > 1
    summary = json.loads((found.folder / "repeat.json").read_text())
    assert summary["lowest"] <= summary["mean"] <= summary["highest"]
    assert read_history(tmp_path / "outputs").iterations == ()
    same = compare_draws(found, found, higher_is_better=True)
    assert (same["verdict"], same["mean_difference"]) == ("within noise", 0.0)
