"""Small ONNX models, and what esp-ppq's float graph makes of them."""

from __future__ import annotations

import contextlib
import tempfile
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import torch
from onnx import TensorProto, helper, numpy_helper

from espdl_quantize.contract import Batch, Contract, load_contract
from espdl_quantize.core import EspdlQuantizeError, Finding
from espdl_quantize.ppq import prepare_float_model
from espdl_quantize.ppq._graph import FloatModel
from espdl_quantize.ppq.equivalence import Equivalence, compare_with_source
from espdl_quantize.ppq.normalise import Rewrite

SAMPLES = 3

Array = Any


def numbers(*shape: int, seed: int = 0) -> Array:
    """Return float32 numbers around zero."""
    return np.random.default_rng(seed).standard_normal(shape).astype(np.float32)


def model_of(
    nodes: Sequence[Any],
    shape: Sequence[int],
    *,
    constants: dict[str, Array] | None = None,
    outputs: Sequence[str] = ("y",),
    opset: int = 18,
    batch: int | str = "N",
) -> Any:
    """Return a model of one input ``x``, ``shape`` of one sample."""
    declared = [helper.make_tensor_value_info("x", TensorProto.FLOAT, [batch, *shape])]
    results = [onnx.ValueInfoProto(name=name) for name in outputs]
    initializers = [numpy_helper.from_array(each, name) for name, each in (constants or {}).items()]
    graph = helper.make_graph(list(nodes), "made", declared, results, initializers)
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", opset)])
    model.ir_version = 8
    inferred = onnx.shape_inference.infer_shapes(model)
    known = {each.name for each in inferred.graph.output if each.type.HasField("tensor_type")}
    for result in inferred.graph.output:
        if result.name not in known or not result.type.tensor_type.elem_type:
            result.type.tensor_type.elem_type = TensorProto.FLOAT
    return inferred


@dataclass(frozen=True)
class Read:
    """What came of a model: how far esp-ppq's reading is from it, or why there is none."""

    equivalence: Equivalence
    rewrites: tuple[Rewrite, ...] = ()
    notes: tuple[Finding, ...] = ()
    refused: EspdlQuantizeError | None = None
    ops: tuple[str, ...] = ()

    @property
    def names(self) -> list[str]:
        """The names of the rewrites."""
        return [rewrite.name for rewrite in self.rewrites]

    @property
    def is_told(self) -> bool:
        """Whether the numbers are right, or a fault says in words that they are not."""
        if self.refused is not None:
            return bool(self.refused.cause and self.refused.hint)
        faults = self.equivalence.faults
        if faults:
            return all(fault.message and fault.hint and fault.subject for fault in faults)
        largest = self.equivalence.largest
        return largest is not None and largest <= 1e-3


def read(
    model: Any, shape: Sequence[int], *, samples: int = SAMPLES, scale: float = 1.0, **config: Any
) -> Read:
    """Prepare a model as an iteration does, and compare."""
    with _contract(model, shape, **config) as (contract, folder):
        values = scale * numbers(samples, *shape, seed=1)
        batch = Batch((torch.from_numpy(values),))
        try:
            made: FloatModel = prepare_float_model(contract, folder, batch)
            graph = made.load()
            equivalence = compare_with_source(contract, made, graph, batch)
        except EspdlQuantizeError as error:
            return Read(Equivalence(), refused=error)
        types = tuple(op.type for op in graph.operations.values())
        return Read(equivalence, made.rewrites, made.findings, ops=types)


@contextlib.contextmanager
def _contract(model: Any, shape: Sequence[int], **config: Any) -> Iterator[tuple[Contract, Path]]:
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        onnx.save(model, str(folder / "model.onnx"))
        settings = {
            "model_type": "onnx",
            "onnx_path": "model.onnx",
            "input_shape": list(shape),
            "batch_size": SAMPLES,
            "target": "esp32s3",
            "num_of_bits": 8,
            "device": "cpu",
            "calib_steps": 2,
            "primary_metric": "top1",
            "metric_direction": "max",
            **config,
        }
        path = folder / "user_quant.py"
        path.write_text(
            f"QUANT_CONFIG = {settings!r}\n"
            "def create_calib_dataloader():\n    return []\n"
            "def evaluate(quant_graph):\n    return {'top1': 0.0}\n"
        )
        work = folder / "work"
        work.mkdir()
        yield load_contract(path, ("esp32s3",)), work
