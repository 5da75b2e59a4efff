"""int16_groups.json: what groups of ops win with 16 bits, or lose with 8, measured one by one."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

from espdl_quantize.core import write_json
from espdl_quantize.record._values import integer, names, number, objects
from espdl_quantize.record.files import WIDTHS


@dataclass(frozen=True)
class OpGroup:
    """Ops whose width is changed together.

    Attributes:
        ops: their names, in the order in which they run.
        noise: noise power over signal power at the outputs with the changed width.
        cuts: activations of the group that ops outside of it read with 8 bits.
    """

    ops: tuple[str, ...]
    noise: float
    cuts: tuple[str, ...] = ()


@dataclass(frozen=True)
class Widths:
    """What other widths would come to, all else being as it is.

    Attributes:
        noise: noise power over signal power at the outputs of the graph as it is.
        samples: how many it was measured on.
        held_out: calibration did not read these samples.
        promotions: groups of 8-bit ops, with 16.
        demotions: groups of 16-bit ops, with 8.
        conversions: by activation, the time that it takes to bring it from one width to the other,
            in the unit of the cost's time; without those that the exported file does not have.
    """

    noise: float
    samples: int
    held_out: bool
    promotions: tuple[OpGroup, ...] = ()
    demotions: tuple[OpGroup, ...] = ()
    conversions: Mapping[str, float] = field(default_factory=dict)


def write_widths(folder: Path, widths: Widths) -> None:
    """Write the file."""
    write_json(folder / WIDTHS, asdict(widths))


def widths_of(value: Any) -> Widths | None:
    """Read what :func:`write_widths` wrote; None where it says nothing."""
    noise = number(value.get("noise")) if isinstance(value, dict) else None
    if noise is None or noise < 0:
        return None
    return Widths(
        noise,
        integer(value.get("samples")) or 0,
        value.get("held_out") is True,
        tuple(_groups(value.get("promotions"))),
        tuple(_groups(value.get("demotions"))),
        dict(_times(value.get("conversions"))),
    )


def _times(value: object) -> Iterator[tuple[str, float]]:
    for name, item in value.items() if isinstance(value, dict) else ():
        time = number(item)
        if time is not None and time >= 0:
            yield str(name), time


def _groups(value: object) -> Iterator[OpGroup]:
    for item in objects(value):
        noise, ops = number(item.get("noise")), names(item.get("ops"))
        if noise is not None and noise >= 0 and ops:
            unique: Sequence[str] = tuple(dict.fromkeys(ops))
            yield OpGroup(tuple(unique), noise, names(item.get("cuts")))
