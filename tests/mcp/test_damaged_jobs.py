"""A project that came from elsewhere, with jobs in it that no server started: a real server."""

import json
import os
import signal
import time
from pathlib import Path
from typing import Any

import anyio
import pytest

from espdl_quantize.mcp.jobs.process import mark_of
from tests.mcp.client import call, connect, job_of, record_of, refused
from tests.mcp.jobs.forge import SLEEP, forge, signals_due, survives, victim
from tests.mcp.jobs.test_damaged import DAMAGES

pytestmark = pytest.mark.anyio


async def test_a_server_survives_every_damaged_record_and_answers(root: Path) -> None:
    jobs = root / ".espdl-quantize/jobs"
    names = {}
    for number, (name, (damage, _)) in enumerate(DAMAGES.items()):
        # Each is written under the same id, and moved to one of its own.
        damage(jobs)
        folder = jobs / f"tune-20200101-000000-0000{number:02x}"
        (jobs / "tune-20200101-000000-abcdef").rename(folder)
        names[folder.name] = name
    async with connect(root) as client:
        with anyio.fail_after(90):
            # Longer than the loop waits between two looks at the jobs.
            await anyio.sleep(2.5)
            listed = (await call(client, "status"))["jobs"]
            for job_id, name in names.items():
                job = await job_of(client, job_id)
                assert job["state"] == "damaged", name
                assert job["error"]["exit_code"] == 7, name
                assert str(jobs / job_id) in job["error"]["hint"], name
                error = await refused(client, "cancel", job_id=job_id)
                assert "no process was signalled" in error["hint"], name
            done = await call(
                client, "tune", options={"recorded": "table.zip"}, iterations=1, wait_seconds=60
            )
            assert done["state"] == "finished", done
            # The loop still runs: only it ends what does not hear Ctrl-C.
            slow = await call(
                client, "tune", options={"recorded": "table.zip", "pace": 1}, output_dir="slow"
            )
            ended = await call(client, "cancel", job_id=slow["job_id"], wait_seconds=60)
            assert ended["state"] == "interrupted"
    assert {job["state"] for job in listed} == {"damaged"}


async def test_no_process_of_others_is_signalled_by_a_server_that_starts(root: Path) -> None:
    jobs = root / ".espdl-quantize/jobs"
    with victim() as process, victim("sh", "-c", "sleep 600; :") as group:
        number = 0
        for pid in (process.pid, group.pid):
            for mark in (None, "x", mark_of(pid)):
                for fields in signals_due():
                    forge(
                        jobs,
                        f"tune-20200101-000000-0000{number:02x}",
                        command=list(SLEEP),
                        pid=pid,
                        mark=mark,
                        **fields,
                    )
                    number += 1
        async with connect(root) as client:
            await anyio.sleep(2.5)
            assert survives(process) and survives(group)
            for job in (await call(client, "status"))["jobs"]:
                assert job["state"] in ("lost", "interrupted")
            for one in range(number):
                await call(client, "cancel", job_id=f"tune-20200101-000000-0000{one:02x}")
            done = await call(
                client, "tune", options={"recorded": "table.zip"}, iterations=1, wait_seconds=60
            )
            assert done["state"] == "finished"
        assert survives(process) and survives(group)


async def test_the_group_of_the_server_is_not_signalled(root: Path) -> None:
    jobs = root / ".espdl-quantize/jobs"
    for place, pid in enumerate((0, 1, -1)):
        for number, fields in enumerate(signals_due()):
            for mark in (None, "x"):
                name = f"tune-20200101-000000-{'a' if mark else 'b'}000{place}{number}"
                forge(jobs, name, pid=pid, mark=mark, **fields)
    async with connect(root) as client:
        await anyio.sleep(1.5)
        pages = [await call(client, "status", offset=offset, limit=8) for offset in (0, 8, 16)]
    assert [page["total"] for page in pages] == [24] * 3
    assert [job["state"] for page in pages for job in page["jobs"]] == ["damaged"] * 24


async def test_a_job_of_a_server_that_was_killed_is_ended_by_the_next_one(root: Path) -> None:
    """The proof holds for the command as it is really run, by the next process of the server."""
    async with connect(root) as client:
        job: dict[str, Any] = await call(
            client, "tune", options={"recorded": "table.zip", "pace": 1}
        )
    async with connect(root) as client:
        os.kill(record_of(root, job["job_id"])["pid"], signal.SIGSTOP)
        again = await job_of(client, job["job_id"])
        done = await call(client, "cancel", job_id=job["job_id"], wait_seconds=60)
    assert again["state"] == "running"
    assert "warnings" not in again
    assert done["state"] == "interrupted"


def test_the_lock_that_came_with_a_project_does_not_keep_the_server_waiting(root: Path) -> None:
    """A pipe at the lock's place; the server answers, whatever it answers."""
    state = root / ".espdl-quantize"
    (state / "jobs").mkdir(parents=True)
    os.mkfifo(state / ".lock")

    async def ask() -> str:
        async with connect(root) as client:
            with anyio.fail_after(60):
                await call(client, "status")
                result = await client.call_tool(
                    "tune", {"options": {"recorded": "table.zip"}, "iterations": 1}
                )
                return json.dumps(result.model_dump(mode="json"))

    before = time.monotonic()
    assert anyio.run(ask)
    assert time.monotonic() - before < 60
