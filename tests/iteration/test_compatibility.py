"""One output folder holds iterations of one chip, contract and model."""

from pathlib import Path
from typing import Any

import pytest

from espdl_quantize.contract import load_contract
from espdl_quantize.core import EXIT_OUTPUT_FOLDER, NoProgress, OutputFolderError, read_json
from espdl_quantize.iteration import RunOptions, run_iteration
from espdl_quantize.setting import baseline
from espdl_quantize.tuning import RealBackend, tune
from tests.contracts import CONFIG, RUN, write_contract
from tests.search.made_runs import run, write_run


class ReachedQuantizingError(Exception):
    """The iteration got as far as quantizing."""


@pytest.fixture
def contract(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Any:
    def stop(*_: object, **__: object) -> None:
        raise ReachedQuantizingError

    monkeypatch.setattr("espdl_quantize.iteration._run.quantize", stop)
    path = write_contract(tmp_path, evaluate=f"{RUN}return {{'top1': 0.9}}")
    return load_contract(path, ["esp32s3", "esp32p4"])


def begin(contract: Any, folder: Path, **options: Any) -> None:
    run_iteration(contract, baseline(), folder, RunOptions(**options), NoProgress())


def key_of(contract: Any, outputs: Path) -> str:
    """Run up to the quantization, which leaves the key in the index of the failed iteration."""
    with pytest.raises(Exception, match="ReachedQuantizing"):
        begin(contract, outputs / "iter_0")
    return str(read_json(outputs / "iter_0/iteration_index.json")["float_reference_key"])


def beside(outputs: Path, number: int = 1, value: float | None = 0.5, **index: Any) -> None:
    index = {"target_chip": "esp32s3", "model_name": "net", **index}
    write_run(outputs, run(number, value), **index)


def test_another_chip_is_refused_before_anything_is_done(contract: Any, tmp_path: Path) -> None:
    outputs = tmp_path / "outputs"
    beside(outputs, target_chip="esp32p4")
    with pytest.raises(OutputFolderError) as caught:
        begin(contract, outputs / "iter_2")
    assert caught.value.exit_code == EXIT_OUTPUT_FOLDER
    assert "target_chip is 'esp32p4' there and 'esp32s3' here" in caught.value.cause
    assert "iter_1" in caught.value.cause
    assert "output_dir" in caught.value.hint
    assert not (outputs / "iter_2").exists()


def test_another_contract_is_refused_before_it_is_quantized(contract: Any, tmp_path: Path) -> None:
    outputs = tmp_path / "outputs"
    beside(outputs, float_reference_key="f" * 64)
    with pytest.raises(OutputFolderError, match="float_reference_key ffffffffffff there"):
        begin(contract, outputs / "iter_2")
    assert sorted(entry.name for entry in outputs.iterdir() if entry.is_dir()) == ["iter_1"]
    with pytest.raises(OutputFolderError, match="was edited since"):
        tune(RealBackend(contract), outputs)
    assert not (outputs / "iter_2").exists()


def test_another_version_of_esp_dl_is_named(contract: Any, tmp_path: Path) -> None:
    outputs = tmp_path / "outputs"
    key = "f" * 64
    beside(outputs, float_reference_key=key, contract_key=key, esp_dl_version="3.3.9")
    with pytest.raises(OutputFolderError, match=r"is 3\.3\.9 there and none here") as caught:
        begin(contract, outputs / "iter_2")
    assert "esp_dl_version" in caught.value.hint
    assert "edited" not in caught.value.cause
    with pytest.raises(OutputFolderError, match=r"has 3\.3\.9, this run names none"):
        tune(RealBackend(contract), outputs)


def test_what_belongs_to_the_search_goes_on(contract: Any, tmp_path: Path) -> None:
    key = key_of(contract, tmp_path / "first")
    same, old, failed = tmp_path / "same", tmp_path / "old", tmp_path / "failed"
    beside(same, float_reference_key=key)
    # The first scored iteration decides; what was mixed in later is left out of the ranking.
    beside(same, 2, float_reference_key="f" * 64)
    beside(old)
    beside(failed, value=None, float_reference_key="f" * 64)
    for outputs in (same, old, failed):
        with pytest.raises(Exception, match="ReachedQuantizing"):
            begin(contract, outputs / "iter_3")


def test_what_is_replaced_is_no_neighbour_of_itself(contract: Any, tmp_path: Path) -> None:
    outputs = tmp_path / "outputs"
    beside(outputs, float_reference_key="f" * 64)
    with pytest.raises(Exception, match="ReachedQuantizing"):
        begin(contract, outputs / "iter_1", overwrite=True)


def test_a_folder_that_is_ranked_with_nothing_may_be_anywhere(
    contract: Any, tmp_path: Path
) -> None:
    outputs = tmp_path / "outputs"
    beside(outputs, target_chip="esp32p4", float_reference_key="f" * 64)
    with pytest.raises(Exception, match="ReachedQuantizing"):
        begin(contract, outputs / "trial")


def test_a_higher_target_goes_on_in_the_same_folder(contract: Any, tmp_path: Path) -> None:
    outputs = tmp_path / "outputs"
    beside(outputs, float_reference_key=key_of(contract, tmp_path / "first"))
    config = {**CONFIG, "target_metric": 0.99}
    path = write_contract(
        tmp_path, config=config, evaluate=f"{RUN}return {{'top1': 0.9}}  # as before"
    )
    with pytest.raises(Exception, match="ReachedQuantizing"):
        begin(load_contract(path, ["esp32s3"]), outputs / "iter_2")
