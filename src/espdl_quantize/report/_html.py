"""report.html: one file with everything in it, which opens without a network."""

from __future__ import annotations

import base64
import hashlib
import os
from functools import lru_cache
from importlib import resources
from pathlib import Path

from espdl_quantize.core import OutputFolderError
from espdl_quantize.record import GENERATOR
from espdl_quantize.report._best_folder import free_name
from espdl_quantize.report._finalize import FinalizeReason
from espdl_quantize.report._page import build_page
from espdl_quantize.report._page_text import script_json
from espdl_quantize.report._text_file import write_text
from espdl_quantize.search import Decision, SearchState

HTML_MARK = f"<!-- {GENERATOR}:report.html"
"""In the first lines of every page that this package wrote."""

_LOOKED_AT = 512


def render_html(situation: SearchState, decision: Decision, reason: FinalizeReason | None) -> str:
    """Write the page; jinja2 and plotly are imported here and nowhere else.

    Args:
        situation: the history with settled options.
        decision: the next step.
        reason: why the search was ended; None where it goes on.
    """
    from jinja2 import Environment, PackageLoader, StrictUndefined
    from markupsafe import Markup

    environment = Environment(
        loader=PackageLoader("espdl_quantize.report", "templates"),
        autoescape=True,
        undefined=StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
    )
    plotly, script = _plotly(), _asset("report.js")
    # Only these two scripts may run: text that slipped through the escaping would stay text.
    allowed = " ".join(f"'sha256-{_digest(source)}'" for source in (plotly, script))
    return environment.get_template("report.html.j2").render(
        **build_page(situation, decision, reason),
        mark=Markup(f"{HTML_MARK} - rewritten by every finalize; copy it to keep your edits. -->"),
        generator=GENERATOR,
        allowed_scripts=Markup(allowed),
        css=Markup(_asset("report.css")),
        plotly=Markup(plotly),
        script=Markup(script),
        script_json=lambda value: Markup(script_json(value)),
    )


def write_html(path: Path, text: str) -> list[str]:
    """Write the page; a file there that is not ours is kept under another name.

    Returns:
        What the reader should know.

    Raises:
        OutputFolderError: the file cannot be written.
    """
    notes = []
    if os.path.lexists(path) and not _is_ours(path):
        aside = free_name(path.parent, f"{path.name}.foreign")
        try:
            path.rename(aside)
        except OSError as error:
            raise OutputFolderError(
                f"{path} cannot be moved: {error.strerror or error}",
                "check the permissions of the output folder",
            ) from error
        notes.append(f"{path.name} was not written by this tool; it is now {aside.name}")
    write_text(path, text)
    return notes


def _is_ours(path: Path) -> bool:
    try:
        with path.open(encoding="utf-8", errors="replace") as file:
            return HTML_MARK in file.read(_LOOKED_AT)
    except OSError:
        return False


@lru_cache(maxsize=1)
def _plotly() -> str:
    from plotly.offline import get_plotlyjs

    source = str(get_plotlyjs())
    # The HTML parser reads line ends as "\n", and the digest is taken of what it read.
    return source.replace("\r\n", "\n").replace("\r", "\n")


def _asset(name: str) -> str:
    folder = resources.files("espdl_quantize.report") / "templates"
    return (folder / name).read_text(encoding="utf-8")


def _digest(source: str) -> str:
    return base64.b64encode(hashlib.sha256(source.encode("utf-8")).digest()).decode("ascii")
