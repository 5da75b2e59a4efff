import subprocess
import sys
from pathlib import Path

import pytest

SCRIPT = """
import os, sys
from pathlib import Path
from espdl_quantize.iteration import captured
held = None
with captured(Path({log!r})):
    held = sys.stdout
    print("from python")
    print("to stderr", file=sys.stderr)
    os.system("echo from a child")
    os.write(1, b"from the descriptor\\n")
held.write("held stream, later\\n")
print("after")
"""


def test_everything_goes_to_the_log_and_later_output_to_the_terminal(tmp_path: Path) -> None:
    log = tmp_path / "console.log"
    done = subprocess.run(
        [sys.executable, "-c", SCRIPT.format(log=str(log))],
        capture_output=True,
        text=True,
        check=True,
    )
    assert sorted(log.read_text().split("\n")) == [
        "",
        "from a child",
        "from python",
        "from the descriptor",
        "to stderr",
    ]
    assert done.stdout == "held stream, later\nafter\n"
    assert done.stderr == ""


def test_no_descriptor_is_left_open(tmp_path: Path) -> None:
    from espdl_quantize.iteration import captured

    before = len(list(Path("/proc/self/fd").iterdir()))
    for _ in range(3):
        with captured(tmp_path / "log"):
            print("x")
    assert len(list(Path("/proc/self/fd").iterdir())) == before


@pytest.mark.parametrize("closed", [">&-", "2>&-", ">&- 2>&-", "<&- >&- 2>&-"])
def test_a_closed_standard_output_is_borne(closed: str, tmp_path: Path) -> None:
    script = SCRIPT.format(log=str(tmp_path / "console.log"))
    script += f"open({str(tmp_path / 'end')!r}, 'w').write('came here')"
    done = subprocess.run(
        ["sh", "-c", f'"$0" -c "$1" {closed}', sys.executable, script], check=False
    )
    assert done.returncode == 0
    assert (tmp_path / "end").read_text() == "came here"
    assert "from a child\n" in (tmp_path / "console.log").read_text()
