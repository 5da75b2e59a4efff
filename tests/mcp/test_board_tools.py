"""To a board and back, through the SDK's client."""

import json
import shutil
from pathlib import Path

import pytest

from tests.deploy.conftest import finished  # noqa: F401, a fixture
from tests.mcp.client import call, connect_within, refused
from tests.search.made_runs import SWEEP, swept, write_history

pytestmark = pytest.mark.anyio


async def test_a_log_is_stored_and_shown(root: Path) -> None:
    write_history(root / "outputs", swept(*SWEEP))
    lines = ("I (1) dl::Model: Test Pass!", "I (2) dl::Model: | /a | Conv | 9us |", "run:12 ms")
    (root / "board.log").write_text("\n".join(lines))
    (root.parent / "outside.log").write_text("run:1 ms")
    async with connect_within(root) as client:
        told = await call(client, "device_log", log="board.log", iteration=1)
        step = await call(client, "next_step")
        outside = await refused(client, "device_log", log="../outside.log")
        page = await call(client, "artifacts", iteration=1, file="device.json")
    assert told["holds"] is True
    assert told["measured"]["ms"] == 12.0
    assert told["slowest_layers"] == [{"op": "/a", "op_type": "Conv", "us": 9.0}]
    stored = json.loads((root / "outputs/iter_1/device.json").read_text())
    assert stored["test"] == "passed"
    shown = {row["iteration"]: row.get("on_board") for row in step["ranking"]}
    assert shown[1]["ms"] == 12.0
    assert shown[0] is None
    assert "outside of the roots" in outside["message"]
    assert {"key": "ms", "value": 12.0} in page["rows"]


async def test_a_project_is_refused_with_its_reason(root: Path) -> None:
    write_history(root / "outputs", swept(*SWEEP))
    (root / "taken").mkdir()
    (root / "taken/mine.txt").write_text("mine")
    (root / "user_quant.py").write_text("QUANT_CONFIG = {}")
    async with connect_within(root) as client:
        taken = await refused(client, "deploy", project="taken")
        outside = await refused(client, "deploy", project="../board")
        damaged = await refused(client, "deploy", project="board")
        unknown = await refused(client, "deploy", project="board", esp_dl_version="latest")
        old = await refused(client, "deploy", project="board", esp_dl_version="2.0.0")
        check = await refused(
            client, "check_contract", contract="user_quant.py", esp_dl_version="3.x"
        )
    assert "not an empty folder" in taken["message"]
    assert "outside of the roots" in outside["message"]
    assert "fewer than its header" in damaged["message"]
    assert damaged["exit_code"] == 5
    assert "'latest' is no version of ESP-DL" in unknown["message"]
    assert "needs 3.0.0 or later" in old["message"]
    assert "'3.x' is no version" in check["message"]
    assert not (root / "board").exists()


async def test_a_project_and_the_costs_of_every_iteration(root: Path, finished: Path) -> None:  # noqa: F811
    shutil.copytree(finished, root / "outputs")
    async with connect_within(root) as client:
        told = await call(client, "deploy", project="board", psram=2)
        whole = await call(client, "cost")
        single = await call(client, "cost", iteration=0, internal=64)
        missing = await refused(client, "cost", iteration=9)
        outside = await refused(client, "cost", output_dir="..")
        (root / "outputs/iter_9").symlink_to(finished / "iter_0")
        linked = await refused(client, "cost")
    assert told["chip"] == "esp32s3"
    assert told["has_test_values"] is True
    assert (root / "board/main/model.espdl").is_file()
    assert "CONFIG_SPIRAM_MODE_QUAD=y" in (root / "board/sdkconfig.defaults").read_text()
    assert [entry["iteration"] for entry in whole["iterations"]] == [0]
    (entry,) = single["iterations"]
    assert entry["chip"] == "esp32s3"
    assert entry["low"] < entry["milliseconds"] < entry["high"]
    assert entry["ram_bytes"] > 0
    assert entry["flash_bytes"] == (root / "outputs/iter_0/model.espdl").stat().st_size
    assert single["peak_layer"]
    shares = [layer["share"] for layer in single["slowest_layers"]]
    assert shares == sorted(shares, reverse=True)
    assert "iter_9" in missing["message"]
    assert "outside of the roots" in outside["message"]
    assert "outside of the roots" in linked["message"]
