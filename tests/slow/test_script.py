"""The report's script, run by plain esp-ppq, against the model in best/."""

from __future__ import annotations

import re
import subprocess
import sys
from itertools import product
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from espdl_quantize.contract import load_contract
from espdl_quantize.core import Engine, NoProgress
from espdl_quantize.iteration import RunOptions, run_iteration
from espdl_quantize.ppq import target_names
from espdl_quantize.record import read_history
from espdl_quantize.report import compare
from espdl_quantize.setting import parse_setting
from tests.contracts import CONFIG, write_contract
from tests.matrix import thinned
from tests.networks import export_network

pytestmark = pytest.mark.slow

ROOT = Path(__file__).parent.parent.parent
NUMBERS = {3: np.int8, 5: np.int16, 6: np.int32}
"""By the code of a type in an .espdl."""
TQT = {"enabled": True, "steps": 4, "lr": 3e-4}


def content(file: Path) -> dict[str, tuple[Any, ...]]:
    """Return type, shape, exponents and numbers of every tensor of an .espdl, by name."""
    import esp_ppq.parser.espdl_exporter  # noqa: F401, puts FlatBuffers on the path
    from FlatBuffers.Dl.Model import Model

    # A header of 16 bytes comes first.
    graph = Model.GetRootAs(file.read_bytes()[16:], 0).Graph()
    found: dict[str, tuple[Any, ...]] = {}
    for number in range(graph.InitializerLength()):
        tensor = graph.Initializer(number)
        raw = b"".join(
            tensor.RawData(i).BytesAsNumpy().tobytes() for i in range(tensor.RawDataLength())
        )
        exponents, shape = tensor.ExponentsAsNumpy(), tensor.DimsAsNumpy()
        found[tensor.Name().decode()] = (tensor.DataType(), tuple(shape), tuple(exponents), raw)
    for number in range(graph.ValueInfoLength()):
        value = graph.ValueInfo(number)
        found[f"value {value.Name().decode()}"] = (tuple(value.ExponentsAsNumpy()),)
    return found


BESIDE_THE_SETTING = {
    "width": 16,
    "dispatching_table": [{"op": "/project/Conv", "bits": 8}],
    "calib_algorithm": "percentile",
    "percentile": 0.99,
    "int16_tables": True,
    "metadata": {"who": "me"},
    "model_version": 3,
}
"""Fields that esp-ppq's QuantizationSetting has no attribute for, and others."""

SETTINGS: dict[str, dict[str, Any]] = {
    "training": {"tqt_optimization": TQT},
    "beside the setting": BESIDE_THE_SETTING,
}


@pytest.mark.parametrize(
    ("engine", "flow", "name"),
    thinned(product(["reference", "fast"], ["torch", "onnx"], SETTINGS)),
)
def test_the_script_makes_best_again(tmp_path: Path, engine: Engine, flow: str, name: str) -> None:
    fields = SETTINGS[name]
    net = "swish" if fields is BESIDE_THE_SETTING else "residual"
    model = f"from tests.networks import network\n    return network({net!r})"
    config = {**CONFIG, "model_type": flow}
    if flow == "onnx":
        config["onnx_path"] = "net.onnx"
        export_network(net, tmp_path / "net.onnx")
    path = write_contract(
        tmp_path,
        config=config,
        model=model,
        evaluate="from tests.networks import output_error\n"
        f"    return {{'top1': output_error({net!r}, quant_graph, 16)}}",
    )
    setting = parse_setting({"iteration_id": 0, **fields})
    outputs = tmp_path / "outputs"
    contract = load_contract(path, target_names())
    run_iteration(contract, setting, outputs / "iter_0", RunOptions(engine=engine), NoProgress())
    compare(outputs, finalize=True, force_finalize=True)
    best = read_history(outputs).best
    assert best is not None
    report = (outputs / "final_report.md").read_text()
    (script,) = re.findall(r"^```python\n(.*?)^```", report, flags=re.MULTILINE | re.DOTALL)
    (tmp_path / "again.py").write_text(script)
    done = subprocess.run(
        [sys.executable, "again.py"],
        cwd=tmp_path,
        env={"PYTHONPATH": str(ROOT), "PATH": "/usr/bin:/bin", "HOME": str(tmp_path)},
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 0, done.stderr[-2000:]
    wanted, found = (
        content(file) for file in (outputs / "best/model.espdl", tmp_path / "model.espdl")
    )
    assert wanted
    assert wanted.keys() == found.keys()
    if engine == "reference":
        assert wanted == found
        return
    for name, tensor in wanted.items():
        assert tensor[:-1] == found[name][:-1]
        if not name.startswith("value "):
            kind = NUMBERS.get(tensor[0], np.uint8)
            ours, plain = (
                np.frombuffer(one[-1], kind).astype(int) for one in (tensor, found[name])
            )
            if kind is np.int32:
                # Biases have steps so fine that the rounding of float sums moves them by a few.
                assert np.abs(ours - plain).max() <= 16
            else:
                # A weight near the middle of two integers may fall to the other side.
                assert np.mean(ours != plain) <= 0.01
