"""Recorded iterations on disk: a folder or a zip with one folder per setting key."""

from __future__ import annotations

import zipfile
from collections.abc import Iterable
from dataclasses import replace
from pathlib import Path
from typing import Any

from espdl_quantize.core import Json, OutputFolderError, SettingError, dumps, load_json, read_json
from espdl_quantize.record import (
    Evidence,
    Iteration,
    IterationRecord,
    load_evidence,
    read_history,
    record_from_json,
)
from espdl_quantize.record.files import (
    ALL_STATISTICS,
    APPLIED,
    CHIP_COST,
    FLOAT_REFERENCE,
    GRAPHWISE,
    HOT_OPS,
    INDEX,
    JUMPS,
    LAYERWISE,
    METRICS,
    OPS,
    SETTING,
)
from espdl_quantize.search import DEFAULT_THRESHOLDS
from espdl_quantize.setting import Setting, parse_setting, setting_key

FILES = (
    SETTING,
    INDEX,
    METRICS,
    APPLIED,
    CHIP_COST,
    OPS,
    LAYERWISE,
    GRAPHWISE,
    ALL_STATISTICS,
    HOT_OPS,
    JUMPS,
)
"""What is recorded of an iteration; models, logs and the repeated statistics are not."""

_COLUMNS = frozenset(
    {
        "Op name",
        "Op type",
        "Variable name",
        "Is parameter",
        "Is input",
        "Is output",
        "Noise:Signal Power Ratio",
        "Noise Mean",
        "Noise Std",
        "Float Mean",
        "Float Std",
        "Float Skewness",
        "Float Kurtosis",
        "Float Max",
        "Float Min",
    }
)
"""Columns of the statistics that the search reads."""


class Table:
    """Reads what :func:`pack` wrote.

    Args:
        path: the zip or the folder.

    Raises:
        OutputFolderError: it is neither, or holds no iteration.
    """

    def __init__(self, path: Path) -> None:
        # zipfile.Path has what is used of Path, but shares no type with it.
        self._root: Any = Path(path)
        if self._root.is_file():
            try:
                self._root = zipfile.Path(path)
            except zipfile.BadZipFile as error:
                raise OutputFolderError(f"{path} is no zip: {error}") from error
        self.settings: dict[str, Setting] = {}
        self.records: dict[str, IterationRecord] = {}
        entries = list(self._root.iterdir()) if self._root.is_dir() else []
        for entry in sorted(entries, key=lambda entry: entry.name):
            if (entry / SETTING).is_file() and (entry / INDEX).is_file():
                setting = parse_setting(_load(entry / SETTING))
                self.settings[setting_key(setting)] = setting
                self.records[setting_key(setting)] = record_from_json(_load(entry / INDEX))
        if not self.settings:
            raise OutputFolderError(
                f"{path} holds no recorded iteration",
                "give a recording, such as benchmarks/recorded/fashion_mnist_esp32s3.zip",
            )

    def read(self, key: str) -> dict[str, Any]:
        """Return the files of one iteration by name."""
        folder = self._root / key
        return {name: _load(folder / name) for name in FILES if (folder / name).is_file()}

    def float_reference(self) -> Json | None:
        """Return float_reference.json, where it was recorded."""
        file = self._root / FLOAT_REFERENCE
        return dict(_load(file)) if file.is_file() else None


def pack(outputs: Iterable[Path], archive: Path) -> int:
    """Record every iteration of some output folders in a zip.

    Of equal settings the first is kept. Histograms stay only where a trigger reads them.

    Returns:
        How many iterations were recorded.

    Raises:
        OutputFolderError: an output folder cannot be read.
    """
    seen: set[str] = set()
    reference: Json | None = None
    with zipfile.ZipFile(archive, "w", zipfile.ZIP_DEFLATED) as file:
        for folder in map(Path, outputs):
            if reference is None and (folder / FLOAT_REFERENCE).is_file():
                reference = read_json(folder / FLOAT_REFERENCE)
                _add(file, FLOAT_REFERENCE, reference)
            for iteration in read_history(folder).iterations:
                if iteration.setting is None or iteration.is_without_effect:
                    continue
                if setting_key(iteration.setting) in seen:
                    continue
                key = setting_key(iteration.setting)
                seen.add(key)
                for name, content in _recorded(iteration).items():
                    _add(file, f"{key}/{name}", content)
    return len(seen)


def _recorded(iteration: Iteration) -> dict[str, Any]:
    files = {
        name: load_json(iteration.folder / name)
        for name in FILES
        if (iteration.folder / name).is_file()
    }
    if INDEX in files and iteration.contract_path:
        # Where it was on the machine that recorded it is nobody's business.
        record = record_from_json(files[INDEX])
        files[INDEX] = replace(record, contract_path=Path(iteration.contract_path).name).to_json()
    if ALL_STATISTICS in files:
        files[ALL_STATISTICS] = _slim(files[ALL_STATISTICS], load_evidence(iteration))
    return files


def _slim(statistics: list[Json], evidence: Evidence) -> list[Json]:
    """Keep the columns that are read, and histograms of the inputs that triggers look at."""
    worst = {op for op, _ in evidence.worst(DEFAULT_THRESHOLDS.rule_layers)}
    slim = []
    for variable in statistics:
        kept = {name: value for name, value in variable.items() if name in _COLUMNS}
        is_activation = (
            variable.get("Is input") is True and variable.get("Is parameter") is not True
        )
        if is_activation and (not worst or variable.get("Op name") in worst):
            kept["Float Hist"] = variable.get("Float Hist")
        slim.append(kept)
    return slim


def _add(file: zipfile.ZipFile, name: str, content: Any) -> None:
    # A fixed date: the same iterations make the same archive.
    entry = zipfile.ZipInfo(name, (1980, 1, 1, 0, 0, 0))
    entry.compress_type = zipfile.ZIP_DEFLATED
    file.writestr(entry, dumps(content))


def _load(file: Any) -> Any:
    try:
        return load_json(file)
    except ValueError as error:
        raise SettingError(f"{file} is not JSON: {error}", "record it again") from error
