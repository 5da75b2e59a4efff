from pathlib import Path
from typing import Any

import onnx
import pytest
import torch
from onnx import TensorProto, helper

from espdl_quantize.contract import (
    FEW,
    Batch,
    Keeper,
    count_samples,
    load_contract,
    note_of_few_for_kl,
    note_of_repeats,
    read_batches,
    warn_of_few,
)
from espdl_quantize.core import ContractError
from espdl_quantize.ppq import probe_torch_model
from tests.contracts import CONFIG, write_contract

TARGETS = ("esp32s3",)


def read(
    folder: Path, calibration: str, extra: str = "", limit: int | None = None, **config: object
) -> list[Batch]:
    path = write_contract(
        folder,
        prelude="import torch\n",
        calibration=calibration,
        extra=extra,
        config={**CONFIG, **config},
    )
    return read_batches(load_contract(path, TARGETS), limit=limit)


def test_the_loader_is_read_to_its_end_once(tmp_path: Path) -> None:
    batches = read(tmp_path, "return [torch.full((16, 1, 28, 28), float(i)) for i in range(6)]")
    assert [float(batch.tensors[0][0, 0, 0, 0]) for batch in batches] == [0, 1, 2, 3, 4, 5]


def test_a_limit_reads_no_further(tmp_path: Path) -> None:
    calibration = "yield torch.zeros(16, 1, 28, 28)\n    raise RuntimeError('read on')"
    assert len(read(tmp_path, calibration, limit=1)) == 1


def test_integers_become_floats_and_single_item_lists_tensors(tmp_path: Path) -> None:
    batches = read(
        tmp_path, "return [[torch.zeros(16, 1, 28, 28, dtype=torch.uint8)] for i in range(4)]"
    )
    native = batches[0].as_esp_ppq()
    assert isinstance(native, torch.Tensor)
    assert native.dtype == torch.float32


def test_collate_drops_the_labels(tmp_path: Path) -> None:
    batches = read(
        tmp_path,
        "return [(torch.zeros(16, 1, 28, 28), torch.zeros(16)) for i in range(4)]",
        extra="def collate_fn(batch):\n    return batch[0]\n",
    )
    assert batches[0].as_esp_ppq().shape == (16, 1, 28, 28)


@pytest.mark.parametrize(
    ("calibration", "message"),
    [
        ("return [torch.zeros(16, 1, 27, 28)] * 4", r"shape \[16, 1, 27, 28\].*input_shape"),
        ("return [torch.zeros(16, 1, 28, 28) / 0] * 4", "NaN or infinite"),
        ("return ['text'] * 4", "a str, expected a tensor"),
        ("return [(torch.zeros(16, 1, 28, 28), torch.zeros(16))] * 4", "2 tensors.*collate_fn"),
        ("return [{'a': [3]}] * 4", "a dict of list, expected a tensor"),
        ("return [()] * 4", "no tensor, expected one per input"),
        ("return 1 / 0", "ZeroDivisionError"),
        ("return None", "TypeError"),
    ],
)
def test_what_the_model_cannot_take_is_named(
    tmp_path: Path, calibration: str, message: str
) -> None:
    with pytest.raises(ContractError, match=message):
        read(tmp_path, calibration)


LABELLED = "return [(torch.zeros(16, 1, 28, 28), torch.zeros(16))] * 4"


@pytest.mark.parametrize(
    ("calibration", "collate", "message"),
    [
        (LABELLED, "return batch", "has 2 tensors after collate_fn()"),
        (
            LABELLED,
            "return batch[0], [3] * 16",
            "what collate_fn() returned is a tuple of Tensor, list",
        ),
        ("return [torch.zeros(16, 1, 28, 28)] * 4", "return None", "returned is a NoneType"),
    ],
)
def test_a_collate_fn_that_is_there_is_not_asked_for(
    tmp_path: Path, calibration: str, collate: str, message: str
) -> None:
    with pytest.raises(ContractError) as caught:
        read(tmp_path, calibration, extra=f"def collate_fn(batch):\n    {collate}\n")
    assert message in caught.value.cause
    assert caught.value.hint.startswith("let collate_fn(batch) return the model's inputs alone")


def test_an_input_shape_with_the_batch_in_it_has_a_hint(tmp_path: Path) -> None:
    with pytest.raises(ContractError, match=r"set it to \[1, 28, 28\]"):
        read(tmp_path, "return [torch.zeros(16, 1, 28, 28)] * 4", input_shape=[1, 1, 28, 28])


def test_a_loader_that_does_not_fit_is_cut(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(Keeper, "memory_limit", 1)
    calibration = "return [torch.zeros(16, 1, 28, 28)] * 9"
    assert len(read(tmp_path, calibration)) == 4
    assert len(read(tmp_path, calibration, analyse_steps=6)) == 7


TWO = """image, row = torch.zeros(16, 1, 28, 28), torch.ones(16, 28)
    first = {"image": image, "row": row}
    return [first, {OTHER}, first, first]"""


def test_names_in_another_order_are_put_in_the_first_one(tmp_path: Path) -> None:
    calibration = TWO.replace("{OTHER}", '{"row": row, "image": image}')
    batches = read(tmp_path, calibration, input_shape=[[1, 28, 28], [28]])
    assert {batch.names for batch in batches} == {("image", "row")}
    assert batches[1].tensors[1].shape == (16, 28)


@pytest.mark.parametrize(
    ("other", "message"),
    [
        ('{"row": row, "picture": image}', "batch 1 names its tensors .'picture', 'row'., batch 0"),
        ("[image, row]", "batch 1 is no dict of tensors, batch 0 is one"),
    ],
)
def test_other_names_than_the_first_batch_s_are_refused(
    tmp_path: Path, other: str, message: str
) -> None:
    with pytest.raises(ContractError, match=message):
        read(tmp_path, TWO.replace("{OTHER}", other), input_shape=[[1, 28, 28], [28]])


def test_shapes_without_names_put_a_dict_in_their_order(tmp_path: Path) -> None:
    calibration = TWO.replace("{OTHER}", '{"row": row, "image": image}')
    batches = read(tmp_path, calibration, input_shape=[[28], [1, 28, 28]])
    assert {batch.names for batch in batches} == {("row", "image")}
    alike = "return [{'b': torch.zeros(16, 5), 'a': torch.ones(16, 5)}] * 4"
    assert read(tmp_path, alike, input_shape=[[5], [5]])[0].names == ("b", "a")


def test_shapes_that_fit_in_two_orders_put_a_dict_in_none(tmp_path: Path) -> None:
    three = "return [{'a': torch.zeros(16, 5), 'b': torch.zeros(16, 5), 'c': torch.zeros(16)}] * 4"
    with pytest.raises(ContractError, match="has shape"):
        read(tmp_path, three, input_shape=[[], [5], [5]])


@pytest.mark.parametrize("names", [("b", "a"), ("a", "b")])
def test_the_file_of_an_onnx_model_has_the_order_of_a_dict(
    tmp_path: Path, names: tuple[str, str]
) -> None:
    """Also where shapes would fit in any order."""
    values = [helper.make_tensor_value_info(name, TensorProto.FLOAT, [1, 5]) for name in "ba"]
    result = helper.make_tensor_value_info("y", TensorProto.FLOAT, [1, 5])
    graph = helper.make_graph([helper.make_node("Sub", ["b", "a"], ["y"])], "sub", values, [result])
    onnx.save(helper.make_model(graph), str(tmp_path / "two.onnx"))
    made = ", ".join(f"{name!r}: torch.full((16, 5), {ord(name)}.0)" for name in names)
    config: dict[str, Any] = {"onnx_path": "two.onnx", "input_shape": [[5], [5]]}
    batch = read(tmp_path, f"return [{{{made}}}] * 4", model_type="onnx", **config)[0]
    assert batch.names == ("b", "a")
    assert [int(tensor[0, 0]) for tensor in batch.tensors] == [ord("b"), ord("a")]


def test_each_batch_is_told(tmp_path: Path) -> None:
    path = write_contract(
        tmp_path,
        prelude="import torch\n",
        calibration="return [torch.zeros(16, 1, 28, 28)] * 4",
    )
    progress: list[tuple[int, int | None]] = []
    read_batches(
        load_contract(path, TARGETS), on_batch=lambda done, total: progress.append((done, total))
    )
    assert progress == [(1, 4), (2, 4), (3, 4), (4, 4)]


def test_a_short_loader_is_read_to_its_end_and_noted(tmp_path: Path) -> None:
    assert len(read(tmp_path, "return [torch.zeros(16, 1, 28, 28)] * 3")) == 3
    assert note_of_repeats(4, 4) == []
    assert "yields 3 batches and calib_steps is 4" in note_of_repeats(3, 4)[0]
    # esp-ppq asserts two steps at least.
    assert "yields 1 batch and" in note_of_repeats(1, 4)[0]
    assert note_of_repeats(1, 4)[0].endswith("calib_steps to 2")


NAMED: dict[str, Any] = {
    "input_shape": {"row": [28], "state": [2, 8], "rate": []},
    "batch_axis": {"state": 1},
}


def named(state: str = "2, 5, 8", rate: str = "5", row: str = "5, 28") -> str:
    return (
        f"return [{{'rate': torch.zeros({rate}), 'row': torch.zeros({row}), "
        f"'state': torch.zeros({state})}}] * 4"
    )


def test_inputs_are_known_by_name_and_by_their_axis(tmp_path: Path) -> None:
    batch = read(tmp_path, named(), **NAMED)[0]
    assert batch.names == ("row", "state", "rate")
    assert batch.axes == (0, 1, 0)
    assert batch.sample_count == 5
    sample = list(batch.samples())[3]
    assert [list(tensor.shape) for tensor in sample.tensors] == [[1, 28], [2, 1, 8], [1]]
    assert [list(tensor.shape) for tensor in batch.first(2).tensors] == [[2, 28], [2, 2, 8], [2]]


def test_lists_take_the_names_of_the_shapes(tmp_path: Path) -> None:
    calibration = "return [[torch.zeros(5, 28), torch.zeros(2, 5, 8), torch.zeros(5)]] * 4"
    assert set(read(tmp_path, calibration, **NAMED)[0].as_esp_ppq()) == {"row", "state", "rate"}


@pytest.mark.parametrize(
    ("calibration", "message"),
    [
        (named(state="5, 2, 8"), r"shape \[5, 2, 8\] of input 'state', expected \[2, batch, 8\]"),
        (named(rate="1"), r"different numbers of samples: \[5, 28\], \[2, 5, 8\], \[1\]"),
        (named(row="28"), r"\[28\] of input 'row', expected \[batch, 28\].*say None for it"),
        (named().replace("'row'", "'line'"), "names its tensors .'line', 'rate', 'state'"),
    ],
)
def test_a_contradicting_input_is_named(tmp_path: Path, calibration: str, message: str) -> None:
    with pytest.raises(ContractError, match=message):
        read(tmp_path, calibration, **NAMED)


@pytest.mark.parametrize(
    ("shape", "actual", "hint"),
    [
        ([3, 32, 48], "4, 32, 48, 3", "channels last, input_shape says channels first"),
        ([32, 48, 3], "4, 3, 32, 48", "channels first, input_shape says channels last"),
        ([3, 32, 48], "4, 3, 48, 32", "height and width are swapped"),
        ([2, 8], "2, 4, 8", "axis 1 of this input holds the samples"),
    ],
)
def test_the_contradiction_of_a_shape_is_named(
    tmp_path: Path, shape: list[int], actual: str, hint: str
) -> None:
    with pytest.raises(ContractError, match=hint):
        read(tmp_path, f"return [torch.zeros({actual})] * 4", input_shape=shape)


def test_a_missing_channel_axis_is_thought_of(tmp_path: Path) -> None:
    calibration = "import torch\n    return [torch.zeros(16, 28, 28)] * 4"
    contract = load_contract(write_contract(tmp_path, calibration=calibration), ["esp32s3"])
    with pytest.raises(ContractError, match=r"set it to \[28, 28\]; .* by unsqueeze\(1\)"):
        read_batches(contract)


def test_numbers_of_another_type_are_named(tmp_path: Path) -> None:
    contract = load_contract(write_contract(tmp_path), ["esp32s3"])
    batch = read_batches(contract, limit=1)[0].map(torch.Tensor.double)
    with pytest.raises(ContractError, match=r"float64, the model .*model\.float\(\)"):
        probe_torch_model(contract, batch)


@pytest.mark.parametrize("kind", ["double", "half", "int", "bfloat16"])
def test_numbers_of_any_type_are_taken_as_float32(tmp_path: Path, kind: str) -> None:
    calibration = f"import torch\n    return [torch.ones(16, 1, 28, 28).{kind}()] * 4"
    contract = load_contract(write_contract(tmp_path, calibration=calibration), ["esp32s3"])
    assert read_batches(contract, limit=1)[0].tensors[0].dtype == torch.float32


@pytest.mark.parametrize(("samples", "warns"), [(1, True), (63, True), (64, False), (512, False)])
def test_few_calibration_samples_are_warned_of(samples: int, warns: bool) -> None:
    warnings = warn_of_few(samples)
    assert bool(warnings) == warns
    if warns:
        assert warnings[0].startswith(f"{FEW} {samples} sample")
        assert "256" in warnings[0]


def test_samples_are_counted_whatever_a_batch_is() -> None:
    image = torch.zeros(3, 1, 4, 4)
    assert count_samples([Batch.of(form) for form in (image, [image, image], {"a": image})]) == 9


@pytest.mark.parametrize(("samples", "noted"), [(63, 0), (64, 1), (127, 1), (128, 0)])
def test_kl_needs_more_samples_than_others(samples: int, noted: int) -> None:
    notes = note_of_few_for_kl(samples)
    assert len(notes) == noted
    assert all("minmax" in note for note in notes)
    # It is one or the other.
    assert bool(warn_of_few(samples)) + noted == (samples < 128)
