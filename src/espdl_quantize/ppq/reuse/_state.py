"""What a pass can change in some ops: scales, offsets, states and constants, as arrays."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any

import numpy as np
import torch
from esp_ppq.core import QuantizationStates
from esp_ppq.IR import QuantableOperation
from torch import Tensor

Arrays = dict[str, Any]


class State:
    """The changeable parts of some ops, each under a name that depends on its place alone.

    Args:
        ops: in an order that is the same whenever they are looked at.
        device: where new tensors go.
    """

    def __init__(self, ops: Iterable[Any], device: str) -> None:
        self._device = device
        configs: dict[int, Any] = {}
        constants: dict[str, Any] = {}
        for op in ops:
            for variable in (*op.inputs, *op.outputs):
                if variable.is_parameter:
                    constants[variable.name] = variable
            if isinstance(op, QuantableOperation):
                for config, _ in op.config_with_variable:
                    configs.setdefault(id(config), config)
                    # A block may train a scale that an op elsewhere owns.
                    configs.setdefault(id(config.dominated_by), config.dominated_by)
        self._configs = list(configs.values())
        self._constants = list(constants.values())

    def arrays(self) -> Arrays:
        """Return a copy of all there is."""
        found: Arrays = {}
        for place, config in enumerate(self._configs):
            found[f"{place}.state"] = np.array(config.state.value)
            found[f"{place}.observer"] = np.array(config.observer_algorithm or "")
            for field in ("scale", "offset"):
                value = getattr(config, f"_{field}")
                if isinstance(value, Tensor):
                    found[f"{place}.{field}"] = _array(value)
        for place, variable in enumerate(self._constants):
            if isinstance(variable.value, Tensor):
                found[f"{place}.value"] = _array(variable.value)
        return found

    def fits(self, changed: Arrays) -> bool:
        """Return whether each changed array has its place, and the shape of what it replaces."""
        present = self.arrays()
        for name, value in changed.items():
            place, _, field = name.partition(".")
            limit = len(self._constants if field == "value" else self._configs)
            if not place.isdigit() or int(place) >= limit:
                return False
            if name in present and present[name].shape != value.shape:
                return False
        return True

    def apply(self, changed: Arrays) -> None:
        """Put changed arrays in their places; see :meth:`fits`."""
        # A configuration takes a scale only while its state allows it.
        for name, value in sorted(changed.items(), key=lambda item: item[0].endswith(".state")):
            place, _, field = name.partition(".")
            if field == "value":
                variable = self._constants[int(place)]
                variable.value = self._tensor(variable.value, value)
                continue
            config = self._configs[int(place)]
            if field == "state":
                config.state = QuantizationStates(int(value))
            elif field == "observer":
                config.observer_algorithm = str(value) or None
            else:
                setattr(config, f"_{field}", self._tensor(getattr(config, f"_{field}"), value))

    def _tensor(self, old: Any, value: Any) -> Tensor:
        new = torch.from_numpy(np.array(value))
        if not isinstance(old, Tensor):
            return new.to(self._device)
        with torch.no_grad():
            return old.copy_(new)


def difference(before: Arrays, after: Arrays) -> Arrays | None:
    """Return the arrays that are new or changed; None where one has gone."""
    if before.keys() - after.keys():
        return None
    return {
        name: value
        for name, value in after.items()
        if name not in before or not _same(before[name], value)
    }


def _array(tensor: Tensor) -> Any:
    return tensor.detach().cpu().numpy().copy()


def _same(one: Any, other: Any) -> bool:
    return (
        one.dtype == other.dtype
        and one.shape == other.shape
        and np.array_equal(one, other, equal_nan=one.dtype.kind == "f")
    )
