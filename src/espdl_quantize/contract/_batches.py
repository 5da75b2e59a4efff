"""Reads the user's calibration loader, once, and checks every batch that comes out of it."""

from __future__ import annotations

import contextlib
import inspect
import itertools
from collections.abc import Callable, Generator, Sequence
from dataclasses import replace
from typing import TYPE_CHECKING, Any, ClassVar, Literal

from espdl_quantize.contract._blame import first_and_last_line, located
from espdl_quantize.contract._config import FEWEST_STEPS, InputSpec
from espdl_quantize.contract._load import Contract
from espdl_quantize.contract.batch import Batch
from espdl_quantize.contract.model_file import read_model_file
from espdl_quantize.core import ContractError, OutputFolderError, remedy_for

if TYPE_CHECKING:
    from torch import Tensor

FEW_SAMPLES, ADVISED_SAMPLES = 64, 256
"""Calibration samples below which there is a warning, and how many it advises."""
FEW_FOR_KL = 128
"""Those below which kl's scales follow the draw. Measured on the demo, five draws each without
training: top-1 from 63.1 to 75.1 with 64 samples, from 73.5 to 74.2 with 128; minmax is steady."""

Purpose = Literal["calibration", "score"]
_LOADERS: dict[Purpose, str] = {
    "calibration": "create_calib_dataloader",
    "score": "create_score_dataloader",
}

_FEW_INPUTS = 6
"""Up to so many, every order of the inputs is tried."""

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


def note_of_few_for_kl(samples: int) -> list[str]:
    """Return a note where kl, and no other algorithm, has too few samples, else none.

    Args:
        samples: in the first calib_steps batches.
    """
    if not FEW_SAMPLES <= samples < FEW_FOR_KL:
        return []
    return [
        f"{FEW} {samples} samples (the first calib_steps batches): kl, which the baseline and the "
        f"sweep calibrate with, gives scales that depend on the draw below {FEW_FOR_KL}; let the "
        f"loader give {ADVISED_SAMPLES} or more, or begin with minmax"
    ]


def note_of_repeats(batches: int, calib_steps: int) -> list[str]:
    """Return a note where a loader is shorter than calib_steps, else none.

    esp-ppq's calibration then begins again at the loader's first batch.

    Args:
        batches: that the loader yields.
        calib_steps: the contract's.
    """
    if batches >= calib_steps:
        return []
    counted = f"{batches} batch{'' if batches == 1 else 'es'}"
    return [
        f"the calibration loader yields {counted} and calib_steps is {calib_steps}: calibration "
        "reads the same samples again, which adds nothing; let the loader give more, or set "
        f"calib_steps to {max(batches, FEWEST_STEPS)}"
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
    purpose: Purpose = "calibration",
) -> list[Batch]:
    """Read the calibration batches, or those of a score without labels, collated and checked.

    They are read once and kept, because esp-ppq iterates its loader many times and takes the float
    targets and the quantized inputs of its training passes from different iterations: a shuffling
    loader would pair different samples.

    Args:
        contract: whose loader is read.
        limit: how many batches to read at most; None reads the loader to its end, as esp-ppq's
            training passes do, or until the keeper is full.
        on_batch: called after each batch with its number and the loader's length, if it has one.
        keeper: keeps the batches; by default in memory.
        purpose: which loader is read.

    Raises:
        OutputFolderError: what is kept cannot be written.
        ContractError: the loader raises, is empty, or yields what the model cannot take.
    """
    config = contract.config
    # The analyses read one batch more than analyse_steps says.
    wanted = max(config.calib_steps, config.analyse_steps + 1) if purpose == "calibration" else 1
    function = _LOADERS[purpose]
    order = _Order(contract)
    batches: list[Batch] = []
    keeper = keeper or Keeper()
    try:
        loader = contract.call(function)
        with contract.entered():
            total = len(loader) if hasattr(loader, "__len__") else None
        with contextlib.closing(_iterated(loader, contract)) as raws:
            for raw in raws:
                batch = _as_inputs(contract.collate(raw), contract, order)
                if batches:
                    batch = _named_alike(batch, len(batches), batches[0], purpose)
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
            f"the {purpose} loader raised {type(error).__name__} at batch {len(batches)}: "
            f"{first_and_last_line(error)}",
            remedy_for(error) or f"fix {function}(), its dataset or collate_fn()",
        )
        raise located(fault, contract, raised=error) from error
    if not batches:
        raise ContractError(
            f"the {purpose} loader is empty: not one batch", _hint_empty(contract, function)
        )
    for number, batch in enumerate(batches):
        _check(batch, number, contract, purpose)
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


def _hint_empty(contract: Contract, function: str) -> str:
    try:
        is_unfilled = "TODO" in inspect.getsource(getattr(contract.module, function))
    except (OSError, TypeError):
        is_unfilled = False
    if is_unfilled:
        return f"fill in the TODO in {function}()"
    return f"see that {function}() finds its samples"


def _hint_inputs(contract: Contract) -> str:
    """Say who has to drop the labels: a collate_fn that is there already, or one to be written."""
    if contract.has_collate_fn:
        return "let collate_fn(batch) return the model's inputs alone, without labels"
    return "define collate_fn(batch) in the contract to return the model's inputs, without labels"


def _as_inputs(batch: Any, contract: Contract, order: _Order) -> Batch:
    """Return a batch on the contract's device, of floats and conditions, in the order of its
    inputs."""
    device = contract.config.device
    try:
        inputs = Batch.of(batch).map(lambda tensor: _as_float(tensor).to(device))
    except TypeError as error:
        source = "what collate_fn() returned" if contract.has_collate_fn else "a calibration batch"
        hint = _hint_inputs(contract)
        if type(batch).__module__ == "numpy":
            hint = "give a tensor: torch.from_numpy(batch), in the loader or in collate_fn(batch)"
        raise ContractError(f"{source} is {error}", hint) from error
    inputs = order.of(_as_named(inputs, contract))
    axes = contract.config.batch_axes
    if contract.config.batch_axis == 0 or len(axes) != len(inputs.tensors):
        return inputs
    return replace(inputs, axes=axes)


def _as_named(batch: Batch, contract: Contract) -> Batch:
    """Return a batch under the names of input_shape, and in their order, where it has names.

    Raises:
        ContractError: the batch names others.
    """
    names = contract.config.input_names
    if names is None or batch.names == names:
        return batch
    if batch.names is None:
        # How many there are is counted where all batches are checked.
        return replace(batch, names=names) if len(names) == len(batch.tensors) else batch
    if sorted(batch.names) != sorted(names):
        raise ContractError(
            f"a calibration batch names its tensors {sorted(batch.names)}, input_shape names "
            f"{sorted(names)}",
            "use the names of the model's inputs in both",
        )
    return Batch(tuple(batch.by_name(names).values()), names)


class _Order:
    """Puts dicts into the order of input_shape, where that has no names: the model's own order.

    It is the file's for an ONNX model. The parameters of a torch model are not known before it is
    made: there the shapes decide, where they fit in one other order alone.
    """

    def __init__(self, contract: Contract) -> None:
        self._contract = contract
        self._names: tuple[str, ...] | None = None
        self._is_known = False

    def of(self, batch: Batch) -> Batch:
        """Return a batch in that order; one that is in it, or that cannot be, as it is."""
        if batch.names is None or self._contract.config.input_names is not None:
            return batch
        if not self._is_known:
            self._names, self._is_known = self._known(batch), True
        if self._names is None or sorted(batch.names) != sorted(self._names):
            return batch
        return Batch(tuple(batch.by_name(self._names).values()), self._names)

    def _known(self, batch: Batch) -> tuple[str, ...] | None:
        if self._contract.config.model_type == "onnx":
            try:
                file = read_model_file(self._contract.onnx_path)
            except ContractError:
                # The stage that examines the file names it.
                return None
            return tuple(declared.name for declared in file.inputs)
        specs, names = self._contract.config.inputs, batch.names or ()
        if not 1 < len(specs) == len(names) <= _FEW_INPUTS:
            return None
        shapes = dict(zip(names, (list(each.shape) for each in batch.tensors), strict=True))
        fitting = (
            order
            for order in itertools.permutations(names)
            if all(spec.fits(shapes[name]) for spec, name in zip(specs, order, strict=True))
        )
        # The first permutation is the batch's own order.
        found = list(itertools.islice(fitting, 2))
        return found[0] if found and (len(found) == 1 or found[0] == names) else None


def _named_alike(batch: Batch, number: int, first: Batch, purpose: Purpose) -> Batch:
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
            return replace(batch, tensors=tuple(tensors), names=first.names)
        difference = f"names its tensors {names}, batch 0 names them {expected}"
    elif first.names is None:
        difference = "is a dict of tensors, batch 0 is none"
    else:
        difference = "is no dict of tensors, batch 0 is one"
    raise ContractError(
        f"{purpose} batch {number} {difference}",
        "let every batch have the same inputs, under the same names",
    )


def _as_float(tensor: Tensor) -> Tensor:
    # esp-ppq's own collate function casts in the same way and leaves conditions alone. Its graphs
    # are of float32, while numpy's default is float64.
    whole = tensor if str(tensor.layout) == "torch.strided" else tensor.to_dense()
    return whole if str(whole.dtype) == "torch.bool" else whole.float()


def _check(batch: Batch, number: int, contract: Contract, source: str) -> None:
    inputs = contract.config.inputs
    if len(batch.tensors) != len(inputs):
        after = " after collate_fn()" if contract.has_collate_fn else ""
        raise ContractError(
            f"{source} batch {number} has {len(batch.tensors)} tensors{after}, input_shape has "
            f"{len(inputs)}",
            _hint_inputs(contract),
        )
    for tensor, spec in zip(batch.tensors, inputs, strict=True):
        _check_tensor(tensor, spec, f"{source} batch {number}")
    counts = {
        int(tensor.shape[spec.axis])
        for tensor, spec in zip(batch.tensors, inputs, strict=True)
        if spec.axis is not None
    }
    if len(counts) > 1:
        shown = ", ".join(str(list(tensor.shape)) for tensor in batch.tensors)
        raise ContractError(
            f"the inputs of {source} batch {number} hold different numbers of samples: {shown}",
            'give one entry per sample in each input; QUANT_CONFIG["batch_axis"] says along which '
            "axis, and None for an input that is one for all samples",
        )


def _check_tensor(tensor: Tensor, spec: InputSpec, place: str) -> None:
    actual = list(tensor.shape)
    if not spec.fits(actual):
        shape, named = list(spec.shape), "" if spec.name is None else f" of input {spec.name!r}"
        raise ContractError(
            f"{place} has shape {actual}{named}, expected {spec.describe()} from input_shape "
            f"{shape}",
            _hint_shape(actual, spec),
        )
    if not bool(tensor.isfinite().all()):
        raise ContractError(
            f"{place} holds NaN or infinite values", "clean the samples or their preprocessing"
        )


def _hint_shape(actual: list[int], spec: InputSpec) -> str:
    """Say which contradiction it is: the batch's axis, the layout, swapped sizes, or others."""
    shape = list(spec.shape)
    if spec.axis is not None and shape[:1] == [1] and actual[1:] == shape[1:]:
        return (
            f"input_shape is without the batch: set it to {shape[1:]}; if its 1 is a channel, add "
            "that axis to the images, by unsqueeze(1)"
        )
    if spec.axis is not None and actual == shape:
        return (
            "the loader yields single samples: stack them into batches; or, where this input is "
            'one for all samples, say None for it in QUANT_CONFIG["batch_axis"]'
        )
    sample = actual[1:]
    if spec.axis == 0 and len(sample) == len(shape) == 3:
        if sample == [*shape[1:], shape[0]]:
            return "the loader yields channels last, input_shape says channels first: permute one"
        if sample == [shape[2], *shape[:2]]:
            return "the loader yields channels first, input_shape says channels last: permute one"
        if sample == [shape[0], shape[2], shape[1]]:
            return "height and width are swapped between input_shape and the loader"
    elsewhere = [
        axis
        for axis in range(len(actual))
        if [*actual[:axis], *actual[axis + 1 :]] == shape and axis != spec.axis
    ]
    if elsewhere:
        return (
            f"where axis {elsewhere[0]} of this input holds the samples, say so in "
            'QUANT_CONFIG["batch_axis"]'
        )
    return "make input_shape and the loader agree; input_shape is without the batch"
