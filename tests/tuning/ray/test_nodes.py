"""Made-up iterations on a Ray of two nodes, one of which is killed."""

from __future__ import annotations

import threading
import time
from pathlib import Path
from typing import Any

import pytest

from espdl_quantize.record import read_history
from espdl_quantize.tuning import Budget, TuneOptions, tune
from tests.tuning.fake_backend import Notes

pytest.importorskip("ray", reason="Ray is not installed: pip install 'espdl-quantize[ray]'")

from tests.tuning.ray.made import CrewBackend, Impatient

pytestmark = pytest.mark.slow


def test_the_iteration_of_a_lost_node_runs_on_another(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The other node has no room but that of its worker, which has to take it over."""
    from ray.cluster_utils import Cluster

    monkeypatch.setattr("espdl_quantize.tuning.ray.backend.PATIENCE", 1.0)
    monkeypatch.setenv("RAY_worker_niceness", "0")
    contract = tmp_path / "user_quant.py"
    contract.write_text('{"seconds": 8}')
    node: dict[str, Any] = {
        "num_cpus": 1,
        "include_dashboard": False,
        # Notice at once that a node is lost, while the other still works.
        "_system_config": {
            "health_check_initial_delay_ms": 0,
            "health_check_period_ms": 500,
            "health_check_failure_threshold": 2,
        },
    }
    cluster = Cluster(initialize_head=True, head_node_args=node)
    second = cluster.add_node(num_cpus=1)
    notes = Notes()

    def kill() -> None:
        files = [tmp_path / f"pid_iter_{number}" for number in (1, 2)]
        while not all(file.exists() for file in files):
            time.sleep(0.1)
        cluster.remove_node(second, allow_graceful=False)

    try:
        threading.Thread(target=kill, daemon=True).start()
        with CrewBackend(contract, slots=2, address=cluster.address) as backend:
            tune(
                backend,
                tmp_path / "out",
                TuneOptions(Budget(3)),
                progress=Impatient(),
                observer=notes,
            )
    finally:
        cluster.shutdown()
    history = read_history(tmp_path / "out")
    assert [each.id for each in history.scored] == [0, 1, 2]
    assert sum("was lost" in note for note in notes.notes) == 1
