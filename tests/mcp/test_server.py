"""A whole search and everything around it, through the SDK's client."""

import json
import os
import re
import signal
import subprocess
import sys
from pathlib import Path
from typing import Any
from urllib.parse import urljoin

import anyio
import pytest
from mcp.shared.exceptions import MCPError

from espdl_quantize.core import UsageError
from espdl_quantize.mcp._roots import Roots
from espdl_quantize.mcp.job_tools import JobTools
from espdl_quantize.mcp.jobs import JobStore
from espdl_quantize.mcp.jobs.record import load as load_job
from espdl_quantize.mcp.options import TuneOptions
from espdl_quantize.report import certainty_lines
from espdl_quantize.tuning import RecordedBackend, tune
from tests.contracts import write_contract
from tests.mcp.client import (
    RECORDED,
    START,
    call,
    connect,
    connect_within,
    job_of,
    read,
    record_of,
    refused,
    until,
)

pytestmark = pytest.mark.anyio


def is_past_the_baseline(job: dict[str, Any]) -> bool:
    return bool(job.get("progress", {}).get("iteration", 0) >= 1)


async def test_another_chip_has_its_own_folder(root: Path, tmp_path: Path) -> None:
    path = write_contract(root)
    store = JobStore(tmp_path / "state", root, ("true",))
    tools = JobTools(Roots([root]), store)
    ctx: Any = None
    jobs = [
        await tools.check_contract(ctx, contract=str(path), target="esp32p4", wait_seconds=0),
        await tools.run_iteration(ctx, contract=str(path), target="esp32p4"),
        await tools.tune(ctx, contract=str(path), target="ESP32S31", dry_run=True),
    ]
    given = [load_job(store._folder / job.job_id).command for job in jobs]
    assert all("--target=esp32p4" in each for each in given[:2])
    assert str(root / "outputs-esp32p4" / "iter_0") in given[1]
    assert {"--target=ESP32S31", str(root / "outputs-esp32s31")} <= set(given[2])
    with pytest.raises(UsageError, match="its own chip"):
        await tools.tune(ctx, target="esp32p4", options=TuneOptions(recorded="table.zip"))


async def test_what_is_offered(root: Path) -> None:
    async with connect(root) as client:
        tools = {tool.name: tool for tool in (await client.list_tools()).tools}
        schema = await client.read_resource("espdl-quantize://setting-schema")
        offered = {str(one.uri) for one in (await client.list_resources()).resources}
        texts = {uri: (await client.read_resource(uri)).contents[0] for uri in offered}
        with pytest.raises(MCPError):
            await client.read_resource("espdl-quantize://references/../../etc/passwd")
    assert set(tools) == {
        "guide",
        "reference",
        "init",
        "final_score",
        "verify",
        "worst_ops",
        "why",
        "compare_iterations",
        "compare_folders",
        "render_report",
        "settings",
        "check_contract",
        "run_iteration",
        "tune",
        "status",
        "cancel",
        "next_step",
        "lint_setting",
        "artifacts",
        "finalize",
        "report",
        "cost",
        "deploy",
        "device_log",
    }
    for tool in tools.values():
        assert tool.input_schema["additionalProperties"] is False
        assert tool.annotations is not None
        assert tool.annotations.read_only_hint is not None
        assert tool.annotations.idempotent_hint is not None
        for field in tool.input_schema.get("properties", {}).values():
            assert field.get("description"), (tool.name, field)
    page = (Path(__file__).parents[2] / "docs/how-to/mcp.md").read_text(encoding="utf-8")
    assert set(re.findall(r"^\| `(\w+)` \|", page, flags=re.MULTILINE)) == set(tools)
    executing = {
        name for name, tool in tools.items() if "Executes the user's" in (tool.description or "")
    }
    assert executing == {"check_contract", "run_iteration", "tune", "final_score", "verify"}
    skill = Path(__file__).parents[2] / "skill/espdl-quantize"
    references = sorted((skill / "references").glob("*.md"))
    assert references
    for path in references:
        uri = f"espdl-quantize://skill/references/{path.name}"
        text = texts[uri].text  # type: ignore[union-attr]
        assert text == path.read_text(encoding="utf-8")
        # A link from one text to another leads to what is offered, too.
        for link in re.findall(r"\]\(([^):#]+)\)", text):
            assert (
                urljoin(uri.replace("espdl-quantize", "http"), link).replace(
                    "http", "espdl-quantize", 1
                )
                in offered
            ), (path.name, link)
    assert "calib_algorithm" in json.loads(schema.contents[0].text)["properties"]  # type: ignore[union-attr]


async def test_a_whole_search(root: Path, tmp_path: Path) -> None:
    backend = RecordedBackend(RECORDED)
    expected = tune(backend, tmp_path / "expected", clock=backend.clock)
    told: list[tuple[float, str | None]] = []

    async def note(progress: float, total: float | None, message: str | None) -> None:
        told.append((progress, message))

    async with connect(root) as client:
        done = await client.call_tool(
            "tune",
            {"options": {"recorded": "table.zip", "pace": 150}, "wait_seconds": 120},
            progress_callback=note,
        )
        job = done.structured_content
        assert job is not None
        assert job["state"] == "finished", job
        folder = (await call(client, "status", output_dir="outputs"))["folder"]
        step = await call(client, "next_step")
        report = await read(client, "report", max_characters=25_000)
        written = "\n".join((root / "outputs/final_report.md").read_text().splitlines())
        refusal = await refused(client, "finalize")
        ended = await call(client, "finalize", force_finalize=True)
        jobs = (await call(client, "status"))["jobs"]

    best = expected.history.best
    assert best is not None
    assert job["result"]["stop"]["category"] == expected.category
    assert job["result"]["best_iteration"] == folder["best_iteration"] == best.id
    assert folder["best_value"] == best.value
    assert folder["iterations"] == len(expected.history.iterations)
    assert folder["gap_closed"] == expected.history.gap_closed
    assert folder["certainty"] == certainty_lines(expected.history)
    compared = json.loads((root / "outputs/comparison.json").read_text())["iterations"]
    rows = {row["iteration_id"]: row["outcome"] for row in compared}
    assert all(row["outcome"] == rows[row["iteration"]] for row in step["ranking"])
    assert {row["iteration"] for row in step["ranking"]} >= {best.id, max(rows)}
    # How many lines of plans are among them depends on the time that was taken.
    assert any("against the best before" in line for line in job["recent"])
    assert step["phase"] == "phase-5-agent-driven"
    assert "setting" not in step
    assert step["phase5_signals"]
    shown = [line[2:] for line in report.splitlines() if line.startswith("| ")]
    assert "\n".join(shown) == written
    assert "metrics.json" in report.partition("\n\n")[0]
    assert refusal["exit_code"] == 1
    assert "force_finalize" in refusal["hint"]
    assert ended["category"] == "force_finalize_phase5"
    assert [(one["job_id"], one.get("result")) for one in jobs] == [(job["job_id"], None)]
    # Progress grows, as the protocol asks, and says what is going on.
    assert len(told) > 2
    assert [one for one, _ in told] == sorted({one for one, _ in told})
    assert any(re.match(r"iter_\d+: .*\(phase \d\)", str(message)) for _, message in told)


async def test_one_step_at_a_time(root: Path) -> None:
    """What next_step says is what lint_setting takes, and what a job would be run with."""
    async with connect_within(root) as client:
        job = await call(
            client, "tune", options={"recorded": "table.zip"}, iterations=4, wait_seconds=60
        )
        assert job["state"] == "finished", job
        step = await call(client, "next_step")
        kept = await call(client, "lint_setting", setting=step["setting"])
        broken = {**step["setting"], "equalization": {"enabled": True}, "rationale": ""}
        found = await call(client, "lint_setting", setting=broken)
        # A contract with faults: the job tells each of them.
        (root / "user_quant.py").write_text("QUANT_CONFIG = {}\n")
        failed = await call(client, "run_iteration", contract="user_quant.py", wait_seconds=60)
        before = sorted((root / "outputs").iterdir())
        dry = await call(
            client, "tune", options={"recorded": "table.zip"}, dry_run=True, wait_seconds=60
        )
    assert dry["state"] == "finished", dry
    assert sorted((root / "outputs").iterdir()) == before
    assert kept == {"ok": True}
    assert not found["ok"]
    assert all(one["hint"] for one in found["violations"])
    assert failed["state"] == "failed"
    assert failed["error"]["exit_code"] == failed["exit_code"] == 3
    assert any("target" in fault["key"] for fault in failed["error"]["faults"])
    place = root / ".espdl-quantize/jobs" / failed["job_id"] / "setting.json"
    assert json.loads(place.read_text()) == step["setting"]
    assert str(root / "outputs/iter_4") in record_of(root, failed["job_id"])["command"]


async def test_cancel_leaves_what_was_finished_and_the_same_call_goes_on(root: Path) -> None:
    async with connect_within(root) as client:
        slow = await call(client, "tune", options={"recorded": "table.zip", "pace": 2})
        job = await until(client, slow["job_id"], is_past_the_baseline)
        other = await refused(client, "tune", options={"recorded": "table.zip"})
        busy = await refused(client, "finalize")
        ended = await call(client, "cancel", job_id=job["job_id"], wait_seconds=60)
        again = await call(client, "cancel", job_id=job["job_id"])
        first = root / "outputs/iter_0/iteration_index.json"
        written = first.stat().st_mtime_ns
        left = sorted(path.name for path in (root / "outputs").iterdir())
        rest = await call(
            client, "tune", options={"recorded": "table.zip"}, iterations=3, wait_seconds=60
        )
    assert slow["state"] == "running"
    assert job["job_id"] in other["message"] and other["exit_code"] == 7
    assert job["job_id"] in busy["message"] and busy["exit_code"] == 7
    assert ended["state"] == again["state"] == "interrupted"
    assert ended["exit_code"] == 130
    assert "goes on" in ended["next"]
    finished = [name for name in left if name.startswith("iter_")]
    assert finished
    assert not [name for name in left if "partial" in name]
    assert rest["result"]["iterations_run"] == 3
    assert rest["result"]["iterations"] == len(finished) + 3
    assert first.stat().st_mtime_ns == written


async def test_jobs_outlive_the_server(root: Path) -> None:
    async with connect(root) as client:
        job = await call(client, "tune", options={"recorded": "table.zip", "pace": 4}, iterations=2)
        await until(client, job["job_id"], lambda job: "progress" in job)
        # Held where it is while the server is restarted.
        os.kill(record_of(root, job["job_id"])["pid"], signal.SIGSTOP)
    async with connect(root) as client:
        found = await job_of(client, job["job_id"])
        assert found["state"] == "running"
        assert found["recent"]
        os.kill(record_of(root, job["job_id"])["pid"], signal.SIGCONT)
        done = await job_of(client, job["job_id"], 60)
    assert done["state"] == "finished"
    assert done["result"]["iterations_run"] == 2


async def test_a_client_that_gives_up_ends_the_call_and_not_the_job(root: Path) -> None:
    async with connect_within(root) as client:
        job = await call(client, "tune", options={"recorded": "table.zip", "pace": 2})
        with anyio.move_on_after(0.5) as scope:
            await call(client, "status", job_id=job["job_id"], wait_seconds=60)
        assert scope.cancelled_caught
        await until(client, job["job_id"], lambda job: "progress" in job)
        done = await call(client, "cancel", job_id=job["job_id"], wait_seconds=60)
    assert done["state"] == "interrupted"


async def test_a_new_server_can_cancel_what_another_has_started(root: Path) -> None:
    async with connect(root) as client:
        job = await call(client, "tune", options={"recorded": "table.zip", "pace": 1})
        await until(client, job["job_id"], lambda job: "progress" in job)
    async with connect(root) as client:
        # A stopped one, too.
        os.kill(record_of(root, job["job_id"])["pid"], signal.SIGSTOP)
        done = await call(client, "cancel", job_id=job["job_id"], wait_seconds=60)
    assert done["state"] == "interrupted"
    assert done["error"]["exit_code"] == 130


async def test_a_job_that_was_killed_meanwhile_is_lost_and_can_be_taken_up(root: Path) -> None:
    async with connect(root) as client:
        job = await call(client, "tune", options={"recorded": "table.zip", "pace": 2})
        await until(client, job["job_id"], is_past_the_baseline)
    os.kill(record_of(root, job["job_id"])["pid"], signal.SIGKILL)
    finished = len(list((root / "outputs").glob("iter_*")))
    async with connect(root) as client:
        lost = await job_of(client, job["job_id"], 10)
        rest = await call(
            client, "tune", options={"recorded": "table.zip"}, iterations=1, wait_seconds=60
        )
    assert lost["state"] == "lost"
    assert "goes on" in lost["error"]["hint"]
    assert finished
    assert rest["result"]["iterations"] == finished + 1


async def test_paths_outside_of_the_roots_are_refused(root: Path, tmp_path: Path) -> None:
    (tmp_path / "outside").mkdir()
    (tmp_path / "outside/user_quant.py").write_text("")
    (root / "link").symlink_to(tmp_path / "outside")
    second = tmp_path / "second"
    second.mkdir()
    async with connect_within(root, second) as client:
        for path in ("..", "../outside", str(tmp_path / "outside"), "link", "second/../../x", "/"):
            calls: dict[str, dict[str, Any]] = {
                "check_contract": {"contract": f"{path}/user_quant.py"},
                "run_iteration": {"contract": f"{path}/user_quant.py"},
                "tune": {"options": {"recorded": f"{path}/table.zip"}},
                "status": {"output_dir": path},
                "next_step": {"output_dir": path},
                "lint_setting": {"setting": {}, "output_dir": path},
                "artifacts": {"output_dir": path},
                "finalize": {"output_dir": path},
                "report": {"output_dir": path},
                "render_report": {"output_dir": path},
                "compare_folders": {"first": path, "second": path},
            }
            for tool, arguments in calls.items():
                error = await refused(client, tool, **arguments)
                assert "outside of the roots" in error["message"], (tool, path)
                assert error["exit_code"] == 1
                assert "--root" in error["hint"]
        # The second root is one, too.
        allowed = await refused(client, "next_step", output_dir=str(second / "outputs"))
    assert "does not exist" in allowed["message"]


async def test_errors_say_how_to_mend_them_and_artifacts_come_in_pages(root: Path) -> None:
    async with connect_within(root) as client:
        errors = [
            (await refused(client, "next_step"), 7, "outputs does not exist"),
            (await refused(client, "status", job_id="../../x"), 2, "'../../x' is no id"),
            (await refused(client, "cancel", job_id="tune-20200101-000000-abcdef"), 2, "no job"),
            (await refused(client, "tune"), 2, "one of contract and options.recorded"),
            (await refused(client, "tune", contract="none.py"), 2, "none.py is no file"),
            (await refused(client, "tune", contract="x.py", iterations=0), 2, "iterations"),
            (await refused(client, "status", output_dir=""), 2, "output_dir is ''"),
        ]
        job = await call(
            client, "tune", options={"recorded": "table.zip"}, iterations=2, wait_seconds=60
        )
        assert job["state"] == "finished"
        wrong = {"calib_algorithm": "magic"}
        errors += [
            (await refused(client, "lint_setting", setting=wrong), 4, "magic"),
            (await refused(client, "artifacts", file="metrics.json"), 1, "need an iteration"),
            (await refused(client, "artifacts", iteration=7), 7, "iter_7 does not exist"),
            (
                await refused(client, "artifacts", iteration=0, file="../table.zip"),
                2,
                "no file '../table.zip'",
            ),
            (
                await refused(client, "artifacts", iteration=0, file="metrics.json", op="x"),
                2,
                "not about single ops",
            ),
        ]
        options = {"recorded": "table.zip", "policy": "--json"}
        errors += [(await refused(client, "tune", options=options), 2, "options.policy")]
        listed = await call(client, "artifacts")
        files = await call(client, "artifacts", iteration=1)
        name = "layer_stats_full.json"
        rows: list[Any] = []
        offset: int | None = 0
        pages = 0
        while offset is not None:
            page = await call(client, "artifacts", iteration=1, file=name, offset=offset, limit=20)
            assert len(json.dumps(page["rows"])) < 45_000
            rows += page["rows"]
            offset, pages = page.get("next_offset"), pages + 1
        convs = await call(
            client, "artifacts", iteration=1, file=name, op_type="Conv", columns=["Op type"]
        )
        layers = await call(
            client, "artifacts", iteration=1, file="layerwise_error.json", op="/stem/*"
        )
    for error, code, told in errors:
        assert told in error["message"]
        assert error["exit_code"] == code, error
        assert error["hint"]
    assert [row["iteration"] for row in listed["rows"]] == [0, 1]
    assert name in {file["name"] for file in files["files"]}
    whole = json.loads((root / "outputs/iter_1" / name).read_text())
    assert rows == whole
    assert pages >= len(whole) / 20
    assert convs["total"] == sum(row["Op type"] == "Conv" for row in whole)
    assert convs["rows"][0] == {"Op type": "Conv"}
    assert [row["op"] for row in layers["rows"]] == ["/stem/stem.0/Conv"]


def test_nothing_but_protocol_on_stdout(root: Path) -> None:
    hello = {
        "protocolVersion": "2025-06-18",
        "capabilities": {},
        "clientInfo": {"name": "test", "version": "0"},
    }
    sent = [
        {"jsonrpc": "2.0", "id": 1, "method": "initialize", "params": hello},
        {"jsonrpc": "2.0", "method": "notifications/initialized"},
        {
            "jsonrpc": "2.0",
            "id": 2,
            "method": "tools/call",
            "params": {
                "name": "tune",
                "arguments": {
                    "options": {"recorded": "table.zip", "pace": 10},
                    "iterations": 2,
                    "wait_seconds": 60,
                },
                "_meta": {"progressToken": "token"},
            },
        },
    ]
    server = subprocess.Popen(
        [sys.executable, "-c", START, "mcp", "--root", str(root)],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        text=True,
    )
    assert server.stdin is not None and server.stdout is not None
    server.stdin.write("".join(json.dumps(one) + "\n" for one in sent))
    server.stdin.flush()
    told = [json.loads(server.stdout.readline())]
    while told[-1].get("id") != 2:
        told.append(json.loads(server.stdout.readline()))
    server.stdin.close()
    rest = server.stdout.read()
    assert server.wait(10) == 0
    assert rest == ""
    assert {one["jsonrpc"] for one in told} == {"2.0"}
    assert told[-1]["result"]["structuredContent"]["state"] == "finished"
    progress = [one["params"] for one in told if one.get("method") == "notifications/progress"]
    assert progress
    assert {one["progressToken"] for one in progress} == {"token"}
