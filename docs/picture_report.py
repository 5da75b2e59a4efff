"""Makes docs/assets/report.png, the picture of a report on the first page.

``python docs/picture_report.py outputs/demo/report.html`` takes it of the demo's report, after
``make demo``. It needs Chromium.
"""

from __future__ import annotations

import shutil
import subprocess
import sys
import tempfile
from pathlib import Path

BROWSERS = ("chromium", "chromium-browser", "google-chrome")
SIZE = (1280, 590)
GOAL = Path(__file__).parent / "assets" / "report.png"


def main(report: Path) -> None:
    """Take the picture of the upper part of the page."""
    browser = next(filter(None, map(shutil.which, BROWSERS)), None)
    if browser is None:
        sys.exit(f"none of {', '.join(BROWSERS)} is installed")
    with tempfile.TemporaryDirectory() as profile:
        subprocess.run(
            [
                browser,
                *("--headless=new", "--no-sandbox", "--disable-gpu", "--hide-scrollbars"),
                *(f"--user-data-dir={profile}", f"--window-size={SIZE[0]},{SIZE[1]}"),
                *("--virtual-time-budget=5000", f"--screenshot={GOAL}"),
                report.resolve().as_uri(),
            ],
            check=True,
            capture_output=True,
            timeout=120,
        )


if __name__ == "__main__":
    main(Path(sys.argv[1]))
