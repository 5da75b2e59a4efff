"""Compares the two engines on one tiny network before the fast one is trusted.

That the names exist which the fast engine replaces does not say that they still compute the same:
another version of esp-ppq, torch or numba, or another processor, may change the arithmetic behind
them. So a network of four layers is calibrated, trained for two steps at a rate that moves
exponents, analysed and exported by each engine. What came out is kept in a cache of the user's, for
the versions, the processor and the source of the engine that it holds for.
"""

from __future__ import annotations

import contextlib
import functools
import gc
import json
import math
import os
import platform
import tempfile
import threading
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from espdl_quantize.core import NoProgress
from espdl_quantize.ppq.engines import FastEngine, QuantizationEngine, ReferenceEngine

TARGET = "esp32s3"
RATE, STEPS = 0.3, 2
"""At this rate, two steps of Adam move an exponent by more than a half."""
SMALL_RATE = 1e-4

_LOSSES, _WEIGHTS, _AMPLITUDES = 1e-3, 1e-3, 1e-6
"""How far the engines may lie apart: losses of a block after wide steps, relatively; weights after
narrow ones, in units of the way that they went; noise amplitudes of the analyses. What is rounded
to integers has to be equal."""

_CHANNELS, _SIZE, _BATCHES, _BATCH = 8, 10, 2, 4


@dataclass(frozen=True)
class Outcome:
    """What an engine makes of the network.

    Attributes:
        scales: after calibration by each algorithm, and after training.
        losses: of each block, before and after wide steps.
        weights: after narrow steps.
        layerwise: the analysis of that name.
        graphwise: the other one.
        file: the export of the network that was trained by narrow steps.
    """

    scales: dict[str, list[float]]
    losses: list[float]
    weights: dict[str, Any]
    layerwise: dict[str, float]
    graphwise: dict[str, float]
    file: bytes


def find_difference() -> str:
    """Return in what the fast engine differs from plain esp-ppq here; empty where it does not.

    It is found out once per process, and once per :func:`key` where the cache can be written.
    """
    with _LOCK:
        return _difference(key(), str(cache_folder() or ""))


_LOCK = threading.Lock()


@functools.lru_cache(maxsize=4)
def _difference(known_as: str, folder: str) -> str:
    file = Path(folder) / f"{known_as}.json" if folder else None
    verdict = _read(file)
    if verdict is None:
        verdict, is_certain = compare()
        if is_certain:
            _write(file, verdict)
    return verdict


def forget() -> None:
    """Look into the cache again at the next question."""
    _difference.cache_clear()


def key() -> str:
    """Return a digest of the versions, the processor and the engine's source."""
    from espdl_quantize.ppq.reuse import digest_of, environment

    return digest_of(environment(), _processor())


def cache_folder() -> Path | None:
    """Return the folder of the verdicts; None where the user has no home."""
    base = os.environ.get("XDG_CACHE_HOME", "")
    if not os.path.isabs(base):  # noqa: PTH117, the specification says to ignore such a value
        try:
            base = str(Path.home() / ".cache")
        except RuntimeError:
            return None
    return Path(base) / "espdl-quantize" / "engine"


def compare() -> tuple[str, bool]:
    """Run both engines on the network.

    Returns:
        In what they differ, and whether that is certain: a failure may be one of the moment.
    """
    with _left_alone(), tempfile.TemporaryDirectory() as scratch:
        try:
            network = _Network(Path(scratch))
            plain = network.outcome(ReferenceEngine())
        except Exception as error:
            return f"plain esp-ppq fails on the network that compares them: {error!r}", False
        engine = FastEngine(check=False)
        try:
            fast = network.outcome(engine)
        except Exception as error:
            return f"{type(error).__name__}: {error}", False
        # What fails is run again by plain esp-ppq, part by part, and said so.
        return _apart(plain, fast), not engine.records


class _Network:
    """The float network, its calibration data and its settings."""

    def __init__(self, folder: Path) -> None:
        import torch

        from espdl_quantize.contract import Batch, QuantConfig
        from espdl_quantize.ppq._graph import FloatModel

        self._folder = folder
        shape = [_CHANNELS, _SIZE, _SIZE]
        self._model = FloatModel(folder / "network.onnx", [shape], "cpu")
        _write_network(self._model.onnx_file)
        self._config = QuantConfig.model_validate(
            {
                "model_type": "onnx",
                "onnx_path": "network.onnx",
                "input_shape": shape,
                "batch_size": _BATCH,
                "target": TARGET,
                "num_of_bits": 8,
                "device": "cpu",
                "calib_steps": _BATCHES,
                "primary_metric": "none",
                "metric_direction": "max",
            }
        )
        generator = torch.Generator().manual_seed(0)
        self._batches = [
            Batch.of(torch.randn([_BATCH, *shape], generator=generator)) for _ in range(_BATCHES)
        ]

    def outcome(self, engine: QuantizationEngine) -> Outcome:
        """Calibrate, train, analyse and export by an engine."""
        from espdl_quantize.ppq._export import export

        scales: dict[str, list[float]] = {}
        losses: list[float] = []
        with engine.install():
            for algorithm in ("kl", "mse", "percentile"):
                calibrated = self._quantized(engine, losses, calib_algorithm=algorithm)
                scales |= _scales(algorithm, calibrated.graph)
            self._quantized(engine, losses, calib_algorithm="minmax", tqt_optimization=_tqt(RATE))
            model = self._quantized(
                engine, [], calib_algorithm="minmax", tqt_optimization=_tqt(SMALL_RATE)
            )
            scales |= _scales("trained", model.graph)
            file = self._folder / f"{engine.name}.espdl"
            export(model, file, engine=engine)
            measured = engine.measure(model.graph, self._batches, "cpu", 1, NoProgress())
        weights = {
            name: variable.value.detach().clone()
            for name, variable in model.graph.variables.items()
            if variable.is_parameter and variable.value.is_floating_point()
        }
        return Outcome(
            scales, losses, weights, measured.layerwise, measured.graphwise, file.read_bytes()
        )

    def _quantized(self, engine: QuantizationEngine, losses: list[float], **fields: Any) -> Any:
        from espdl_quantize.ppq._quantize import quantize
        from espdl_quantize.ppq._targets import probe_target
        from espdl_quantize.setting import parse_setting, resolve

        setting = resolve(parse_setting({"iteration_id": 0, **fields}), probe_target(TARGET))
        noting = _NotingEngine(engine, losses)
        return quantize(
            self._model, self._config, setting, list(self._batches), NoProgress(), engine=noting
        )


class _NotingEngine(QuantizationEngine):
    """An engine of which the losses of each trained block are noted."""

    def __init__(self, engine: QuantizationEngine, losses: list[float]) -> None:
        self._engine, self._losses = engine, losses
        self.name = engine.name  # type: ignore[misc]
        self.fallback = engine.fallback

    def install(self) -> Any:
        return self._engine.install()

    def wrap_pass(self, optimization: Any, memory: Any = None) -> None:
        from espdl_quantize.ppq.patches import override

        self._engine.wrap_pass(optimization, memory)
        if not hasattr(optimization, "finetune"):
            return
        finetune = optimization.finetune

        def noting(**given: Any) -> Any:
            losses = finetune(**given)
            self._losses.extend(float(loss) for loss in losses)
            return losses

        override(optimization, "finetune", noting)


def _tqt(rate: float) -> dict[str, Any]:
    return {"enabled": True, "lr": rate, "steps": STEPS, "block_size": 2}


def _write_network(file: Path) -> None:
    """Write convolutions of each kind that the engine has code of its own for, and a Gemm."""
    import numpy as np
    import onnx
    from onnx import TensorProto, helper, numpy_helper

    numbers = np.random.RandomState(0)
    constants = []

    def constant(name: str, *shape: int) -> str:
        size = math.sqrt(math.prod(shape[1:]) or 1) if len(shape) > 1 else 4
        values = (numbers.standard_normal(shape) / size).astype(np.float32)
        constants.append(numpy_helper.from_array(values, name))
        return name

    def conv(source: str, target: str, groups: int, kernel: int, stride: int = 1) -> Any:
        weights = constant(f"{target}_w", _CHANNELS, _CHANNELS // groups, kernel, kernel)
        return helper.make_node(
            "Conv",
            [source, weights, constant(f"{target}_b", _CHANNELS)],
            [target],
            name=target,
            group=groups,
            kernel_shape=[kernel] * 2,
            pads=[kernel // 2] * 4,
            strides=[stride] * 2,
        )

    limits = ("least", "most")
    for name, value in zip(limits, (0.0, 6.0), strict=True):
        constants.append(numpy_helper.from_array(np.array(value, np.float32), name))
    nodes = [
        conv("image", "stem", 1, 3),
        helper.make_node("Relu", ["stem"], ["stem_relu"], name="stem_relu"),
        conv("stem_relu", "depthwise", _CHANNELS, 5),
        helper.make_node("Clip", ["depthwise", *limits], ["clipped"], name="clipped"),
        conv("clipped", "pointwise", 1, 1),
        helper.make_node("Add", ["pointwise", "stem_relu"], ["sum"], name="sum"),
        helper.make_node("GlobalAveragePool", ["sum"], ["pooled"], name="pooled"),
        helper.make_node("Flatten", ["pooled"], ["flat"], name="flat"),
        helper.make_node(
            "Gemm",
            ["flat", constant("head_w", _CHANNELS, _CHANNELS), constant("head_b", _CHANNELS)],
            ["scores"],
            name="head",
        ),
    ]
    image = helper.make_tensor_value_info("image", TensorProto.FLOAT, [1, _CHANNELS, _SIZE, _SIZE])
    scores = helper.make_tensor_value_info("scores", TensorProto.FLOAT, [1, _CHANNELS])
    graph = helper.make_graph(nodes, "canary", [image], [scores], constants)
    opset = [helper.make_opsetid("", 13)]
    onnx.save(helper.make_model(graph, opset_imports=opset, ir_version=8), str(file))


def _scales(name: str, graph: Any) -> dict[str, list[float]]:
    import torch

    return {
        f"{name}: {op.name}, {place}": config.scale.flatten().tolist()
        for op in graph.operations.values()
        for place, (config, _) in enumerate(getattr(op, "config_with_variable", ()))
        if isinstance(config.scale, torch.Tensor)
    }


def _apart(plain: Outcome, fast: Outcome) -> str:
    """Return the first thing in which two outcomes differ; empty where they agree."""
    import torch

    for name, scale in plain.scales.items():
        if fast.scales.get(name) != scale:
            return f"the exponents differ ({name})"
    pairs = zip(plain.losses, fast.losses, strict=False)
    if len(plain.losses) != len(fast.losses) or not all(
        math.isclose(loss, other, rel_tol=_LOSSES) for loss, other in pairs
    ):
        return "the losses of the trained blocks differ"
    for name, value in plain.weights.items():
        limit = _WEIGHTS * SMALL_RATE * STEPS + 1e-6 * float(value.abs().max())
        if not torch.allclose(fast.weights[name], value, rtol=0, atol=limit):
            return f"the weights differ after {STEPS} steps of training ({name})"
    if plain.graphwise != fast.graphwise:
        return "the graphwise errors differ"
    for name, error in plain.layerwise.items():
        if abs(math.sqrt(error) - math.sqrt(fast.layerwise.get(name, 0.0))) > _AMPLITUDES:
            return f"the layerwise errors differ ({name})"
    return "" if plain.file == fast.file else "the exported files differ"


@contextlib.contextmanager
def _left_alone() -> Iterator[None]:
    """Leave the process's random numbers and tiny numbers as they are, and its output quiet."""
    import torch

    from espdl_quantize.ppq._random import random_state, restore_random_state

    state, is_ours = random_state(), gc.get_freeze_count() == 0
    if is_ours:
        # esp-ppq collects garbage before many functions: that would look through the whole program.
        # The first optimizer makes torch import a good part of itself, which is part of that.
        torch.optim.Adam([torch.zeros(1, requires_grad=True)])
        gc.freeze()
    try:
        with open(os.devnull, "w") as nowhere, contextlib.redirect_stdout(nowhere):  # noqa: PTH123
            yield
    finally:
        restore_random_state(state)
        torch.set_flush_denormal(False)
        if is_ours:
            gc.unfreeze()


def _processor() -> str:
    """Return the model of the processor, as well as the system tells it."""
    with contextlib.suppress(OSError):
        for line in Path("/proc/cpuinfo").read_text(errors="replace").splitlines():
            if line.startswith(("model name", "CPU part", "uarch")):
                return line
    return platform.processor()


def _read(file: Path | None) -> str | None:
    """Return a verdict from the cache; None where there is none that can be read."""
    if file is None:
        return None
    try:
        verdict = json.loads(file.read_text(encoding="utf-8"))["difference"]
    except (OSError, ValueError, KeyError, TypeError):
        return None
    return verdict if isinstance(verdict, str) else None


def _write(file: Path | None, verdict: str) -> None:
    """Keep a verdict; where that is not possible, it is found again by the next process."""
    if file is None:
        return
    with contextlib.suppress(OSError):
        file.parent.mkdir(parents=True, exist_ok=True)
        handle, beside = tempfile.mkstemp(dir=file.parent, prefix=".", suffix=".tmp")
        try:
            with os.fdopen(handle, "w", encoding="utf-8") as stream:
                json.dump({"difference": verdict}, stream)
            Path(beside).replace(file)
        except OSError:
            Path(beside).unlink(missing_ok=True)
            raise
