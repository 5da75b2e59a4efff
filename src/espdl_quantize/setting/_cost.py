"""What a setting costs on the chip, for as long as the model is deployed."""

from __future__ import annotations

from dataclasses import dataclass

from espdl_quantize.setting._model import Setting, activation_bits
from espdl_quantize.setting.passes import enabled_passes

_NAMED = 3
LONGER = 0.01
"""What is longer by less, as a share, takes as long: no prediction is that sure."""


@dataclass(frozen=True)
class RuntimeCost:
    """The ops that run slower than in the plain 8-bit model, and what is added to it.

    16 bits take about twice the cycles and activation memory of an op; some passes add ops or
    channels (:attr:`PassSpec.adds_to_chip`). Time on the PC is not counted here.

    Attributes:
        int16_ops: names of ops.
        added: by pass, the layers that it adds something to.
        more: how much longer the exported file takes than that of the plain model, as a share of
            the latter; None where nobody has looked.
    """

    int16_ops: tuple[str, ...] = ()
    added: tuple[tuple[str, tuple[str, ...]], ...] = ()
    more: float | None = None

    @property
    def affects_inference_speed(self) -> bool:
        """Return whether the model runs slower on the chip."""
        return self.slower_ops > 0 or self._takes_longer

    @property
    def slower_ops(self) -> int:
        """Return how many ops are slower or added."""
        return len(self.int16_ops) + sum(len(layers) for _, layers in self.added)

    @property
    def _takes_longer(self) -> bool:
        return self.more is not None and self.more > LONGER

    def __str__(self) -> str:
        parts = [f"{name} on {_counted(layers, 'layer')}" for name, layers in self.added]
        if self.int16_ops:
            parts.insert(0, f"int16 on {_counted(self.int16_ops, 'op')}")
        if self.more is not None and (parts or self._takes_longer):
            parts.append(f"{self.more:+.1%} time")
        return f"Yes ({'; '.join(parts)})" if parts else "No"


def runtime_cost(setting: Setting) -> RuntimeCost:
    """Name the ops that ``setting`` makes slower."""
    added = [
        (spec.field, section.layers)
        for spec, section in enabled_passes(setting)
        if spec.adds_to_chip and section.layers
    ]
    return RuntimeCost(int16_ops(setting), tuple(added))


def int16_ops(setting: Setting) -> tuple[str, ...]:
    """Return the ops that the table gives activations of 16 bits.

    Of an op that is listed twice, the last entry counts.
    """
    widths = {entry.op: entry.bits for entry in setting.dispatching_table or []}
    return tuple(op for op, bits in widths.items() if activation_bits(bits) == 16)


def _counted(ops: tuple[str, ...], noun: str) -> str:
    named = ", ".join(ops[:_NAMED]) + (", ..." if len(ops) > _NAMED else "")
    return f"{len(ops)} {noun}{'s' if len(ops) != 1 else ''}: {named}"
