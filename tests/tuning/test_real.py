from pathlib import Path
from typing import Any

import pytest

from espdl_quantize.contract import load_contract
from espdl_quantize.core import ContractError, Direction, NoProgress, Priority
from espdl_quantize.gate import examine_first
from espdl_quantize.iteration import RunOptions
from espdl_quantize.record import Budgets, IterationRecord, read_history, record_from_json
from espdl_quantize.setting import baseline
from espdl_quantize.tuning import BackendFacts, RealBackend, _real, tune
from tests.contracts import CONFIG, EVALUATE, write_contract


def test_the_real_backend_is_run_iteration_with_a_contract(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    config = {**CONFIG, "target_metric": 0.9, "deploy_runtime_priority": "speed"}
    contract = load_contract(write_contract(tmp_path, config=config), ["esp32s3"])
    options = RunOptions(full_eval=True, seed=3)
    backend = RealBackend(contract, options)
    assert backend.facts == BackendFacts(
        metric="top1",
        direction=Direction.MAX,
        model_name="net",
        target_chip="esp32s3",
        contract_path=str(contract.path),
        target=0.9,
        priority=Priority.SPEED,
        contract_key=contract.fingerprint,
        num_of_bits=8,
        budgets=Budgets(),
        device="cpu",
    )
    called: list[tuple[Any, ...]] = []

    record = record_from_json({"iteration_id": 0})

    def fake_iteration(*given: Any, examine: object) -> IterationRecord:
        assert examine is examine_first
        called.append(given)
        return record

    monkeypatch.setattr(_real, "run_iteration", fake_iteration)
    progress = NoProgress()
    assert backend.run(baseline(), tmp_path / "iter_0", progress) is record
    backend.run(baseline(), tmp_path / "iter_1", progress)
    assert called[0][:5] == (contract, baseline(), tmp_path / "iter_0", options, progress)
    assert called[0][5].contract is contract
    assert called[1][5] is called[0][5]


@pytest.mark.slow
def test_an_evaluation_that_no_setting_helps_ends_a_search_at_once(tmp_path: Path) -> None:
    refuse = "assert not any(hasattr(op, 'config') for op in quant_graph.operations.values())"
    path = write_contract(tmp_path, evaluate=f"{refuse}, 'float alone'\n    {EVALUATE}")
    # Nothing is scored before the first iteration.
    options = RunOptions(score_float=False)
    with pytest.raises(ContractError, match=r"float alone.* no setting can change that"):
        tune(RealBackend(load_contract(path, ["esp32s3"]), options), tmp_path / "outputs")
    (only,) = read_history(tmp_path / "outputs").iterations
    assert only.failure is not None
    assert only.id == 0
