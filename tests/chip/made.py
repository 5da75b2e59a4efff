"""Real exports, made without the analyses of an iteration, and changed byte by byte."""

from __future__ import annotations

import struct
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest
import torch

from espdl_quantize.contract import Batch, load_contract, read_batches
from espdl_quantize.core import Engine, NoProgress
from espdl_quantize.ppq import (
    engine_for,
    export,
    prepare_float_model,
    probe_target,
    quantize,
    target_names,
)
from espdl_quantize.setting import parse_setting, resolve
from tests.contracts import CONFIG, write_contract
from tests.networks import KINDS


@dataclass(frozen=True)
class Export:
    """A quantized network and its file."""

    graph: Any
    layouts: dict[str, tuple[int, ...]]
    batches: list[Batch]
    file: Path
    chip: str
    warnings: tuple[str, ...] = ()


def make_export(
    folder: Path,
    kind: str,
    chip: str,
    bits: int = 8,
    setting: dict[str, Any] | None = None,
    *,
    batch: int = 0,
) -> Export:
    """Quantize and export one of the networks of tests/networks.py."""
    folder.mkdir(parents=True, exist_ok=True)
    batch = batch or (1 if kind == "transformer" else 16)
    path = write_contract(
        folder,
        config={
            **CONFIG,
            "target": chip,
            "num_of_bits": bits,
            "batch_size": batch,
            "calib_steps": 2,
        },
        calibration="from tests.networks import calibration_images\n"
        f"    return calibration_images(32).split({batch})",
        model=f"from tests.networks import network\n    return network({kind!r})",
    )
    contract = load_contract(path, target_names())
    batches = read_batches(contract)
    model = prepare_float_model(contract, folder)
    asked = parse_setting({"iteration_id": 0, **(setting or {})})
    resolved = resolve(asked, probe_target(chip, bits), "cpu")
    file = folder / "model.espdl"
    with engine_for(Engine.FAST).install() as engine:
        made = quantize(model, contract.config, resolved, batches, NoProgress(), engine=engine)
        layouts = export(made, file, engine=engine)
    return Export(made.graph, layouts, batches, file, chip, made.warnings)


def export_of(folder: Path, network: Any, chip: str, bits: int = 8, **more: Any) -> Export:
    """Quantize and export the module that a function makes, one sample at a time."""
    torch.manual_seed(0)
    module = network()
    with pytest.MonkeyPatch.context() as patch:
        patch.setitem(KINDS, "made", lambda: module.eval())
        return make_export(folder, "made", chip, bits, batch=1, **more)


class Bytes:
    """An .espdl file whose numbers can be overwritten where they stand."""

    def __init__(self, content: bytes) -> None:
        from esp_ppq.parser.espdl import helper

        self._header, self._body = content[:16], bytearray(content[16:])
        self._graph = helper.Model.Model.GetRootAs(self._body, 0).Graph()

    def result(self) -> bytes:
        """Return the changed file."""
        return self._header + bytes(self._body)

    def _tensors(self) -> Iterator[Any]:
        for field in ("Initializer", "ValueInfo"):
            for number in range(getattr(self._graph, f"{field}Length")()):
                yield getattr(self._graph, field)(number)

    def _nodes(self) -> Iterator[Any]:
        return map(self._graph.Node, range(self._graph.NodeLength()))

    def set_exponent(self, tensor: str, exponent: int, place: int = -1) -> None:
        """Change one exponent of a tensor, or the last one."""
        entry = next(item for item in self._tensors() if item.Name().decode() == tensor)
        entry.ExponentsAsNumpy()[place] = exponent

    def set_number(self, tensor: str, place: int, value: int, dtype: str) -> None:
        """Change one number of a constant."""
        entry = next(item for item in self._tensors() if item.Name().decode() == tensor)
        code = {"int8": "<b", "int32": "<i"}[dtype]
        start = entry.RawData(0)._tab.Pos + place * struct.calcsize(code)
        struct.pack_into(code, self._body, start, value)

    def set_text(self, op: str, attribute: str, value: bytes) -> None:
        """Change an attribute of an op to one of the same length."""
        node = next(item for item in self._nodes() if item.Name().decode() == op)
        entry = next(
            item
            for item in map(node.Attribute, range(node.AttributeLength()))
            if item.Name().decode() == attribute
        )
        entry.SAsNumpy()[:] = list(value)

    def replace(self, old: bytes, new: bytes) -> None:
        """Change the first text of the file that reads so, to one of the same length."""
        assert len(old) == len(new)
        assert old in self._body
        start = self._body.index(old)
        self._body[start : start + len(new)] = new
