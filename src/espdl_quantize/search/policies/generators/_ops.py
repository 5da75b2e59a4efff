"""Settings with another choice of int16 ops or split layers."""

from __future__ import annotations

from collections.abc import Sequence

from espdl_quantize.setting import Dispatch, Setting, WeightSplit


def with_int16(base: Setting, ops: Sequence[str]) -> Setting:
    """Return ``base`` with exactly these ops at 16 bits; other entries of its table stay."""
    table = [entry for entry in base.dispatching_table or [] if entry.bits != 16]
    table = [entry for entry in table if entry.op not in ops]
    table += [Dispatch(op=op, bits=16) for op in ops]
    return base.model_copy(update={"dispatching_table": table or None})


def with_split(base: Setting, layers: Sequence[str], section: WeightSplit) -> Setting:
    """Return ``base`` with exactly these layers split, by the parameters of ``section``."""
    update = {"enabled": True, "interested_layers": list(layers)}
    return base.model_copy(update={"weight_split": section.model_copy(update=update)})
