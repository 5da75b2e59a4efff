"""What mkdocs calls while it builds: fills in generated parts and writes the colours of code."""

from __future__ import annotations

import importlib.util
import json
import re
from pathlib import Path
from typing import Any

_HERE = Path(__file__).parent
_SOURCE = _HERE.parent / "src" / "espdl_quantize"
_REPOSITORY = {"contributing.md": "CONTRIBUTING.md", "changelog.md": "CHANGELOG.md"}
"""Files of the repository that are pages of the site, too."""
_MARKER = re.compile(r"\{\{ (\w+)(?: ([\w./]+))? \}\}")
_ROLE = re.compile(r":(?:class|func|data|meth|mod):<code>~?([^<]+)</code>")


def _packages() -> list[str]:
    """Return the packages that have a page: all but the command's, and two within packages."""
    names = [file.parent.name for file in _SOURCE.glob("*/__init__.py")]
    return sorted({*names, "chip.cost", "search.policies"} - {"cli"})


def on_config(config: Any, **_: Any) -> Any:
    """Put the packages into the navigation."""
    reference = next(part["Reference"] for part in config["nav"] if "Reference" in part)
    pages = [{name: f"reference/api/{name}.md"} for name in _packages()]
    reference.append({"Python packages": pages})
    return config


def on_files(files: Any, config: Any, **_: Any) -> Any:
    """Make a page for each package, from its docstrings, and for files of the repository."""
    from mkdocs.structure.files import File

    for name in _packages():
        content = f"# espdl_quantize.{name}\n\n::: espdl_quantize.{name}\n"
        files.append(File.generated(config, f"reference/api/{name}.md", content=content))
    for page, name in _REPOSITORY.items():
        content = (_HERE.parent / name).read_text(encoding="utf-8").replace("](docs/", "](")
        files.append(File.generated(config, page, content=content))
    return files


def _parts() -> dict[str, Any]:
    spec = importlib.util.spec_from_file_location("_generated", _HERE / "_generated.py")
    assert spec is not None and spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return dict(module.PARTS)


def on_page_markdown(markdown: str, **_: Any) -> str:
    """Replace ``{{ name argument }}`` by what the program says."""
    parts = _parts() if _MARKER.search(markdown) else {}
    return _MARKER.sub(lambda match: parts[match[1]](*filter(None, [match[2]])), markdown)


def on_page_content(html: str, **_: Any) -> str:
    """Show Sphinx roles of docstrings as plain code."""
    return _ROLE.sub(r"<code>\1</code>", html)


def on_post_build(config: Any, **_: Any) -> None:
    """Write the style sheet of code, and the search index as a script.

    A page that was opened from the disk may load a script, but not a JSON file.
    """
    from pygments.formatters import HtmlFormatter

    site = Path(config["site_dir"])
    style = HtmlFormatter(style="default").get_style_defs(".highlight")
    dark = HtmlFormatter(style="github-dark").get_style_defs(".highlight")
    style = f"{style}\n@media (prefers-color-scheme: dark) {{\n{dark}\n}}\n"
    (site / "assets" / "pygments.css").write_text(str(style), encoding="utf-8")
    index = json.loads((site / "search" / "search_index.json").read_text(encoding="utf-8"))
    script = f"var searchDocs = {json.dumps(index['docs'])};\n"
    (site / "search" / "search_docs.js").write_text(script, encoding="utf-8")
