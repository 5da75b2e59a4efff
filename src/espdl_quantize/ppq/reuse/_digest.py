"""Digests of everything that the result of a pass depends on."""

from __future__ import annotations

import enum
import functools
import hashlib
import platform
from collections.abc import Iterable, Mapping
from importlib import metadata
from pathlib import Path
from typing import Any

import numpy as np
import torch
from esp_ppq.IR import QuantableOperation
from torch import Tensor

_PACKAGES = ("esp-ppq", "torch", "numpy", "numba")
_CODE = Path(__file__).parent.parent
"""The passes, and the fast engine's part in them: a change there makes all that was kept void."""


class UndigestibleError(TypeError):
    """A value has no digest, so that nothing that depends on it can be kept."""


class Digest:
    """A SHA-256 over values of any depth; equal only where types, shapes and layouts are, too."""

    def __init__(self) -> None:
        self._hash = hashlib.sha256()

    def add(self, *values: Any) -> None:
        """Add values.

        Raises:
            UndigestibleError: one is of a type whose equality is not known here.
        """
        for value in values:
            self._add(value)

    def hex(self) -> str:
        """Return the digest so far."""
        return self._hash.hexdigest()

    def _add(self, value: Any) -> None:
        if value is None or isinstance(value, (bool, int, float, str, bytes)):
            text = repr(value).encode("utf-8", "surrogatepass")
            self._hash.update(b"%s:%d:" % (type(value).__name__.encode(), len(text)) + text)
        elif isinstance(value, enum.Enum):
            self.add(type(value).__name__, value.name)
        elif isinstance(value, Tensor):
            self._add_tensor(value)
        elif isinstance(value, (np.ndarray, np.generic)):
            if value.dtype.hasobject:
                raise UndigestibleError("an array of Python objects")
            self.add("array", str(value.dtype), value.shape)
            self._hash.update(np.ascontiguousarray(value).tobytes())
        elif isinstance(value, Mapping):
            self.add("map", len(value))
            for key in sorted(value, key=str):
                self.add(key, value[key])
        elif isinstance(value, (list, tuple)):
            self.add("list", len(value))
            self.add(*value)
        elif callable(value) and hasattr(value, "__qualname__"):
            self.add(value.__module__, value.__qualname__)
        elif isinstance(value, (torch.dtype, torch.device)):
            self.add(str(value))
        else:
            raise UndigestibleError(type(value).__name__)

    def _add_tensor(self, value: Tensor) -> None:
        # The layout decides in which order a convolution adds, and so its last bits.
        self.add("tensor", str(value.dtype), tuple(value.shape), value.stride(), value.is_cuda)
        dense = value.detach().cpu()
        if dense.dim() == 4 and dense.is_contiguous(memory_format=torch.channels_last):
            dense = dense.permute(0, 2, 3, 1)
        if dense.numel():
            self._hash.update(dense.contiguous().view(-1).view(torch.uint8).numpy().data)


def digest_of(*values: Any) -> str:
    """Return the digest of values.

    Raises:
        UndigestibleError: one is of a type whose equality is not known here.
    """
    digest = Digest()
    digest.add(*values)
    return digest.hex()


def add_ops(digest: Digest, ops: Iterable[Any]) -> None:
    """Add ops: what they compute, their constants, their configurations, and who shares a scale.

    Raises:
        UndigestibleError: an attribute has no digest.
    """
    places: dict[int, int] = {}
    for op in ops:
        digest.add(op.name, op.type, op.platform, op.attributes)
        for variable in op.inputs:
            digest.add(variable.name, variable.is_parameter)
            if variable.is_parameter:
                digest.add(variable.value)
        digest.add([variable.name for variable in op.outputs])
        if not isinstance(op, QuantableOperation):
            continue
        for config, _ in op.config_with_variable:
            places.setdefault(id(config), len(places))
            digest.add(
                int(config.policy._policy),
                config.rounding,
                config.num_of_bits,
                config.exponent_bits,
                config.quant_min,
                config.quant_max,
                config._channel_axis,
                config.state,
                config.observer_algorithm,
                config.detail,
                config.scale,
                config.offset,
                # -1: somewhere outside of these ops.
                places.get(id(config.dominated_by), -1),
            )


@functools.lru_cache(maxsize=1)
def environment() -> str:
    """Return a digest of the code and the processor that a result was computed with."""
    digest = Digest()
    digest.add({name: metadata.version(name) for name in _PACKAGES}, torch.__version__)
    digest.add(platform.machine(), platform.python_version())
    digest.add(torch.backends.cpu.get_cpu_capability())
    if torch.cuda.is_available():
        digest.add(torch.cuda.get_device_name())
    for file in sorted(_CODE.rglob("*.py")):
        digest.add(str(file.relative_to(_CODE)), file.read_bytes())
    return digest.hex()
