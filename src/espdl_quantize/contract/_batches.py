"""Reads the user's calibration loader, once, and checks every batch that comes out of it."""

from __future__ import annotations

import contextlib
import inspect
from collections.abc import Callable, Generator, Sequence
from typing import TYPE_CHECKING, Any, ClassVar

from espdl_quantize.contract._blame import first_and_last_line, located
from espdl_quantize.contract._load import Contract
from espdl_quantize.contract.batch import Batch
from espdl_quantize.core import ContractError, OutputFolderError

if TYPE_CHECKING:
    from torch import Tensor

FEW_SAMPLES, ADVISED_SAMPLES = 64, 256
"""Calibration samples below which there is a warning, and how many it advises."""

FEW = "calibration reads only"
"""How that warning begins."""


def count_samples(batches: Sequence[Batch]) -> int:
    """Return how many samples some batches hold."""
    return sum(batch.sample_count for batch in batches)


def warn_of_few(samples: int) -> list[str]:
    """Return a warning where calibration reads few samples, else none.

    Args:
        samples: in the first calib_steps batches.
    """
    if samples >= FEW_SAMPLES:
        return []
    counted = f"{samples} sample{'' if samples == 1 else 's'}"
    return [
        f"{FEW} {counted} (the first calib_steps batches): fewer than {FEW_SAMPLES} give scales "
        f"that depend on the draw; let the loader give {ADVISED_SAMPLES} or more, and set "
        "calib_steps to its number of batches"
    ]


class Keeper:
    """Keeps batches in memory.

    Attributes:
        memory_limit: bytes of batches to read at most, beyond those that calibration and analysis
            need.
        in_memory: bytes kept so far.
    """

    memory_limit: ClassVar[int] = 2 << 30

    def __init__(self) -> None:
        self.in_memory = 0

    def keep(self, batch: Batch) -> Batch:
        """Return what is kept of a batch, which is equal to it.

        Raises:
            OSError: it cannot be written.
        """
        self.in_memory += batch.nbytes
        return batch

    @property
    def is_full(self) -> bool:
        """Whether no more than calibration and analysis need is to be read."""
        return self.in_memory > self.memory_limit


def read_batches(
    contract: Contract,
    *,
    limit: int | None = None,
    on_batch: Callable[[int, int | None], None] | None = None,
    keeper: Keeper | None = None,
) -> list[Batch]:
    """Read the calibration batches, collated and checked.

    They are read once and kept, because esp-ppq iterates its loader many times and takes the float
    targets and the quantized inputs of its training passes from different iterations: a shuffling
    loader would pair different samples.

    Args:
        contract: whose loader is read.
        limit: how many batches to read at most; None reads the loader to its end, as esp-ppq's
            training passes do, or until the keeper is full.
        on_batch: called after each batch with its number and the loader's length, if it has one.
        keeper: keeps the batches; by default in memory.

    Raises:
        OutputFolderError: what is kept cannot be written.
        ContractError: the loader raises, ends before calib_steps, or yields what the model cannot
            take.
    """
    config = contract.config
    needed = config.calib_steps if limit is None else min(limit, config.calib_steps)
    # The analyses read one batch more than analyse_steps says.
    wanted = max(config.calib_steps, config.analyse_steps + 1)
    batches: list[Batch] = []
    keeper = keeper or Keeper()
    try:
        loader = contract.call("create_calib_dataloader")
        with contract.entered():
            total = len(loader) if hasattr(loader, "__len__") else None
        if total:
            # Known before anything is read, so that a check of one batch finds it, too.
            _check_count(total, config.calib_steps)
        with contextlib.closing(_iterated(loader, contract)) as raws:
            for raw in raws:
                batch = _as_inputs(contract.collate(raw), contract)
                if batches:
                    batch = _named_alike(batch, len(batches), batches[0])
                batches.append(_kept(batch, keeper))
                if on_batch is not None:
                    on_batch(len(batches), total)
                full = keeper.is_full and len(batches) >= wanted
                if full or (limit is not None and len(batches) >= limit):
                    break
    except (ContractError, OutputFolderError):
        raise
    except Exception as error:
        fault = ContractError(
            f"the calibration loader raised {type(error).__name__} at batch {len(batches)}: "
            f"{first_and_last_line(error)}",
            "fix create_calib_dataloader(), its dataset or collate_fn()",
        )
        raise located(fault, contract, raised=error) from error
    if not batches:
        raise ContractError("the calibration loader is empty: not one batch", _hint_empty(contract))
    if len(batches) < needed:
        _check_count(len(batches), config.calib_steps)
    for number, batch in enumerate(batches):
        _check(batch, number, contract)
    return batches


def _iterated(loader: Any, contract: Contract) -> Generator[Any, None, None]:
    """Yield what the loader does; each step runs the contract's code, its end included."""
    with contract.entered():
        iterator = iter(loader)
    try:
        while True:
            with contract.entered():
                try:
                    raw = next(iterator)
                except StopIteration:
                    return
            yield raw
    finally:
        # A generator that is left early runs its last lines where it ran the first, and worker
        # processes end with the iterator.
        with contract.entered(), contextlib.suppress(Exception):
            if inspect.isgenerator(iterator):
                iterator.close()
            del iterator


def _kept(batch: Batch, keeper: Keeper) -> Batch:
    try:
        return keeper.keep(batch)
    except OSError as error:
        raise OutputFolderError(
            f"a calibration batch of {batch.nbytes} bytes cannot be written to the disk: "
            f"{error.strerror or error}",
            "free some space, or set TMPDIR to a folder with more",
        ) from error


def _check_count(count: int, wanted: int) -> None:
    if count < wanted:
        raise ContractError(
            f"the calibration loader yields {count} batches, calib_steps is {wanted}",
            f"give more samples, or set calib_steps to {count}",
        )


def _hint_empty(contract: Contract) -> str:
    try:
        is_unfilled = "TODO" in inspect.getsource(contract.module.create_calib_dataloader)
    except (OSError, TypeError):
        is_unfilled = False
    if is_unfilled:
        return "fill in the TODO in create_calib_dataloader()"
    return "see that create_calib_dataloader() finds its samples"


def _hint_inputs(contract: Contract) -> str:
    """Say who has to drop the labels: a collate_fn that is there already, or one to be written."""
    if contract.has_collate_fn:
        return "let collate_fn(batch) return the model's inputs alone, without labels"
    return "define collate_fn(batch) in the contract to return the model's inputs, without labels"


def _as_inputs(batch: Any, contract: Contract) -> Batch:
    """Return a batch on the contract's device, of floats and conditions."""
    device = contract.config.device
    try:
        return Batch.of(batch).map(lambda tensor: _as_float(tensor).to(device))
    except TypeError as error:
        source = "what collate_fn() returned" if contract.has_collate_fn else "a calibration batch"
        raise ContractError(f"{source} is {error}", _hint_inputs(contract)) from error


def _named_alike(batch: Batch, number: int, first: Batch) -> Batch:
    """Return a batch with its inputs in the order of the first batch's.

    Raises:
        ContractError: their names are others.
    """
    if batch.names == first.names:
        return batch
    if batch.names is not None and first.names is not None:
        names, expected = sorted(batch.names), sorted(first.names)
        if names == expected:
            tensors = batch.by_name(first.names).values()
            return Batch(tuple(tensors), first.names)
        difference = f"names its tensors {names}, batch 0 names them {expected}"
    elif first.names is None:
        difference = "is a dict of tensors, batch 0 is none"
    else:
        difference = "is no dict of tensors, batch 0 is one"
    raise ContractError(
        f"calibration batch {number} {difference}",
        "let every batch have the same inputs, under the same names",
    )


def _as_float(tensor: Tensor) -> Tensor:
    # esp-ppq's own collate function casts in the same way and leaves conditions alone.
    is_kept = tensor.dtype.is_floating_point or str(tensor.dtype) == "torch.bool"
    return tensor if is_kept else tensor.float()


def _check(batch: Batch, number: int, contract: Contract) -> None:
    shapes = contract.config.input_shapes
    if len(batch.tensors) != len(shapes):
        after = " after collate_fn()" if contract.has_collate_fn else ""
        raise ContractError(
            f"calibration batch {number} has {len(batch.tensors)} tensors{after}, input_shape has "
            f"{len(shapes)}",
            _hint_inputs(contract),
        )
    for tensor, shape in zip(batch.tensors, shapes, strict=True):
        actual = list(tensor.shape)
        if actual[1:] != shape:
            hint = "make input_shape and the loader agree; input_shape is without the batch"
            if shape[:1] == [1] and actual[1:] == shape[1:]:
                hint = (
                    f"input_shape is without the batch: set it to {shape[1:]}; if its 1 is a "
                    "channel, add that axis to the images, by unsqueeze(1)"
                )
            raise ContractError(
                f"calibration batch {number} has shape {actual}, expected [batch, "
                f"{', '.join(map(str, shape))}] from input_shape {shape}",
                hint,
            )
        if not bool(tensor.isfinite().all()):
            raise ContractError(
                f"calibration batch {number} holds NaN or infinite values",
                "clean the samples or their preprocessing",
            )
