"""The server with real iterations: the demo's contract, and contracts that hang."""

import json
from pathlib import Path
from typing import Any

import anyio
import pytest

from tests.contracts import RUN, write_contract
from tests.mcp.client import call, connect_within, read, until

pytestmark = [pytest.mark.slow, pytest.mark.anyio]


@pytest.fixture
def anyio_backend() -> str:
    return "asyncio"


async def test_a_contract_from_the_check_to_the_report(tmp_path: Path) -> None:
    root = tmp_path / "project"
    root.mkdir()
    write_contract(root)
    told: list[str] = []

    async def note(progress: float, total: float | None, message: str | None) -> None:
        told.append(message or "")

    async with connect_within(root) as client:
        checked = await call(client, "check_contract", contract="user_quant.py", wait_seconds=600)
        arguments: dict[str, Any] = {"contract": "user_quant.py", "wait_seconds": 600}
        arguments["options"] = {"iteration_limit": "10m"}
        dry = await call(client, "run_iteration", **arguments, dry_run=True)
        assert dry["state"] == "finished", dry
        assert not (root / "outputs").exists()
        ran = await client.call_tool("run_iteration", arguments, progress_callback=note)
        worst = await call(
            client, "artifacts", iteration=0, file="layerwise_error.json", op_type="Conv", limit=1
        )
        files = await call(client, "artifacts", iteration=0)
        step = await call(client, "next_step")
        ended = await call(client, "finalize")
        report = await read(client, "report")

    assert checked["state"] == "finished", checked
    job = ran.structured_content
    assert job is not None
    assert job["state"] == "finished", job
    index = json.loads((root / "outputs/iter_0/iteration_index.json").read_text())
    assert job["result"]["primary_value"] == index["primary_value"]
    assert index["float_value"] == checked["result"]["float_value"]
    # Which stages are seen between two looks depends on the machine.
    assert any(
        message.startswith(("examine", "quantize", "analyse", "evaluate")) for message in told
    ), told
    assert worst["rows"][0]["op"] == index["top_5_error_layers"][0]["op"]
    assert "model.espdl" in {file["name"] for file in files["files"]}
    assert step["iteration"] == 1
    assert step["setting"]["tqt_optimization"]["enabled"]
    assert ended["best_iteration"] == 0
    assert "model.espdl" in report.partition("\n\n")[0]


async def test_an_iteration_that_hangs_is_cancelled_and_leaves_nothing(
    tmp_path: Path,
) -> None:
    root = tmp_path / "project"
    root.mkdir()
    mark = root / "scoring"
    evaluate = (
        f"{RUN}import pathlib, time; pathlib.Path({str(mark)!r}).touch()\n"
        "    while not pathlib.Path(__file__).with_name('go').exists(): time.sleep(0.05)\n"
        "    return {'top1': 1.0}"
    )
    write_contract(root, evaluate=evaluate)
    async with connect_within(root) as client:
        job = await call(client, "tune", contract="user_quant.py", iterations=1)
        with anyio.fail_after(300):
            while not mark.exists():
                await until(client, job["job_id"], lambda _: True)
                await anyio.sleep(0.2)
        done = await call(client, "cancel", job_id=job["job_id"], wait_seconds=25)
        left = {path.name for path in (root / "outputs").iterdir()}
        (root / "go").touch()
        again = await call(client, "tune", contract="user_quant.py", iterations=1, wait_seconds=600)
    # Ctrl-C was enough.
    assert done["state"] == "interrupted"
    assert done["error"]["exit_code"] == done["exit_code"] == 130
    assert not [name for name in left if "iter_" in name]
    assert again["state"] == "finished", again
    assert again["result"]["best_value"] == 1.0
