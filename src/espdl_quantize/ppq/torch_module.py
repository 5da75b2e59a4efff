"""The user's torch module, run as it is: it must be one model, and take each sample by itself."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from espdl_quantize.contract import Batch, Contract
from espdl_quantize.core import ContractError
from espdl_quantize.ppq._graph import load_torch_model

SAME = 1e-4
"""Relative error up to which two tensors count as the same: float32 sums in another order differ
by less."""


def run_module(contract: Contract, module: Any, inputs: Batch) -> list[Any]:
    """Return the tensors that a module puts out, as arrays.

    It is given copies: forward() may change its input in place.
    """
    import torch
    from torch.utils import _pytree

    given = inputs.map(lambda tensor: tensor.clone())
    with torch.no_grad(), contract.entered():
        if given.names is None:
            returned = module(*given.tensors)
        else:
            returned = module(**given.by_name(given.names))
    leaves = _pytree.tree_leaves(returned)
    return [leaf.detach().cpu().numpy() for leaf in leaves if isinstance(leaf, torch.Tensor)]


def hold_to_one_model(
    contract: Contract, module: Any, inputs: Batch, wanted: Sequence[Any]
) -> None:
    """See that get_torch_model() returns the same network again.

    Args:
        contract: whose function it is.
        module: what it returned before.
        inputs: samples.
        wanted: what the module puts out for them.

    Raises:
        ContractError: it does not, so that what was exported is another one than what is compared.
    """
    # What runs no model loads no numpy.
    from espdl_quantize.ppq.onnx_runs import relative_error

    again = load_torch_model(contract)
    changed = _changed_tensors(module, again)
    if not changed:
        theirs = run_module(contract, again, inputs)
        if len(theirs) == len(wanted) and all(
            relative_error(*pair) <= SAME for pair in zip(theirs, wanted, strict=True)
        ):
            return
    what = (
        f"other numbers in {len(changed)} of its {len(module.state_dict())} tensors, "
        f"{changed[0]!r} first"
        if changed
        else "the same weights and other outputs"
    )
    raise ContractError(
        f"get_torch_model() returns another model each time that it is called: {what}. Every "
        "iteration calls it again, and would quantize and score another network",
        "load trained weights in it, with load_state_dict(); where random ones are meant, call "
        "torch.manual_seed(0) in it, before the layers are made",
    )


def hold_to_single_samples(
    contract: Contract, module: Any, inputs: Batch, wanted: Sequence[Any]
) -> None:
    """See that a sample's output does not depend on the samples beside it: a chip has none.

    Args:
        contract: whose module it is.
        module: the network.
        inputs: samples.
        wanted: what the module puts out for them.

    Raises:
        ContractError: the first sample alone gives something else.
    """
    from espdl_quantize.ppq.onnx_runs import relative_error

    count = inputs.sample_count
    if count < 2:
        return
    alone = run_module(contract, module, inputs.take([0]))
    for place, (theirs, ours) in enumerate(zip(wanted, alone, strict=False)):
        axes = [axis for axis in range(theirs.ndim) if theirs.shape[axis] == count]
        errors = [relative_error(ours, theirs.take([0], axis=axis)) for axis in axes]
        if errors and min(errors) > 10 * SAME:
            raise ContractError(
                f"output {place} of the torch model depends on the other samples of its batch: the "
                f"first of {count} samples alone gives another one, by {min(errors):.3g} of its "
                "norm, and the chip runs single samples",
                "leave means, norms and comparisons over the axis of the batch out of the model; "
                "where that axis is no batch, say so by batch_axis in QUANT_CONFIG",
            )


def _changed_tensors(first: Any, second: Any) -> list[str]:
    """Return the names of weights and buffers that differ between two modules."""
    ours, theirs = first.state_dict(), second.state_dict()
    return [
        name
        for name in dict.fromkeys((*ours, *theirs))
        if not _same_tensor(ours.get(name), theirs.get(name))
    ]


def _same_tensor(first: Any, second: Any) -> bool:
    """Whether two entries of a state are equal; NaN equals NaN."""
    import torch

    if not isinstance(first, torch.Tensor) or not isinstance(second, torch.Tensor):
        # What modules keep beside their tensors has no equality of its own.
        return type(first) is type(second)
    if first.shape != second.shape or first.dtype != second.dtype:
        return False
    return bool(((first == second) | ((first != first) & (second != second))).all())
