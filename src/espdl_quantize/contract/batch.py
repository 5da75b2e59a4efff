"""One calibration batch: the model's inputs, in whichever of three forms they came."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from itertools import islice
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from torch import Tensor


@dataclass(frozen=True, eq=False)
class Batch:
    """The tensors of one batch, one per input of the model.

    Two batches are equal only where they are one object: torch has no single answer for tensors.

    Attributes:
        tensors: at least one, in the order in which the loader gave them.
        names: of the inputs, in the order of ``tensors``; None where the batch came without names
            and the order of the graph's inputs counts.
        axes: of each tensor, the axis that holds the samples; None for a tensor that is the same
            for all of them. Without any, all hold them along their first axis.
    """

    tensors: tuple[Tensor, ...]
    names: tuple[str, ...] | None = None
    axes: tuple[int | None, ...] | None = None

    def __post_init__(self) -> None:
        if not self.tensors:
            raise ValueError("a batch has no tensor, expected one per input of the model")
        if self.names is not None and len(self.names) != len(self.tensors):
            raise ValueError(f"a batch has {len(self.tensors)} tensors and {len(self.names)} names")
        if self.axes is not None and len(self.axes) != len(self.tensors):
            raise ValueError(f"a batch has {len(self.tensors)} tensors and {len(self.axes)} axes")

    @classmethod
    def of(cls, value: Any) -> Batch:
        """Return the batch that a tensor, a list or tuple of tensors, or a dict by name is.

        Raises:
            TypeError: it is none of them, or holds anything but tensors.
            ValueError: it is empty.
        """
        import torch

        if isinstance(value, Batch):
            return value
        names = None
        if isinstance(value, Mapping):
            names, held = tuple(map(str, value)), tuple(value.values())
        elif isinstance(value, (list, tuple)):
            held = tuple(value)
        else:
            held = (value,)
        if all(isinstance(tensor, torch.Tensor) for tensor in held):
            return cls(held, names)
        raise TypeError(f"{_describe(value)}, expected a tensor or a list of tensors")

    @property
    def sample_axes(self) -> tuple[int | None, ...]:
        """Of each tensor, the axis that holds the samples; None where it is one for all."""
        return (0,) * len(self.tensors) if self.axes is None else self.axes

    @property
    def sample_count(self) -> int:
        """How many samples it holds."""
        for tensor, axis in zip(self.tensors, self.sample_axes, strict=True):
            if axis is not None:
                return int(tensor.shape[axis])
        return 1

    @property
    def nbytes(self) -> int:
        """The bytes of its tensors."""
        return sum(int(tensor.nbytes) for tensor in self.tensors)

    def map(self, change: Callable[[Tensor], Tensor]) -> Batch:
        """Return a batch with each tensor changed, under the same names and axes."""
        return replace(self, tensors=tuple(change(tensor) for tensor in self.tensors))

    def _cut(self, change: Callable[[Tensor, int], Tensor]) -> Batch:
        """Return a batch with each tensor that holds samples changed along their axis."""
        pairs = zip(self.tensors, self.sample_axes, strict=True)
        cut = (tensor if axis is None else change(tensor, axis) for tensor, axis in pairs)
        return replace(self, tensors=tuple(cut))

    def first(self, count: int) -> Batch:
        """Return the first samples; they share their memory with this batch."""
        return self._cut(
            lambda tensor, axis: tensor.narrow(axis, 0, min(count, tensor.shape[axis]))
        )

    def samples(self) -> Iterator[Batch]:
        """Yield each sample as a batch of one."""
        for place in range(self.sample_count):
            yield self._cut(lambda tensor, axis, place=place: tensor.narrow(axis, place, 1))  # type: ignore[misc]

    def take(self, places: Sequence[int] | Tensor) -> Batch:
        """Return the samples at some places, in their order; they are copied."""
        import torch

        index = torch.as_tensor(places, dtype=torch.int64)
        return self._cut(lambda tensor, axis: tensor.index_select(axis, index.to(tensor.device)))

    @staticmethod
    def joined(batches: Sequence[Batch]) -> Batch:
        """Return one batch of the samples of several; at least one, of the same inputs.

        Raises:
            ValueError: an input that is the same for all samples differs between them.
        """
        import torch

        first = batches[0]
        tensors = []
        for number, axis in enumerate(first.sample_axes):
            parts = [batch.tensors[number] for batch in batches]
            if axis is not None:
                tensors.append(torch.cat(parts, dim=axis))
                continue
            if any(not torch.equal(part, parts[0]) for part in parts[1:]):
                name = repr(first.names[number]) if first.names else f"number {number}"
                raise ValueError(f"input {name}, which holds no samples, differs between batches")
            tensors.append(parts[0])
        return replace(first, tensors=tuple(tensors))

    def by_name(self, graph_inputs: Sequence[str]) -> dict[str, Tensor]:
        """Return the tensors by the names of a graph's inputs, in the graph's order.

        Names that the graph does not have come last, for the executor to refuse.

        Raises:
            ValueError: the batch has no names and another number of tensors than the graph inputs.
        """
        if self.names is None:
            return dict(zip(graph_inputs, self.tensors, strict=True))
        own = dict(zip(self.names, self.tensors, strict=True))
        return {name: own[name] for name in graph_inputs if name in own} | own

    def axes_by_name(self, graph_inputs: Sequence[str]) -> list[int | None]:
        """Return the axes that hold the samples, in the order of :meth:`by_name`."""
        if self.names is None:
            return list(self.sample_axes)
        own = dict(zip(self.names, self.sample_axes, strict=True))
        return list(({name: own[name] for name in graph_inputs if name in own} | own).values())

    def as_esp_ppq(self) -> Any:
        """Return what esp-ppq's executor and loaders take: a tensor, or a list or dict of them."""
        if self.names is not None:
            return dict(zip(self.names, self.tensors, strict=True))
        return self.tensors[0] if len(self.tensors) == 1 else list(self.tensors)


def first_samples(batches: Sequence[Batch], count: int) -> list[Batch]:
    """Return the first samples of some batches, each as a batch of one."""
    samples = (sample for batch in batches for sample in batch.samples())
    return [sample for sample, _ in zip(samples, range(count), strict=False)]


def spread_samples(batches: Sequence[Batch], count: int) -> list[Batch]:
    """Return samples from all over some batches, each as a batch of one.

    The first ones may be alike and say little: of a recurrent model's, all have the state of
    zeros. So the batches are those in the middles of equal parts, with another place in each; where
    more samples are asked for than there are batches, each gives several.
    """
    parts = min(count, len(batches))
    chosen = [batches[(2 * part + 1) * len(batches) // (2 * parts)] for part in range(parts)]
    if parts == count:
        return [
            next(islice(batch.samples(), part % batch.sample_count, None))
            for part, batch in enumerate(chosen)
        ]
    each = -(-count // parts) if parts else 0
    samples = [sample for batch in chosen for sample in islice(batch.samples(), each)]
    return samples[:count] if len(samples) >= count else first_samples(batches, count)


def _describe(value: Any) -> str:
    name = type(value).__name__
    if isinstance(value, Mapping):
        value = list(value.values())
    elif not isinstance(value, (list, tuple)):
        return f"a {name}"
    held = ", ".join(type(item).__name__ for item in value[:3])
    return f"a {name} of {held}{', ...' if len(value) > 3 else ''}"
