"""Real iterations on a real, local Ray are those of this machine alone."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from espdl_quantize.record import Iteration, read_history
from espdl_quantize.setting import setting_key
from espdl_quantize.tuning import Budget, IsolatedBackend, RayBackend, TuneOptions, tune
from tests.contracts import CONFIG, write_contract
from tests.there import there
from tests.tuning.ray.made import on_ray

pytest.importorskip("ray", reason="Ray is not installed: pip install 'espdl-quantize[ray]'")

pytestmark = pytest.mark.slow

TIMES = ("elapsed_seconds", "elapsed_by_stage")
"""What of an index is a matter of the machine."""


def content(iteration: Iteration, *, but: tuple[str, ...] = ()) -> dict[str, Any]:
    """Return every file, but for the log."""
    files: dict[str, Any] = {
        file.relative_to(iteration.folder).as_posix(): file.read_bytes()
        for file in iteration.folder.rglob("*")
        if file.is_file() and file.name != "console.log"
    }
    index = json.loads(files["iteration_index.json"])
    files["iteration_index.json"] = {
        name: value for name, value in index.items() if name not in (*TIMES, *but)
    }
    return files


@pytest.mark.usefixtures("short_training")
def test_on_ray_an_iteration_is_what_it_is_without(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """One worker makes the same search, byte for byte; of two, each makes the same iterations."""
    # As many threads as each of two workers has.
    monkeypatch.setenv("OMP_NUM_THREADS", "1")
    contract = write_contract(
        tmp_path,
        config={**CONFIG, "calib_steps": 2},
        evaluate="from tests.networks import agreement\n"
        "    return {'top1': agreement(quant_graph, 64)}",
    )
    options = TuneOptions(Budget(3))
    with IsolatedBackend(contract) as plain:
        tune(plain, tmp_path / "plain", options)
    with on_ray(num_cpus=2):
        for slots in (1, 2):
            with RayBackend(contract, slots=slots) as backend:
                tune(backend, tmp_path / str(slots), options)
    plainly, one, two = (read_history(tmp_path / name).iterations for name in ("plain", "1", "2"))
    assert [each.id for each in plainly] == [0, 1, 2]
    assert [content(each) for each in one] == [content(each) for each in plainly]
    assert [each.beside for each in two] == [(), (), (1,)]
    by_setting = {setting_key(there(each.setting)): each for each in plainly}
    for each in two:
        same = by_setting[setting_key(there(each.setting))]
        if same.same_as is None:
            assert content(each, but=("beside",)) == content(same, but=("beside",))
        else:
            # Which it could not know: the other had not ended.
            twin = plainly[same.same_as]
            assert each.graph_sha256 == same.graph_sha256
            assert content(each)["model.espdl"] == content(twin)["model.espdl"]
