"""The page in a real browser: nothing is said on its console, and nothing sticks out of it."""

from __future__ import annotations

import functools
import http.server
import json
import re
import shutil
import subprocess
import threading
from collections.abc import Iterator
from typing import Any

import pytest

from espdl_quantize.report import render_again
from tests.report.scenes import SCENES

BROWSERS = ("chromium", "chromium-browser", "google-chrome")
BROWSER = next((path for name in BROWSERS if (path := shutil.which(name))), None)
WIDTHS = (390, 768, 1280)
MEASURE = """<body><script>
var widths = [390, 768, 1280], told = {}, left = widths.length;
widths.forEach(function (width) {
  var frame = document.createElement("iframe");
  frame.style.cssText = "border:0;height:900px;width:" + width + "px";
  frame.onload = function () {
    setTimeout(function () {
      var page = frame.contentDocument, out = [];
      page.querySelectorAll("main *").forEach(function (part) {
        if (part.closest(".scroll, .map, svg, .hidden, pre")) { return; }
        var end = part.getBoundingClientRect().right;
        if (end > width + 1) { out.push(part.tagName + " " + part.className + " " + end); }
      });
      var table = page.querySelector(".scroll");
      told[width] = {
        page: page.documentElement.scrollWidth,
        out: out,
        table: table ? [table.scrollWidth, table.clientWidth] : null,
        plots: page.querySelectorAll(".main-svg").length,
        map: page.querySelectorAll(".map canvas").length
      };
      left -= 1;
      if (!left) { document.body.innerHTML = "<pre id=told>" + JSON.stringify(told) + "</pre>"; }
    }, 500);
  };
  frame.src = "report.html";
  document.body.appendChild(frame);
});
</script></body>"""

pytestmark = pytest.mark.skipif(
    BROWSER is None, reason=f"none of {', '.join(BROWSERS)} is installed"
)


Seen = tuple[dict[str, dict[str, Any]], str]
"""What was measured at each width, and what the browser said."""


class Quiet(http.server.SimpleHTTPRequestHandler):
    def log_message(self, format: str, *args: object) -> None:
        pass


@pytest.fixture(scope="module")
def seen(
    tmp_path_factory: pytest.TempPathFactory,
) -> Iterator[Seen]:
    folder = tmp_path_factory.mktemp("browser")
    SCENES["long"](folder / "outputs")
    shutil.copy(render_again(folder / "outputs").html, folder / "report.html")
    (folder / "measure.html").write_text(MEASURE)
    server = http.server.ThreadingHTTPServer(
        ("127.0.0.1", 0), functools.partial(Quiet, directory=str(folder))
    )
    threading.Thread(target=server.serve_forever, daemon=True).start()
    done = subprocess.run(
        [
            str(BROWSER),
            "--headless=new",
            "--no-sandbox",
            "--disable-gpu",
            f"--user-data-dir={folder / 'profile'}",
            "--enable-logging=stderr",
            "--window-size=1400,1000",
            "--virtual-time-budget=15000",
            "--dump-dom",
            f"http://127.0.0.1:{server.server_address[1]}/measure.html",
        ],
        capture_output=True,
        text=True,
        timeout=120,
        check=False,
    )
    server.shutdown()
    match = re.search(r'<pre id="told">(.*?)</pre>', done.stdout, re.DOTALL)
    assert match, done.stderr[-2000:]
    yield json.loads(match[1].replace("&amp;", "&")), done.stderr


def test_nothing_is_said_on_the_console(seen: Seen) -> None:
    # Plotly warns where a label takes much of a narrow chart, and draws it all the same.
    quiet = ("favicon", "auto-margin")
    said = [
        line
        for line in seen[1].splitlines()
        if "CONSOLE" in line and not any(word in line for word in quiet)
    ]
    assert said == []


@pytest.mark.parametrize("width", WIDTHS)
def test_nothing_sticks_out_at_any_width(seen: Seen, width: int) -> None:
    page = seen[0][str(width)]
    assert page["out"] == []
    assert page["page"] <= width
    assert page["plots"]
    assert page["map"] == 1


def test_the_table_is_whole_on_a_desk(seen: Seen) -> None:
    inside, room = seen[0]["1280"]["table"]
    assert inside <= room
