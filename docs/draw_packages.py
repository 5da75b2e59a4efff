"""Draws the packages from the imports of the source itself; ``--check`` only compares.

    python docs/draw_packages.py

Run it where a package imports one that it did not import before, or where its docstring changed.
"""

from __future__ import annotations

import ast
import re
import sys
from html import escape
from pathlib import Path

_ROOT = Path(__file__).parent.parent
_SOURCE = _ROOT / "src" / "espdl_quantize"
_PAGE = _ROOT / "docs" / "explanation" / "architecture.md"
_PICTURE = _ROOT / "docs" / "assets" / "architecture.svg"
_BLOCK = re.compile(r"(<!-- generated: packages -->\n).*?(<!-- end -->)", re.DOTALL)

_STEP, _LEFT, _TOP, _WIDTH = 26, 468, 88, 452
_FILL = {"esp_ppq": "#f6c99f", "torch": "#f6e7b8", "": "#d6e6f2"}


def main() -> int:
    """Write what differs, or name it under ``--check``.

    Returns:
        1 where ``--check`` found a difference.
    """
    stale = {path: text for path, text in wanted().items() if _read(path) != text}
    for path, text in stale.items():
        print(path.relative_to(_ROOT))
        if "--check" not in sys.argv[1:]:
            path.write_text(text, encoding="utf-8")
    return int(bool(stale) and "--check" in sys.argv[1:])


def wanted() -> dict[Path, str]:
    """Return the files that are made here, whole or in part, with their content."""
    page = _BLOCK.sub(lambda match: f"{match[1]}{table()}{match[2]}", _read(_PAGE))
    return {_PICTURE: picture(), _PAGE: page}


def _read(path: Path) -> str:
    return path.read_text(encoding="utf-8") if path.exists() else ""


def layers() -> tuple[str, ...]:
    """Return the packages in their order, which a test holds."""
    tree = ast.parse((_ROOT / "tests" / "test_layers.py").read_text(encoding="utf-8"))
    for node in tree.body:
        if isinstance(node, ast.Assign) and ast.unparse(node.targets[0]) == "LAYERS":
            names: tuple[str, ...] = ast.literal_eval(node.value)
            return names
    raise AssertionError("tests/test_layers.py has no LAYERS")


def job(layer: str) -> str:
    """Return what a package is for: the first sentence of its docstring."""
    path = _SOURCE / layer / "__init__.py"
    text = ast.get_docstring(ast.parse(path.read_text(encoding="utf-8"))) or ""
    return text.split("\n\n")[0].replace("\n", " ").replace("``", "")


def imports() -> dict[str, set[str]]:
    """Return, by package, the other packages and the libraries that its modules import."""
    return {layer: _imports(layer) - {layer} for layer in layers()}


def _imports(layer: str) -> set[str]:
    names: set[str] = set()
    for file in (_SOURCE / layer).rglob("*.py"):
        for node in ast.walk(ast.parse(file.read_text(encoding="utf-8"))):
            if isinstance(node, ast.Import):
                names |= {alias.name for alias in node.names}
            elif isinstance(node, ast.ImportFrom) and node.module:
                names.add(node.module)
                names |= {f"{node.module}.{alias.name}" for alias in node.names}
    inside = {name.split(".")[1] for name in names if name.startswith("espdl_quantize.")}
    return inside.intersection(layers()) | {name.split(".")[0] for name in names} - {
        "espdl_quantize"
    }


def _kind(names: set[str]) -> str:
    return next((library for library in ("esp_ppq", "torch") if library in names), "")


def table() -> str:
    """Return the packages and their jobs as a table."""
    rows = [f"| `{layer}` | {job(layer)} |" for layer in layers()]
    return "\n".join(["| package | what it does |", "|---|---|", *rows]) + "\n"


def picture() -> str:
    """Return the packages as an SVG: one row each, with a dot for each package it imports."""
    order, graph = layers(), imports()
    height = _TOP + _STEP * len(order) + 34
    width = _LEFT + _STEP * len(order) + 8
    parts = [
        f'<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 {width} {height}" role="img" '
        'font-family="sans-serif" font-size="12">',
        "<title>The packages, in their order, and what each imports</title>",
        f'<rect width="{width}" height="{height}" fill="#ffffff"/>',
    ]
    for place, layer in enumerate(order):
        parts += _row(order, place, graph[layer])
        x = _LEFT + _STEP * place + _STEP / 2 + 4
        parts.append(
            f'<text x="{x:g}" y="{_TOP - 8}" transform="rotate(-60 {x:g} {_TOP - 8})">'
            f"{layer}</text>"
        )
    y = _TOP + _STEP * len(order) + 12
    for x, kind, text in (
        (0, "esp_ppq", "imports esp-ppq itself"),
        (180, "torch", "imports torch itself"),
        (340, "", "imports neither"),
    ):
        parts.append(f'<rect x="{x}" y="{y}" width="14" height="14" fill="{_FILL[kind]}"/>')
        parts.append(f'<text x="{x + 20}" y="{y + 12}">{text}</text>')
    return "\n".join([*parts, "</svg>"]) + "\n"


def _row(order: tuple[str, ...], place: int, names: set[str]) -> list[str]:
    layer, y = order[place], _TOP + _STEP * place
    parts = [
        f'<rect class="package" id="package-{layer}" x="0" y="{y}" width="{_WIDTH}" '
        f'height="{_STEP - 4}" rx="4" fill="{_FILL[_kind(names)]}"/>',
        f'<text x="8" y="{y + 15}" font-weight="bold">{layer}</text>',
        f'<text x="76" y="{y + 15}" font-size="11">{escape(_short(job(layer)))}</text>',
    ]
    for column in range(place):
        x, above = _LEFT + _STEP * column, order[column]
        fill = "#2c6e9b" if above in names else "#eeeeee"
        mark = f' class="import" id="{layer}-imports-{above}"' if above in names else ""
        title = f"{layer} imports {above}" if above in names else ""
        parts.append(
            f'<circle{mark} cx="{x + _STEP / 2:g}" cy="{y + 11}" r="6" fill="{fill}">'
            f"<title>{title}</title></circle>"
        )
    x = _LEFT + _STEP * place
    parts.append(f'<rect x="{x + 7}" y="{y + 5}" width="12" height="12" fill="#666666"/>')
    return parts


def _short(text: str, limit: int = 62) -> str:
    """Return what fits into a box: the first sentence, or less of it, without the full stop."""
    text = text.split(". ")[0].removesuffix(".")
    for mark in (";", ":", ","):
        text = text if len(text) <= limit else text.split(mark)[0]
    return text if len(text) <= limit else text[:limit].rsplit(" ", 1)[0] + " …"


if __name__ == "__main__":
    raise SystemExit(main())
