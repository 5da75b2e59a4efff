"""One calibration batch: the model's inputs, in whichever of three forms they came."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from torch import Tensor


@dataclass(frozen=True, eq=False)
class Batch:
    """The tensors of one batch, one per input of the model, the samples along their first axis.

    Two batches are equal only where they are one object: torch has no single answer for tensors.

    Attributes:
        tensors: at least one, in the order in which the loader gave them.
        names: of the inputs, in the order of ``tensors``; None where the batch came without names
            and the order of the graph's inputs counts.
    """

    tensors: tuple[Tensor, ...]
    names: tuple[str, ...] | None = None

    def __post_init__(self) -> None:
        if not self.tensors:
            raise ValueError("a batch has no tensor, expected one per input of the model")
        if self.names is not None and len(self.names) != len(self.tensors):
            raise ValueError(f"a batch has {len(self.tensors)} tensors and {len(self.names)} names")

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
    def sample_count(self) -> int:
        """How many samples it holds."""
        return len(self.tensors[0])

    @property
    def nbytes(self) -> int:
        """The bytes of its tensors."""
        return sum(int(tensor.nbytes) for tensor in self.tensors)

    def map(self, change: Callable[[Tensor], Tensor]) -> Batch:
        """Return a batch with each tensor changed, under the same names."""
        return Batch(tuple(change(tensor) for tensor in self.tensors), self.names)

    def first(self, count: int) -> Batch:
        """Return the first samples; they share their memory with this batch."""
        return self.map(lambda tensor: tensor[:count])

    def samples(self) -> Iterator[Batch]:
        """Yield each sample as a batch of one."""
        for place in range(self.sample_count):
            yield self.map(lambda tensor, place=place: tensor[place : place + 1])  # type: ignore[misc]

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

    def as_esp_ppq(self) -> Any:
        """Return what esp-ppq's executor and loaders take: a tensor, or a list or dict of them."""
        if self.names is not None:
            return dict(zip(self.names, self.tensors, strict=True))
        return self.tensors[0] if len(self.tensors) == 1 else list(self.tensors)


def first_samples(batches: Sequence[Batch], count: int) -> list[Batch]:
    """Return the first samples of some batches, each as a batch of one."""
    samples = (sample for batch in batches for sample in batch.samples())
    return [sample for sample, _ in zip(samples, range(count), strict=False)]


def _describe(value: Any) -> str:
    name = type(value).__name__
    if isinstance(value, Mapping):
        value = list(value.values())
    elif not isinstance(value, (list, tuple)):
        return f"a {name}"
    held = ", ".join(type(item).__name__ for item in value[:3])
    return f"a {name} of {held}{', ...' if len(value) > 3 else ''}"
