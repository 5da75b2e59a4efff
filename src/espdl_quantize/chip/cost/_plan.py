"""Where ESP-DL's greedy memory manager puts the activations, and how much RAM that takes.

The runtime plans before it runs: it walks over the ops in their order and gives each output the
smallest free chunk that holds it, or grows the end of the arena. The rules here are those of its
memory manager (ESP-DL 3.3, ``dl_memory_manager_greedy.cpp``), worked out from its source: which
chunk is taken depends on ties and on the order of frees, so the order of every step counts.
"""

from __future__ import annotations

import bisect
import math
from collections.abc import Iterable
from dataclasses import dataclass, field

from espdl_quantize.chip._facts import OVERWRITES_INPUT, SHARES_INPUT
from espdl_quantize.chip._model import ChipModel, Node
from espdl_quantize.core import EspdlQuantizeError

ALIGNMENT = 16
_BYTES = {
    "int8": 1,
    "uint8": 1,
    "bool": 1,
    "int16": 2,
    "uint16": 2,
    "int32": 4,
    "uint32": 4,
    "float32": 4,
    "int64": 8,
    "uint64": 8,
    "float64": 8,
}


class UnplannableModelError(EspdlQuantizeError):
    """A model's activations cannot be laid out: a shape is missing, or the graph is broken."""


@dataclass(frozen=True)
class Placement:
    """Where one activation lies.

    Attributes:
        name: the tensor's name.
        size: its bytes, before rounding up to 16.
        first: the number of the op that writes it; 0 for an input of the model.
        last: the number of the last op that reads it; None where it is never freed.
        offset: from the start of its memory.
        internal: whether it lies in internal RAM rather than in PSRAM (or the only RAM).
        shared_with: the tensor whose bytes it uses, where an op works in place.
    """

    name: str
    size: int
    first: int
    last: int | None
    offset: int
    internal: bool
    shared_with: str | None


@dataclass(frozen=True)
class MemoryPlan:
    """The activations' memory.

    Attributes:
        arena: bytes of the arena; with internal RAM given, those of the PSRAM part.
        internal: bytes of internal RAM that are used.
        live: bytes that are in use while each op runs, in the order of the ops.
        peak_layer: the number of the op whose output made the arena as large as it is.
        placements: of every activation, in the order in which the runtime knows them.
    """

    arena: int
    internal: int
    live: tuple[int, ...]
    peak_layer: int
    placements: tuple[Placement, ...]

    @property
    def total(self) -> int:
        """Return the bytes of both memories."""
        return self.arena + self.internal

    def at(self, layer: int) -> list[Placement]:
        """Return what is in use while an op runs, largest first, without sharers."""
        held = [
            place
            for place in self.placements
            if place.shared_with is None
            and place.first <= layer
            and (place.last is None or layer <= place.last)
        ]
        return sorted(held, key=lambda place: -place.size)


@dataclass(eq=False)
class _Tensor:
    name: str
    size: int
    begin: int
    end: int = -1
    leader: _Tensor | None = None
    overwriter: _Tensor | None = None
    sharer: _Tensor | None = None
    offset: int = 0
    internal: bool = False

    @property
    def root(self) -> _Tensor:
        """The tensor whose bytes it uses."""
        tensor = self
        while tensor.leader is not None:
            tensor = tensor.leader
        return tensor

    def live_until(self, step: int) -> None:
        if self.leader is not None:
            self.leader.live_until(step)
            self.end = self.leader.end
        elif step == -1:
            self.end = -1
        else:
            self.end = max(self.end, step)

    def follow(self, leader: _Tensor) -> None:
        self.leader = leader
        if self.end == -1 or leader.end < self.end:
            leader.live_until(self.end)

    def release_overwriter(self) -> None:
        """Give a tensor that would overwrite this one its own bytes: this one is read again."""
        if self.overwriter is not None:
            self.overwriter.leader = None
            self.overwriter = None


@dataclass(eq=False)
class _Chunk:
    size: int
    offset: int
    tensor: _Tensor | None = None


@dataclass
class _Arena:
    """One memory: all of its chunks by address, and the free ones by size."""

    limit: int | None = None
    chunks: list[_Chunk] = field(default_factory=list)
    free: list[_Chunk] = field(default_factory=list)
    grown_at: int = 0

    def __post_init__(self) -> None:
        if self.limit:
            self.chunks = [_Chunk(self.limit, 0)]
            self.free = list(self.chunks)

    @property
    def size(self) -> int:
        return self.chunks[-1].offset + self.chunks[-1].size if self.chunks else 0

    def _add_free(self, chunk: _Chunk) -> None:
        # A new chunk comes behind those of its size: the runtime appends it and sorts stably.
        self.free.insert(
            bisect.bisect_right([other.size for other in self.free], chunk.size), chunk
        )

    def put(self, tensor: _Tensor, step: int) -> bool:
        size = -(-tensor.size // ALIGNMENT) * ALIGNMENT
        fitting = next((chunk for chunk in self.free if chunk.size >= tensor.size), None)
        if fitting is not None:
            self.free.remove(fitting)
            if fitting.size > size:
                rest = _Chunk(fitting.size - size, fitting.offset + size)
                fitting.size = size
                self.chunks.insert(self.chunks.index(fitting) + 1, rest)
                self._add_free(rest)
        elif self.limit is not None:
            return False
        else:
            self.grown_at = step
            if self.chunks and self.chunks[-1].tensor is None:
                fitting = self.chunks[-1]
                self.free.remove(fitting)
                fitting.size = size
            else:
                fitting = _Chunk(size, self.size)
                self.chunks.append(fitting)
        fitting.tensor = tensor
        tensor.offset = fitting.offset
        return True

    def take_back(self, tensor: _Tensor) -> None:
        place = next(
            (number for number, chunk in enumerate(self.chunks) if chunk.tensor is tensor), None
        )
        if place is None:
            return
        chunk = self.chunks[place]
        chunk.tensor = None
        for beside in (place + 1, place - 1):
            if 0 <= beside < len(self.chunks) and self.chunks[beside].tensor is None:
                merged = self.chunks.pop(beside)
                self.free.remove(merged)
                chunk.size += merged.size
                chunk.offset = min(chunk.offset, merged.offset)
        self._add_free(chunk)


def parameter_bytes(model: ChipModel) -> int:
    """Return the bytes of weights, biases and tables, which ESP-DL copies into RAM by default."""
    return sum(
        -(-math.prod(tensor.shape or (1,)) * _BYTES[tensor.dtype] // ALIGNMENT) * ALIGNMENT
        for tensor in model.constants.values()
    )


def plan_memory(model: ChipModel, *, internal_limit: int = 0) -> MemoryPlan:
    """Lay the activations out as the runtime does.

    Args:
        model: what was read of the file.
        internal_limit: bytes of internal RAM that the runtime may use beside PSRAM
            (``max_internal_size``); 0 puts all into one memory, as the runtime does by default.

    Raises:
        UnplannableModelError: an activation has no shape, or is read before it is written.
    """
    tensors = _lifetimes(model)
    steps = len(model.nodes)
    own = [tensor for tensor in tensors if tensor.leader is None]
    internal = None
    if internal_limit > ALIGNMENT:
        internal = _Arena(internal_limit // ALIGNMENT * ALIGNMENT)
    main = _Arena()
    internal_top = 0
    begins = _by_step(((tensor.begin, tensor) for tensor in own), steps)
    ends = _by_step(((tensor.end, tensor) for tensor in own), steps)
    live: list[int] = []
    held = 0
    for step in range(steps):
        for tensor in ends[step]:
            (internal if internal and tensor.internal else main).take_back(tensor)
            held -= tensor.size
        for tensor in begins[step]:
            if internal is not None and internal.put(tensor, step):
                tensor.internal = True
                internal_top = max(internal_top, tensor.offset + tensor.size)
            else:
                main.put(tensor, step)
            held += tensor.size
        live.append(held)
    return MemoryPlan(
        arena=main.size,
        internal=internal_top,
        live=tuple(live),
        peak_layer=main.grown_at,
        placements=tuple(map(_placement, tensors)),
    )


def _placement(tensor: _Tensor) -> Placement:
    root = tensor.root
    return Placement(
        name=tensor.name,
        size=tensor.size,
        first=tensor.begin,
        last=None if root.end == -1 else root.end - 1,
        offset=root.offset,
        internal=root.internal,
        shared_with=None if root is tensor else root.name,
    )


def _by_step(pairs: Iterable[tuple[int, _Tensor]], steps: int) -> list[list[_Tensor]]:
    by_step: list[list[_Tensor]] = [[] for _ in range(steps)]
    for step, tensor in pairs:
        if 0 <= step < steps:
            by_step[step].append(tensor)
    return by_step


def _lifetimes(model: ChipModel) -> list[_Tensor]:
    """Work out from when to when each activation lives, and which share their bytes."""
    tensors: dict[str, _Tensor] = {}
    outputs = set(model.outputs)
    # The runtime numbers activations as the ops mention them; ties in the plan go by that.
    mentioned: dict[str, None] = {}
    for name in model.inputs:
        if name not in model.constants:
            tensors[name] = _Tensor(name, _size(model, name), 0)
    for step, node in enumerate(model.nodes):
        read = [_activation(tensors, node, name) for name in node.inputs if _varies(model, name)]
        mentioned.update(dict.fromkeys(tensor.name for tensor in read))
        mentioned.update(dict.fromkeys(node.outputs))
        for tensor in read:
            tensor.release_overwriter()
            if tensor.name not in outputs:
                tensor.live_until(step + 1)
        for name in node.outputs:
            if name in tensors:
                raise UnplannableModelError(
                    f"the tensor {name!r} is written twice, by op {node.name!r} again"
                )
            tensors[name] = _Tensor(name, _size(model, name), step)
        if len(node.outputs) == 1:
            _work_in_place(node, tensors[node.outputs[0]], read, outputs)
    mentioned.update(dict.fromkeys(tensors))
    return [tensors[name] for name in mentioned]


def _work_in_place(node: Node, output: _Tensor, read: list[_Tensor], kept: set[str]) -> None:
    shares, overwrites = node.op_type in SHARES_INPUT, node.op_type in OVERWRITES_INPUT
    if not (shares or overwrites):
        return
    leader = next(
        (tensor for tensor in read if tensor.size >= output.size and tensor.name not in kept), None
    )
    if leader is None:
        return
    sharer = leader.sharer
    leader.release_overwriter()
    output.follow(leader)
    if shares:
        leader.sharer = output
    elif sharer is not None:
        # The bytes are still needed under their other name. The leader's end stays moved.
        output.leader = None
    else:
        leader.overwriter = output


def _varies(model: ChipModel, name: str) -> bool:
    return bool(name) and name not in model.constants


def _activation(tensors: dict[str, _Tensor], node: Node, name: str) -> _Tensor:
    if name not in tensors:
        raise UnplannableModelError(
            f"op {node.name!r} ({node.op_type}) reads {name!r}, which nothing has written before it"
        )
    return tensors[name]


def _size(model: ChipModel, name: str) -> int:
    tensor = model.values.get(name)
    if tensor is None or tensor.shape is None:
        raise UnplannableModelError(
            f"the file has no shape of the activation {name!r}",
            "export the model again; esp-ppq writes a shape for every activation",
        )
    if tensor.dtype not in _BYTES:
        raise UnplannableModelError(f"the activation {name!r} is of type {tensor.dtype}")
    return math.prod(tensor.shape) * _BYTES[tensor.dtype]
