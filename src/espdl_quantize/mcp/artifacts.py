"""Pages of an iteration's files, small enough for an agent's memory."""

from __future__ import annotations

import errno
import json
from collections.abc import Iterator
from difflib import get_close_matches
from fnmatch import fnmatchcase
from pathlib import Path
from typing import Any

from espdl_quantize.core import LARGEST, OutputFolderError, UsageError, load_json
from espdl_quantize.mcp._models import ArtifactFile, ArtifactPage
from espdl_quantize.mcp._roots import Roots
from espdl_quantize.mcp.texts import DEFAULT_SIZE, dumped, shortened
from espdl_quantize.record.evidence import COLUMNS
from espdl_quantize.record.files import OPS

_TEXT = (".json", ".log", ".md", ".info", ".py", ".txt", ".html")
_LONGEST_LIST, _LONGEST_TEXT = 64, 1_000
_OPS = ("op", "op_name", "Op name", "name", "op_prev", "op_next")
_TYPES = ("op_type", "Op type", "type")
_GRAPH = OPS


def list_folder(folder: Path, roots: Roots) -> list[ArtifactFile]:
    """Return the plain files of a folder, by name; none where it does not exist."""
    if not folder.is_dir():
        return []
    files = []
    for path in sorted(folder.iterdir()):
        if path.is_file() and not path.name.startswith(".") and _is_inside(path, roots):
            files.append(ArtifactFile(name=path.name, bytes=path.stat().st_size))
    return files


def read_page(
    folder: Path,
    name: str,
    roots: Roots,
    *,
    op: str | None = None,
    op_type: str | None = None,
    columns: list[str] | None = None,
    offset: int = 0,
    limit: int = 50,
    characters: int = DEFAULT_SIZE // 2,
) -> ArtifactPage:
    """Return the rows of a file that match.

    A JSON list has a row per entry, an object one per key, a text one per line.

    Args:
        folder: the iteration's.
        name: of the file in it.
        roots: the file must lie in one of them, wherever a link leads.
        op: the op's name, or a pattern with ``*`` and ``?``.
        op_type: the op's type; where rows do not say it, simplified_ops.json does.
        columns: the keys to keep.
        offset: the first row.
        limit: at most so many rows.
        characters: of the rows, as JSON.

    Raises:
        UsageError: there is no such file, it is no text, or its rows are not about ops.
        OutputFolderError: it cannot be read.
    """
    if name not in {file.name for file in list_folder(folder, roots)}:
        known = [file.name for file in list_folder(folder, roots)]
        close = get_close_matches(name, known, n=1, cutoff=0.4)
        raise UsageError(
            f"{folder} has no file {name!r}",
            f"did you mean {close[0]}?" if close else "artifacts without file has the list",
        )
    unknown = next((column for column in columns or () if column not in COLUMNS), None)
    if unknown is not None:
        close = get_close_matches(unknown, COLUMNS, n=1, cutoff=0.4)
        raise UsageError(
            f"there is no column {shortened(repr(unknown), 60)}",
            f"did you mean {close[0]!r}?" if close else "the input schema has their names",
        )
    path = roots.resolve(folder / name, "file")
    if path.suffix not in _TEXT or path.stat().st_size > LARGEST:
        raise UsageError(
            f"{path} has {path.stat().st_size} bytes and is not for reading",
            "it is a file to use, where it lies",
        )
    rows = list(_rows(path))
    if op is not None or op_type is not None:
        rows = list(_matching(rows, op, _names_of(folder, op_type, roots), op_type, path))
    if columns is not None:
        rows = [_select(row, columns) for row in rows]
    shown, is_short = _fit(rows[offset : offset + limit], characters)
    end = offset + len(shown)
    return ArtifactPage(
        path=str(path),
        rows=shown,
        total=len(rows),
        offset=offset,
        next_offset=end if end < len(rows) else None,
        shortened=is_short,
        untrusted=["rows"],
    )


def first_that_fit(lines: list[str], characters: int) -> list[str]:
    """Return the first lines that fit on a page; a line alone always does, cut if need be."""
    shown: list[str] = []
    size = 0
    for line in lines:
        # On the wire a quote and a line end take two characters.
        size += len(line) + 5 + line.count('"') + line.count("\\")
        if shown and size > characters:
            break
        shown.append(shortened(line, characters))
    return shown


def lines_of(path: Path) -> list[str]:
    """Return the lines of a text file; of one that is too large, those at its begin.

    Raises:
        OSError: it is missing, unreadable, or no regular file.
    """
    if path.exists() and not path.is_file():
        raise OSError(errno.EINVAL, "it is no regular file", str(path))
    with path.open(encoding="utf-8", errors="replace") as file:
        return file.read(LARGEST).splitlines()


def _is_inside(path: Path, roots: Roots) -> bool:
    target = path.resolve()
    return any(target.is_relative_to(folder) for folder in roots.folders)


def _rows(path: Path) -> Iterator[Any]:
    try:
        if path.suffix != ".json":
            lines = lines_of(path)
            yield from ({"line": number, "text": line} for number, line in enumerate(lines, 1))
            return
        content = load_json(path)
    except (OSError, ValueError) as error:
        raise OutputFolderError(f"{path} cannot be read: {error}") from error
    if path.name == _GRAPH and isinstance(content, dict):
        content = content.get("ops", [])
    if isinstance(content, dict):
        # The errors are by op; in the other files a key is what it says.
        key = "op" if path.name.endswith("wise_error.json") else "key"
        content = [{key: name, "value": value} for name, value in content.items()]
    yield from content if isinstance(content, list) else [content]


def _names_of(folder: Path, op_type: str | None, roots: Roots) -> frozenset[str]:
    """Return the ops of a type, as far as the model's graph is known."""
    graph = folder / _GRAPH
    if op_type is None or not graph.is_file() or not _is_inside(graph, roots):
        return frozenset()
    rows = (row for row in _rows(graph) if isinstance(row, dict))
    return frozenset(str(row.get("name")) for row in rows if row.get("op_type") == op_type)


def _matching(
    rows: list[Any], op: str | None, of_type: frozenset[str], op_type: str | None, path: Path
) -> Iterator[Any]:
    if not any(_names(row) for row in rows) and rows:
        raise UsageError(f"{path.name} is not about single ops", "leave out op and op_type")
    for row in rows:
        names = _names(row)
        if op is not None and not any(name == op or fnmatchcase(name, op) for name in names):
            continue
        if op_type is not None:
            stated = [row[key] for key in _TYPES if key in row]
            if op_type not in stated and (stated or not of_type.intersection(names)):
                continue
        yield row


def _names(row: Any) -> list[str]:
    return [row[key] for key in _OPS if isinstance(row.get(key), str)] if _is_row(row) else []


def _is_row(row: Any) -> bool:
    return isinstance(row, dict)


def _select(row: Any, columns: list[str]) -> Any:
    return {key: row[key] for key in columns if key in row} if _is_row(row) else row


def _fit(rows: list[Any], characters: int) -> tuple[list[Any], bool]:
    """Shorten what is long, and keep as many rows as fit; one always does."""
    shown: list[Any] = []
    size, is_short = 0, False
    for row in rows:
        short = _shorten(row)
        length = len(json.dumps(short, ensure_ascii=False))
        if length > characters:
            # Long in many places.
            short = {"text": shortened(dumped(short), min(_LONGEST_TEXT, characters // 2))}
            length = len(dumped(short))
        if shown and size + length > characters:
            break
        is_short = is_short or short != row
        shown.append(short)
        size += length
    return shown, is_short


def _shorten(value: Any) -> Any:
    if isinstance(value, str) and len(value) > _LONGEST_TEXT:
        return f"{value[:_LONGEST_TEXT]} ... ({len(value)} characters)"
    if isinstance(value, list):
        kept = [_shorten(item) for item in value[:_LONGEST_LIST]]
        return [*kept, f"... ({len(value)} entries)"] if len(value) > _LONGEST_LIST else kept
    if isinstance(value, dict):
        return {key: _shorten(item) for key, item in value.items()}
    return value
