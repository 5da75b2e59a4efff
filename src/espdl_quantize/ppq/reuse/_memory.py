"""Puts a memory around the passes that take long."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
from esp_ppq.core import QuantizationStates
from esp_ppq.IR import QuantableOperation
from esp_ppq.quantization.optim import RuntimeCalibrationPass
from esp_ppq.quantization.optim.training import TrainingBasedPass
from torch import Tensor

from espdl_quantize.ppq._fallback import REUSE, Fallback
from espdl_quantize.ppq._random import random_state, restore_random_state
from espdl_quantize.ppq._snapshot import state_of_ops
from espdl_quantize.ppq.exponents import ExponentSearchPass
from espdl_quantize.ppq.patches import override
from espdl_quantize.ppq.reuse._digest import Digest, UndigestibleError, add_ops, environment
from espdl_quantize.ppq.reuse.store import Store

LIMIT = 1 << 30
"""Bytes on disk: hundreds of trained networks of the size that an ESP32 holds."""

_PER_BLOCK = ("finetune", "correct_bias")
"""The methods of esp-ppq's training passes that work on one block, given its inputs and targets."""

_CHANGE, _RANDOM, _LINE = "change.", "random.", "line"


@dataclass(frozen=True)
class Reuse:
    """One result that was taken from the memory.

    Attributes:
        name: of the pass.
        seconds: that it took when it was computed.
    """

    name: str
    seconds: float


class PassMemory:
    """Remembers calibrations and trained blocks by the state that entered them.

    Args:
        folder: where they are kept; may be deleted at any time.
        limit: bytes on disk.
        fallback: guards what is looked up and kept here: a failure costs a result, no iteration.

    Attributes:
        reused: what was taken from the memory so far.
    """

    def __init__(self, folder: Path, limit: int = LIMIT, fallback: Fallback | None = None) -> None:
        self._store = Store(folder, limit)
        self._fallback = fallback or Fallback()
        self.reused: list[Reuse] = []

    def attach(self, optimization: Any) -> None:
        """Make one pass of a pipeline look here first; only this instance changes."""
        if type(optimization) is RuntimeCalibrationPass:
            self._attach_calibration(optimization)
        elif isinstance(optimization, ExponentSearchPass):
            self._attach_search(optimization)
        elif isinstance(optimization, TrainingBasedPass):
            for name in _PER_BLOCK:
                if hasattr(optimization, name):
                    self._attach_training(optimization, name)

    def _attach_calibration(self, optimization: Any) -> None:
        optimize = optimization.optimize

        def remembering(
            graph: Any,
            dataloader: Sequence[Any],
            executor: Any,
            calib_steps: int,
            collate_fn: Any = None,
            **others: Any,
        ) -> None:
            ops = graph.topological_sort()
            inputs = (dataloader, calib_steps, collate_fn, optimization._override)
            methods = (optimization._method, optimization._method_per_layer)
            self._remember(
                optimization,
                ops,
                executor._device,
                ("calibration", *inputs, *methods, list(graph.inputs), list(graph.outputs)),
                lambda: optimize(
                    graph=graph,
                    dataloader=dataloader,
                    executor=executor,
                    calib_steps=calib_steps,
                    collate_fn=collate_fn,
                    **others,
                ),
            )

        override(optimization, "optimize", remembering)

    def _attach_search(self, optimization: ExponentSearchPass) -> None:
        optimize = optimization.optimize

        def remembering(graph: Any, executor: Any, **others: Any) -> None:
            self._remember(
                optimization,
                graph.topological_sort(),
                executor._device,
                ("exponents", optimization.given, list(graph.inputs), list(graph.outputs)),
                lambda: optimize(graph=graph, executor=executor, **others),
            )

        override(optimization, "optimize", remembering)

    def _attach_training(self, optimization: Any, method: str) -> None:
        train = getattr(optimization, method)

        def remembering(*, block: Any, executor: Any, **given: Any) -> tuple[float, float]:
            # The graph comes along so that variables can be looked up in it.
            data = {name: value for name, value in given.items() if name != "graph"}
            before, after = self._remember(
                optimization,
                block.rps,
                executor._device,
                (method, type(optimization).__name__, _parameters(optimization), data),
                lambda: train(block=block, executor=executor, **given),
            )
            return float(before), float(after)

        override(optimization, method, remembering)

    def _remember(
        self,
        optimization: Any,
        ops: Sequence[Any],
        device: str,
        inputs: tuple[Any, ...],
        compute: Callable[[], Any],
    ) -> Any:
        """Return what ``compute`` returns, and leave the ops as it would."""
        fallback, name = self._fallback, optimization.name
        if fallback.is_plain:
            # What plain esp-ppq is to find is not taken from the fast engine.
            return compute()

        def look_up() -> _Entry:
            entry = _Entry.of(ops, device, inputs)
            kept = None if entry.key is None else self._store.get(entry.key)
            if kept is not None and entry.state.fits(_part(kept, _CHANGE)):
                entry.state.apply(_part(kept, _CHANGE))
                if drawn := _part(kept, _RANDOM):
                    restore_random_state(drawn)
                self.reused.append(Reuse(name, float(kept["seconds"])))
                entry.result = tuple(kept["result"])
                entry.line = str(kept.get(_LINE, ""))
            elif entry.key is not None:
                entry.before, entry.drawn_before = entry.state.arrays(), random_state()
            return entry

        entry = fallback.attempt(
            REUSE,
            look_up,
            lambda: None,
            lambda: str(name),
            lambda: state_of_ops(ops).restore,
        )
        if entry is not None and entry.result is not None:
            if entry.line:
                print(entry.line)
            return entry.result
        known, started = len(fallback.records), time.perf_counter()
        result = compute()
        seconds = time.perf_counter() - started
        # What plain esp-ppq did in this iteration is not kept as the fast engine's.
        if entry is not None and entry.key is not None and len(fallback.records) == known:
            fallback.attempt(
                REUSE,
                lambda: self._keep(entry, result, seconds),
                lambda: None,
                lambda: str(name),
            )
        return result

    def _keep(self, entry: _Entry, result: Any, seconds: float) -> None:
        changed = difference(entry.before, entry.state.arrays())
        if changed is None or entry.key is None:
            return
        drawn = random_state() if difference(entry.drawn_before, random_state()) else {}
        self._store.put(
            entry.key,
            {
                "seconds": np.array(seconds),
                "result": np.array(() if result is None else result, dtype=np.float64),
                _LINE: np.array(getattr(result, "line", "")),
                **{_CHANGE + name: value for name, value in changed.items()},
                **{_RANDOM + name: value for name, value in drawn.items()},
            },
        )


@dataclass
class _Entry:
    """What is looked up and kept for one call.

    Attributes:
        key: None where the inputs cannot be told from others.
        state: of the ops.
        before: their arrays.
        drawn_before: the state of the random generators.
        result: of the call; None where it is not known.
        line: that the call printed about it, where it is to be read again.
    """

    key: str | None
    state: State
    before: Arrays
    drawn_before: Arrays
    result: Any = None
    line: str = ""

    @classmethod
    def of(cls, ops: Sequence[Any], device: str, inputs: tuple[Any, ...]) -> _Entry:
        """Digest the state that a call begins with."""
        digest, state = Digest(), State(ops, device)
        try:
            digest.add(environment(), torch.get_num_threads(), device, inputs, random_state())
            add_ops(digest, ops)
        except UndigestibleError:
            return cls(None, state, {}, {})
        return cls(digest.hex(), state, {}, {})


_WHICH_BLOCKS = ("name", "interested_layers", "collecting_device", "block_size")


def _parameters(optimization: Any) -> dict[str, Any]:
    """Return what decides how a block is trained, not which blocks there are."""
    return {
        name: value
        for name, value in vars(optimization).items()
        # Methods that were replaced on the instance are no parameters.
        if not name.startswith("_")
        and name not in _WHICH_BLOCKS
        and not hasattr(type(optimization), name)
    }


def _part(arrays: Arrays, prefix: str) -> Arrays:
    return {name[len(prefix) :]: value for name, value in arrays.items() if name.startswith(prefix)}


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
