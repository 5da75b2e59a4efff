"""The page that renews itself: what it is served, to whom, and when."""

from __future__ import annotations

import json
import os
import signal
import socket
import subprocess
import sys
import threading
import urllib.error
import urllib.request
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from espdl_quantize.cli.watch import HOST, live_state, serve
from espdl_quantize.core import UsageError
from espdl_quantize.record import (
    MOST_LOSSES,
    LiveState,
    block_losses,
    losses_line,
    read_live,
    write_live,
)
from espdl_quantize.tuning import Budget, TuneOptions, tune
from tests.search.made_runs import SWEEP, evidence, swept, write_history, write_run
from tests.tuning.fake_backend import FakeBackend

LOG = """noise
# Block [1 / 2]: [/stem/Conv -> /b/Conv]
# Loss by Step     : 0 0.0549123, 5 nan, 10 0.04, 20 0.0332456
# Tuning Finished  : (0.0549 -> 0.0332) [Block Loss]
# Block [2 / 2]: [/c -> odd] -> /head/Gemm]
# Tuning Finished  : (nan -> inf) [Block Loss]
# Block [1 / 2]: [/stem/Conv -> /b/Conv]
"""


@pytest.fixture
def site(tmp_path: Path) -> Iterator[tuple[Path, str]]:
    server, listening = serve(tmp_path / "outputs", 0)
    thread = threading.Thread(target=server.run, args=([listening],), daemon=True)
    thread.start()
    yield tmp_path / "outputs", f"http://{HOST}:{listening.getsockname()[1]}/"
    server.should_exit = True
    thread.join(10)
    listening.close()


def get(address: str, **headers: str) -> str:
    request = urllib.request.Request(address, headers=headers)
    with urllib.request.urlopen(request, timeout=30) as answer:
        text: str = answer.read().decode("utf-8")
    return text


def test_the_page_follows_its_folder(site: tuple[Path, str]) -> None:
    outputs, address = site
    empty = json.loads(get(f"{address}state.json"))
    assert "Nothing is in" in empty["message"]
    assert "No iteration has a score yet." in get(address)
    past = swept(*SWEEP)
    write_history(outputs, past, evidence())
    now = json.loads(get(f"{address}state.json"))
    assert now["version"] != empty["version"]
    page = get(address)
    assert f'data-live="{now["version"]}"' in page
    assert "connect-src 'self'" in page
    assert "Best (iter_2)" in page
    # A folder that somebody empties meanwhile is no reason to end.
    for folder in list(outputs.iterdir()):
        folder.rename(outputs.parent / folder.name)
    assert json.loads(get(f"{address}state.json"))["version"] == empty["version"]


def test_it_answers_to_this_machine_alone(site: tuple[Path, str]) -> None:
    _, address = site
    with pytest.raises(urllib.error.HTTPError) as refused:
        get(address, Host="evil.example")
    assert refused.value.code == 400
    with pytest.raises(urllib.error.HTTPError):
        get(f"{address}../../etc/passwd")
    port = int(address.rsplit(":", 1)[1].strip("/"))
    with pytest.raises(UsageError, match=str(port)):
        serve(Path(), port)
    with socket.socket() as other:
        # Not on any address that another machine reaches.
        assert other.connect_ex(("127.0.0.1", port)) == 0


def test_a_running_search_says_where_it_stands(tmp_path: Path) -> None:
    partial = tmp_path / ".iter_1.partial"
    partial.mkdir(parents=True)
    (partial / "console.log").write_text(LOG + "last \x1b[2J line\n")
    state = LiveState(
        is_running=True,
        iteration=1,
        what="what",
        stages=("quantize", "<b>"),
        fraction=0.5,
        process=os.getpid(),
    )
    write_live(tmp_path, state)
    told: dict[str, Any] = live_state(tmp_path)
    assert told["is_running"] and told["stages"] == ["quantize", "<b>"]
    first, failed, last = told["blocks"]
    assert first["text"] == "block 1 of 2: loss 0.05491 to 0.03325"
    assert first["spark"]["label"] == "loss 0.05491 at step 0, 0.03325 at step 20"
    # A curve has a gap where the loss was not finite.
    assert first["spark"]["path"].count("M") == 2
    assert failed == {"text": "block 2 of 2: the loss is not finite", "spark": None}
    assert last == {"text": "block 1 of 2: training", "spark": None}
    assert "\x1b" not in told["log"][-1]
    # A process that was killed could not say that it ended.
    write_live(tmp_path, LiveState(is_running=True, process=2**22 + 7))
    assert not live_state(tmp_path)["is_running"]


@pytest.mark.parametrize("content", ["", "[]", '{"is_running": true, "process": "x"}', "{"])
def test_a_damaged_state_is_none(tmp_path: Path, content: str) -> None:
    (tmp_path / ".live.json").write_text(content)
    assert not read_live(tmp_path).is_running


def test_losses_of_blocks_are_read_from_the_log() -> None:
    blocks = block_losses(LOG.splitlines())
    assert [(block.run, block.number, block.before, block.after) for block in blocks] == [
        (0, 1, 0.0549123, 0.0332456),
        (0, 2, None, None),
        (1, 1, None, None),
    ]
    assert blocks[1].last == "/head/Gemm]".removesuffix("]")
    assert blocks[0].losses == ((0, 0.0549123), (5, None), (10, 0.04), (20, 0.0332456))


@pytest.mark.parametrize(
    ("points", "known"),
    [
        ("0 2, 1 3", ((0, 2.0), (1, 3.0))),
        ("", ()),
        (
            "0 2, -1 3, x, 5 <b>, 3 1, \u0663 1, 99999999999 1",
            ((0, 2.0), (5, None), (999999999, 1)),
        ),
        (", ".join(f"{at} 1" for at in range(9000)), tuple((at, 1.0) for at in range(MOST_LOSSES))),
    ],
)
def test_whatever_stands_in_the_log_is_read_as_points(points: str, known: Any) -> None:
    lines = ["# Block [1 / 1]: [a -> b]", f"# Loss by Step     : {points}"]
    (block,) = block_losses([*lines, "# Tuning Finished  : (2.0 -> 2.0) [Block Loss]"])
    assert block.losses == known
    # It would have grown.
    assert block.is_taken_back == (points == "0 2, 1 3")
    assert points != "0 2, 1 3" or block.after == 2


def test_a_line_of_losses_comes_back() -> None:
    points = [(0, 1e-12), (250, 0.5), (500, 123456.0)]
    ends = "# Block [1 / 1]: [a -> b]", "# Tuning Finished  : (0.0 -> 0.0) [Block Loss]"
    (block,) = block_losses([ends[0], losses_line(points), ends[1]])
    assert list(block.losses) == points


def test_a_search_leaves_its_state_and_its_page(tmp_path: Path) -> None:
    seen: list[LiveState] = []

    def score(setting: Any) -> float:
        seen.append(read_live(tmp_path))
        assert setting.iteration_id == 0 or (tmp_path / "report.html").is_file()
        return 0.5

    tune(FakeBackend(score=score), tmp_path, TuneOptions(Budget(2)))
    assert [state.iteration for state in seen] == [0, 1]
    assert all(state.is_running for state in seen)
    assert "calibration sweep (phase 2)" in seen[1].what
    assert not read_live(tmp_path).is_running


def test_a_row_more_is_another_version(tmp_path: Path) -> None:
    past = swept(*SWEEP)
    versions = set()
    for row in past.iterations:
        write_run(tmp_path, row)
        versions.add(live_state(tmp_path)["version"])
    assert len(versions) == len(past.iterations)


def watcher(outputs: Path, *options: str) -> tuple[subprocess.Popen[str], str]:
    """Start the command; return it, and where it serves."""
    command = [sys.executable, "-m", "espdl_quantize", "watch", str(outputs), "--no-open", *options]
    process = subprocess.Popen(
        command, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True, cwd=outputs
    )
    assert process.stdout is not None
    text = ""
    # A narrow terminal breaks the line.
    while "ends it)" not in text.replace("\n", " "):
        line = process.stdout.readline()
        assert line, text
        text += line
    return process, "http://" + text.replace("\n", "").split("http://")[1].split()[0]


def test_two_watch_one_folder_across_searches_and_end_quietly(tmp_path: Path) -> None:
    outputs = tmp_path
    watchers = [watcher(outputs), watcher(outputs)]
    try:
        addresses = [address for _, address in watchers]
        assert len(set(addresses)) == 2
        running = LiveState(is_running=True, process=os.getpid())
        # A search, its end, and the same command again.
        for number, state in enumerate((running, LiveState(), running)):
            write_live(outputs, state)
            write_run(outputs, swept(*SWEEP).iterations[number])
            seen = [json.loads(get(f"{address}state.json")) for address in addresses]
            assert [each["is_running"] for each in seen] == [state.is_running] * 2
            assert seen[0]["version"] == seen[1]["version"]
            assert f'data-live="{seen[0]["version"]}"' in get(addresses[number % 2])
    finally:
        for process, _ in watchers:
            process.send_signal(signal.SIGINT)
        ends = [process.communicate(timeout=30)[0] for process, _ in watchers]
    assert ends == ["", ""]
    assert [process.returncode for process, _ in watchers] == [0, 0]
