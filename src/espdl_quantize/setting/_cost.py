"""What a setting costs on the chip, for as long as the model is deployed."""

from __future__ import annotations

from dataclasses import dataclass

from espdl_quantize.setting._model import Setting

_NAMED = 3


@dataclass(frozen=True)
class RuntimeCost:
    """The ops that run slower than in the plain 8-bit model.

    Only two passes cost anything at run time: int16 takes about twice the cycles and activation
    memory of an op, weight_split adds one Add per layer. Time on the PC is not counted here.
    """

    int16_ops: tuple[str, ...] = ()
    split_layers: tuple[str, ...] = ()

    @property
    def affects_inference_speed(self) -> bool:
        """Return whether the model runs slower on the chip."""
        return bool(self.int16_ops or self.split_layers)

    @property
    def slower_ops(self) -> int:
        """Return how many ops are slower or added."""
        return len(self.int16_ops) + len(self.split_layers)

    def __str__(self) -> str:
        parts = []
        if self.int16_ops:
            parts.append(f"int16 on {_counted(self.int16_ops, 'op')}")
        if self.split_layers:
            parts.append(f"weight_split on {_counted(self.split_layers, 'layer')}")
        return f"Yes ({'; '.join(parts)})" if parts else "No"


def runtime_cost(setting: Setting) -> RuntimeCost:
    """Name the ops that ``setting`` makes slower."""
    return RuntimeCost(int16_ops=int16_ops(setting), split_layers=split_layers(setting))


def int16_ops(setting: Setting) -> tuple[str, ...]:
    """Return the ops that run with 16 bits; of an op listed twice, the last entry counts."""
    widths = {entry.op: entry.bits for entry in setting.dispatching_table or []}
    return tuple(op for op, bits in widths.items() if bits == 16)


def split_layers(setting: Setting) -> tuple[str, ...]:
    """Return the layers that weight_split splits."""
    split = setting.weight_split
    if split is None or not split.enabled:
        return ()
    return tuple(dict.fromkeys(split.interested_layers or []))


def _counted(ops: tuple[str, ...], noun: str) -> str:
    named = ", ".join(ops[:_NAMED]) + (", ..." if len(ops) > _NAMED else "")
    return f"{len(ops)} {noun}{'s' if len(ops) != 1 else ''}: {named}"
