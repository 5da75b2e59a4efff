"""The evaluation is proved on the float model before an iteration's time is spent."""

from pathlib import Path
from typing import Any

import pytest

from espdl_quantize.contract import load_contract
from espdl_quantize.core import EXIT_CONTRACT, EspdlQuantizeError, NoProgress, read_json
from espdl_quantize.iteration import RunOptions, run_iteration
from espdl_quantize.setting import baseline
from tests.contracts import write_contract


@pytest.fixture
def stages(monkeypatch: pytest.MonkeyPatch) -> list[str]:
    """What was begun; nothing is quantized."""
    begun: list[str] = []

    def stop(*_: object, **__: object) -> None:
        begun.append("quantize")
        raise RuntimeError("far enough")

    monkeypatch.setattr("espdl_quantize.iteration._run.quantize", stop)
    return begun


def begin(folder: Path, options: RunOptions | None = None, **parts: Any) -> EspdlQuantizeError:
    contract = load_contract(write_contract(folder, **parts), ["esp32s3"])
    outputs = folder / "outputs/iter_0"
    with pytest.raises(EspdlQuantizeError) as caught:
        run_iteration(contract, baseline(), outputs, options or RunOptions(), NoProgress())
    return caught.value


@pytest.mark.parametrize(
    "evaluate",
    ["return {'top5': 1.0}", "return None", "return 1 / 0", "return {'top1': 92.2}"],
)
def test_a_fault_of_the_evaluation_stops_it_before_quantizing(
    tmp_path: Path, stages: list[str], evaluate: str
) -> None:
    error = begin(tmp_path, evaluate=evaluate)
    assert error.exit_code == EXIT_CONTRACT
    assert stages == []
    index = read_json(tmp_path / "outputs/iter_0/iteration_index.json")
    assert (index["status"], index["error"]["stage"]) == ("failed", "score float model")
    if "1 / 0" in evaluate:
        assert "user_quant.py:10, in evaluate()" in error.cause
        assert "console.log has the whole trace" in error.hint


def test_an_evaluation_of_quantized_graphs_only_goes_on_when_told(
    tmp_path: Path, stages: list[str]
) -> None:
    begin(tmp_path, RunOptions(score_float=False), evaluate="return 1 / 0")
    assert stages == ["quantize"]


def test_the_line_in_get_torch_model_is_named(tmp_path: Path, stages: list[str]) -> None:
    error = begin(tmp_path, model="raise NotImplementedError('your model')")
    assert "user_quant.py:7, in get_torch_model()" in error.cause
    assert error.hint.startswith("fill in the TODO in get_torch_model()")
