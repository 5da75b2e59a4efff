"""``chip_cost.json``: what the exported file costs on the chip; and the budgets that bound it.

The file is written by :mod:`espdl_quantize.chip.cost`, with more in it than is read here.
"""

from __future__ import annotations

from collections.abc import Collection, Mapping
from dataclasses import fields
from functools import cache
from pathlib import Path
from typing import Any

from pydantic import TypeAdapter
from pydantic.dataclasses import dataclass

from espdl_quantize.contract import QuantConfig
from espdl_quantize.core import Direction, MetricUnit
from espdl_quantize.record._values import read_any
from espdl_quantize.record.files import CHIP_COST
from espdl_quantize.record.lenient import CONFIG, Integer, Lenient, Number, Text, clean, read_as

KIB = 1024
EQUAL_TIMES = 0.01
"""Predicted times that differ by less, relative to the smaller, are equal: what is below are ops
that move a few numbers, and no prediction is that sure."""
_LARGEST = 1e15
_WIDE = ("S16", "W8A16")


@dataclass(frozen=True, config=CONFIG)
class Budgets(Lenient):
    """What a contract bounds; None for no bound.

    Attributes:
        max_latency_ms: milliseconds of one inference, as predicted, or measured on a board.
        max_ram_kb: KiB of RAM that the activations take at their peak.
        max_flash_kb: KiB of the exported file.
        max_drop: points that the score may be below the float model's, in place of a target.
    """

    max_latency_ms: Number = None
    max_ram_kb: Number = None
    max_flash_kb: Number = None
    max_drop: Number = None

    @property
    def bounds(self) -> dict[str, float]:
        """Return what is bounded of the chip, by the contract's key."""
        stated = {name: getattr(self, name) for name in COSTS}
        return {name: value for name, value in stated.items() if value is not None and value > 0}

    def target(
        self, float_value: float | None, direction: Direction, unit: MetricUnit | None
    ) -> float | None:
        """Return the score that ``max_drop`` asks for; None where it or the float's is unknown.

        A point is one percent where the metric is a rate, else one unit of the metric. Of a metric
        whose unit is not stated and that is at most 1, it is a hundredth.
        """
        if self.max_drop is None or float_value is None:
            return None
        is_fraction = unit is MetricUnit.FRACTION or (unit is None and abs(float_value) <= 1)
        drop = self.max_drop / 100 if is_fraction else self.max_drop
        return float_value - drop if direction is Direction.MAX else float_value + drop


COSTS = {
    "max_latency_ms": "ms",
    "max_ram_kb": "KiB of RAM",
    "max_flash_kb": "KiB of flash",
}
"""The budgets of the chip, with their units in words."""


def budgets_of(config: QuantConfig) -> Budgets:
    """Return what a contract bounds."""
    return Budgets(**{each.name: getattr(config, each.name) for each in fields(Budgets)})


@dataclass(frozen=True, config=CONFIG)
class Flash(Lenient):
    """Bytes of flash: of the whole file."""

    file: Integer | None = None


@dataclass(frozen=True, config=CONFIG)
class Ram(Lenient):
    """Bytes of RAM.

    Attributes:
        arena: of activations at their peak, in PSRAM or the only RAM.
        internal: of activations in internal RAM.
        weights_copied: of weights that the runtime copies out of flash.
        peak_layer: the op whose output made the arena as large as it is.
    """

    arena: Integer | None = None
    internal: Integer | None = None
    weights_copied: Integer | None = None
    peak_layer: Text = ""


@dataclass(frozen=True, config=CONFIG)
class Latency(Lenient):
    """Predicted milliseconds of one inference.

    Attributes:
        milliseconds: None where nothing is published for the chip.
        low: nine of ten models take from this...
        high: ...to this many.
        source: what the constants come from.
        residual: of a calibration on a board: its relative error there.
    """

    milliseconds: Number = None
    low: Number = None
    high: Number = None
    source: Text = ""
    residual: Number = None


@dataclass(frozen=True, config=CONFIG)
class LayerPrice(Lenient):
    """What one op takes.

    Attributes:
        name: of the op.
        op_type: its kernel.
        width: S8, S16, W8A16 or F32.
        time: in the unit of :attr:`Cost.time`.
        time_at_16_bits: the same if it ran with 16 bits; None where it does, or cannot.
    """

    name: Text
    op_type: Text = ""
    width: Text = ""
    time: Number = None
    time_at_16_bits: Number = None


@dataclass(frozen=True, config=CONFIG)
class Cost(Lenient):
    """What a file costs on the chip, as far as the folder says.

    Attributes:
        chip: which.
        time: of one inference: milliseconds, or, where nothing is published for the chip, a number
            that compares with those of other models on it alone.
        flash: bytes of flash.
        ram: bytes of RAM.
        latency: milliseconds with an interval.
        layers: every op, in the order in which they run.
        notes: what to know about these figures.
    """

    chip: Text = ""
    time: Number = None
    flash: Flash = Flash()
    ram: Ram = Ram()
    latency: Latency = Latency()
    layers: tuple[LayerPrice, ...] = ()
    notes: tuple[Text, ...] = ()

    @property
    def ms(self) -> float | None:
        """Return the predicted milliseconds."""
        return self.latency.milliseconds

    @property
    def ram_bytes(self) -> int | None:
        """Return the bytes of the activations at their peak."""
        if self.ram.arena is None:
            return None
        return self.ram.arena + (self.ram.internal or 0)

    @property
    def flash_bytes(self) -> int | None:
        """Return the bytes of the file."""
        return self.flash.file

    @property
    def wide_ops(self) -> tuple[str, ...]:
        """Return the ops that run with 16 bits."""
        return tuple(layer.name for layer in self.layers if layer.width in _WIDE)

    def with_wide(self, ops: Collection[str]) -> float | None:
        """Return the time if these ops, and no others, ran with 16 bits.

        None where it is unknown, also of an op that has 16 bits now and would have 8.
        """
        wanted, total = set(ops), 0.0
        if self.time is None or any(name not in wanted for name in self.wide_ops):
            return None
        for layer in self.layers:
            is_widened = layer.name in wanted and layer.width not in _WIDE
            time = layer.time_at_16_bits if is_widened else layer.time
            if time is None:
                time = layer.time
            if time is None:
                return None
            total += time
        return total


def spent(cost: Cost | None, measured_ms: float | None = None) -> Mapping[str, float | None]:
    """Return what a model takes of each budget; None for what is not known.

    Args:
        cost: of its file.
        measured_ms: what a board measured, which is surer than any prediction.
    """
    predicted = None if cost is None else cost.ms
    ram = None if cost is None else cost.ram_bytes
    flash = None if cost is None else cost.flash_bytes
    return {
        "max_latency_ms": predicted if measured_ms is None else measured_ms,
        "max_ram_kb": None if ram is None else ram / KIB,
        "max_flash_kb": None if flash is None else flash / KIB,
    }


@cache
def _adapter() -> TypeAdapter[Cost]:
    return TypeAdapter(Cost)


def read_cost(folder: Path) -> tuple[Cost | None, str | None]:
    """Read what the file of an iteration costs.

    Returns:
        The cost, None where nobody has looked; and what is wrong with the file, in words that
        follow its name.
    """
    content, problem = read_any(folder / CHIP_COST)
    if problem == "is missing":
        return None, None
    if problem is None and not isinstance(content, dict):
        problem = "holds no costs"
    if problem is not None:
        return None, problem
    cost: Cost = read_as(_adapter(), _plausible(clean(content)))
    return (None, "holds no costs") if cost == Cost() else (cost, None)


def _plausible(content: dict[str, Any]) -> dict[str, Any]:
    """Leave out numbers below zero, or beyond any chip, which no cost is."""

    def kept(value: Any) -> Any:
        if isinstance(value, dict):
            return {name: kept(item) for name, item in value.items()}
        if isinstance(value, list):
            return [kept(item) for item in value]
        is_number = isinstance(value, (int, float)) and not isinstance(value, bool)
        return None if is_number and not 0 <= value <= _LARGEST else value

    plausible: dict[str, Any] = kept(content)
    return plausible
