"""What ESP-DL can load: its ops, their widths and their restrictions, from ``ops.json``.

The file is the one place where they are written down. Versions were read off the tags of its
repository, restrictions in the sources that each entry names.
"""

from __future__ import annotations

import json
import re
from collections.abc import Mapping
from dataclasses import dataclass
from functools import cache
from importlib import resources
from typing import Any

from espdl_quantize.core import ContractError

Version = tuple[int, int, int]
_VERSION = re.compile(r"(\d{1,4})\.(\d{1,4})\.(\d{1,4})")


@dataclass(frozen=True)
class EspDlOp:
    """An op that ESP-DL has a kernel for.

    Attributes:
        name: its type in the file.
        widths: of its tensors: "int8", "int16", "float32".
        since: the first version that registers it.
        limits: what its kernel cannot do, one mapping each; ``chip/restrictions.py`` reads them.
        note: what else is worth knowing.
        source: the file of ESP-DL that was read.
        looked_at: the day of that file's version, year-month-day.
    """

    name: str
    widths: tuple[str, ...]
    since: Version
    limits: tuple[Mapping[str, Any], ...]
    note: str
    source: str
    looked_at: str

    def limit(self, name: str) -> Any:
        """Return the value of a limit; None where there is no such limit."""
        return next((limit[name] for limit in self.limits if name in limit), None)


@dataclass(frozen=True)
class LaterFeature:
    """What esp-ppq makes on purpose for a later ESP-DL than the one that was looked at.

    Attributes:
        feature: the name of an op or of a width.
        kind: "op" or "width".
        made_by: who makes it, of what.
        way_out: what to set instead.
    """

    feature: str
    kind: str
    made_by: str
    way_out: str


@dataclass(frozen=True)
class OpTable:
    """The whole of ``ops.json``.

    Attributes:
        version: of ESP-DL, the newest that was looked at.
        registered_in: the file that registers the ops.
        ops: by type.
        later: by name of the feature.
        remedies: by type of an op that ESP-DL lacks, what to use instead.
    """

    version: Version
    registered_in: str
    ops: Mapping[str, EspDlOp]
    later: Mapping[str, LaterFeature]
    remedies: Mapping[str, str]


@cache
def op_table() -> OpTable:
    """Return what ``ops.json`` says."""
    file = resources.files("espdl_quantize.targets").joinpath("ops.json")
    content = json.loads(file.read_text(encoding="utf-8"))
    return OpTable(
        version=parse_version(content["esp_dl"]),
        registered_in=content["registered_in"],
        ops={
            entry["op"]: EspDlOp(
                entry["op"],
                tuple(entry["widths"]),
                parse_version(entry["since"]),
                tuple(entry["limits"]),
                entry["note"],
                entry["source"],
                entry["looked_at"],
            )
            for entry in content["ops"]
        },
        later={entry["feature"]: LaterFeature(**entry) for entry in content["later"]},
        remedies={entry["op"]: entry["remedy"] for entry in content["missing"]},
    )


def parse_version(text: str) -> Version:
    """Parse the version of ESP-DL, such as "3.3.9".

    Raises:
        ContractError: it is none.
    """
    matched = _VERSION.fullmatch(text.strip().removeprefix("v"))
    if matched is None:
        raise ContractError(
            f"{text[:80]!r} is no version of ESP-DL, expected three numbers such as 3.3.9",
            "idf_component.yml or dependencies.lock of your project has the version in use",
        )
    major, minor, patch = map(int, matched.groups())
    return major, minor, patch


def supported_version(text: str) -> Version:
    """Parse the version of ESP-DL that a model is for.

    One that is newer than the newest that was looked at is taken: what it adds is not known.

    Raises:
        ContractError: it is none, or one that esp-ppq does not export for.
    """
    version, oldest = parse_version(text), oldest_version()
    if version < oldest:
        raise ContractError(
            f"ESP-DL {version_text(version)} cannot load what esp-ppq exports, which needs "
            f"{version_text(oldest)} or later",
            "update the component espressif/esp-dl of your project",
        )
    return version


@cache
def oldest_version() -> Version:
    """Return the first version that has the ops of a file that esp-ppq exports."""
    return min(op.since for op in op_table().ops.values())


def is_looked_at(version: Version | None) -> bool:
    """Tell whether it is known what a version of ESP-DL has and what it lacks."""
    return version is not None and version <= op_table().version


@cache
def lacks_16_bits() -> frozenset[str]:
    """Return the types of the ops whose kernels have 8 bits alone."""
    return frozenset(
        op.name
        for op in op_table().ops.values()
        if "int8" in op.widths and "int16" not in op.widths
    )


def version_text(version: Version) -> str:
    """Return a version as it is written."""
    return ".".join(map(str, version))


def remedy_of(op_type: str) -> str:
    """Return what to do about an op that ESP-DL lacks."""
    table = op_table()
    if op_type in table.later:
        return table.later[op_type].way_out
    return table.remedies.get(
        op_type, f"express {op_type} by ops that ESP-DL has, or end the model before it"
    )
