"""report.html: one file with everything in it, which opens without a network."""

from __future__ import annotations

import base64
import hashlib
import json
import os
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass
from functools import cache
from importlib import resources
from pathlib import Path
from typing import Any

from espdl_quantize.core import OutputFolderError, to_jsonable
from espdl_quantize.record import GENERATOR, History
from espdl_quantize.report import sections
from espdl_quantize.report._best_folder import free_name
from espdl_quantize.report._blocks import Block, Medium, Step, make_step, sections_of
from espdl_quantize.report._engine import engine_of
from espdl_quantize.report._escape import duration, plain
from espdl_quantize.report._finalize import FinalizePlan, FinalizeReason
from espdl_quantize.report._text_file import write_text
from espdl_quantize.report.figures import Figure
from espdl_quantize.search import Decision, SearchState

HTML_MARK = f"<!-- {GENERATOR}:report.html"
"""In the first lines of every page that this package wrote."""

_LOOKED_AT = 512
_LONGEST = 100_000


def render_html(situation: SearchState, decision: Decision, reason: FinalizeReason | None) -> str:
    """Write the page.

    Args:
        situation: the history with resolved options.
        decision: the next step.
        reason: why the search was ended; None where it goes on.
    """
    return html_page(make_step(situation, decision, FinalizePlan(reason=reason)))


@dataclass(frozen=True)
class PageSection:
    """A section of a page; its title is for screen readers alone where it is hidden."""

    id: str
    title: str
    blocks: Sequence[Block]
    is_title_hidden: bool = False


@dataclass(frozen=True)
class Page:
    """What a page shows, from top to bottom.

    Attributes:
        kicker: what kind of page it is.
        title: heading.
        subtitle: behind it, in a lighter colour.
        verdict: the main thing in a sentence.
        sections: the rest.
        facts: name and value of what stands at the bottom.
        mark: a comment in the first lines.
        live: of a page that renews itself, the version of the folder that it shows.
    """

    kicker: str
    title: str
    subtitle: str
    verdict: str
    sections: Sequence[PageSection]
    facts: Sequence[tuple[str, str]] = ()
    mark: str = f"{HTML_MARK} -->"
    live: str = ""


def html_page(step: Step, *, live: str = "") -> str:
    """Write the report as one page; ``live`` is as of :class:`Page`."""
    history = step.history
    sections_shown = [
        PageSection(entry.id, entry.title, blocks, entry.is_title_hidden)
        for entry, blocks in sections_of(step, Medium.HTML)
    ]
    return render_page(
        Page(
            "Quantization report",
            _stated(history, "model_name") or "model",
            f"on {_stated(history, 'target_chip') or 'unknown chip'}",
            sections.result.verdict_sentence(history),
            sections_shown,
            _facts(history),
            f"{HTML_MARK} - rewritten by every finalize; copy it to keep your edits. -->",
            live,
        )
    )


@cache
def _template() -> Any:
    """Return the compiled template; jinja2 is imported here and nowhere else.

    Compiling it takes longer than all else of a report, which every iteration of a search rewrites.
    """
    from jinja2 import Environment, PackageLoader, StrictUndefined
    from markupsafe import Markup

    environment = Environment(
        loader=PackageLoader("espdl_quantize.report", "templates"),
        autoescape=True,
        undefined=StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
        # Whatever a section let through, no control character is on the page.
        finalize=lambda value: value if isinstance(value, Markup) else plain(value, _LONGEST),
    )
    return environment.get_template("report.html.j2")


def render_page(page: Page) -> str:
    """Write any page."""
    from markupsafe import Markup, escape

    blocks = [block for section in page.sections for block in section.blocks]
    is_drawn = bool(page.live) or any(isinstance(each, Figure) and each.data for each in blocks)
    scripts = [_asset("plotly-basic.min.js")] if is_drawn else []
    scripts.append(_asset("report.js"))
    # Only these scripts may run: text that slipped through the escaping would stay text.
    allowed = " ".join(f"'sha256-{_digest(source)}'" for source in scripts)
    rendered: str = _template().render(
        page=page,
        mark=Markup(page.mark),
        generator=GENERATOR,
        allowed_scripts=Markup(allowed),
        css=Markup(_asset("report.css")),
        scripts=list(map(Markup, scripts)),
        script_json=lambda value: Markup(script_json(value)),
        preformatted=lambda text: Markup(escape(text)),
    )
    return rendered


def script_json(value: Any) -> str:
    """Return JSON that can stand inside a ``<script>`` element, whatever strings it holds."""
    text = json.dumps(to_jsonable(value), ensure_ascii=True, allow_nan=False)
    for char in "<>&":
        text = text.replace(char, f"\\u{ord(char):04x}")
    return text


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


@cache
def _asset(name: str) -> str:
    folder = resources.files("espdl_quantize.report") / "templates"
    # The HTML parser reads line ends as "\n", and the digest is taken of what it read.
    source = (folder / name).read_text(encoding="utf-8")
    return source.replace("\r\n", "\n").replace("\r", "\n")


def _digest(source: str) -> str:
    return base64.b64encode(hashlib.sha256(source.encode("utf-8")).digest()).decode("ascii")


def _stated(history: History, name: str) -> str | None:
    """Return what the best says about itself, else whichever iteration does."""
    records = ([history.best] if history.best else []) + list(history.iterations)
    return next((plain(value) for record in records if (value := getattr(record, name))), None)


def _facts(history: History) -> list[tuple[str, str]]:
    seconds = sum(record.elapsed_seconds or 0.0 for record in history.iterations)
    facts = [
        ("Iterations", f"{len(history.iterations)}, {len(history.failed)} of them failed"),
        ("Time on the PC", duration(seconds or None)),
    ]
    engine = engine_of(history)
    if engine:
        facts.append(("Engine", plain(engine, 300)))
    for title, name in (("esp-ppq", "esp_ppq_version"), ("Seed", "seed")):
        used = Counter(getattr(record, name) for record in history.iterations)
        used.pop(None, None)
        if used:
            facts.append((title, ", ".join(plain(value, 60) for value in used)))
    return facts
