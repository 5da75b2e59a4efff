"""What is kept on the disk is the same tensor."""

from pathlib import Path

import pytest
import torch

from espdl_quantize.contract import Batch
from espdl_quantize.ppq import spill, spill_batch, spilling_to

IMAGES = torch.arange(4 * 8 * 100 * 100, dtype=torch.float32).reshape(4, 8, 100, 100)


@pytest.mark.parametrize(
    "tensor",
    [
        IMAGES,
        IMAGES.contiguous(memory_format=torch.channels_last),
        IMAGES.double().transpose(0, 1),
        IMAGES[1:],
        IMAGES > 7,
        IMAGES[:, ::2],
        torch.tensor(float("nan")),
    ],
    ids=["plain", "channels last", "transposed", "with an offset", "bool", "with gaps", "scalar"],
)
def test_values_and_strides_are_the_same_and_no_file_is_left(
    tmp_path: Path, tensor: torch.Tensor
) -> None:
    with spilling_to(tmp_path / "spilled"):
        found = spill(tensor)
    assert torch.equal(found.isnan(), tensor.isnan())
    assert torch.equal(found.nan_to_num(), tensor.nan_to_num())
    assert (found.stride(), found.dtype) == (tensor.stride(), tensor.dtype)
    assert list((tmp_path / "spilled").iterdir()) == []


def test_nothing_is_touched_while_there_is_memory(tmp_path: Path) -> None:
    assert spill(IMAGES) is IMAGES
    with spilling_to(None):
        assert spill_batch(Batch.of([IMAGES])).tensors[0] is IMAGES
    with spilling_to(tmp_path / "spilled"):
        spilled = spill_batch(Batch.of({"image": IMAGES}))
    assert spilled.names == ("image",)
    (found,) = spilled.tensors
    assert found.data_ptr() != IMAGES.data_ptr()
    assert torch.equal(found, IMAGES)
