"""What goes wrong for users, each as a small contract, with the cause and the remedy to be named.

Each situation was seen in real use. The models are built here, and are as small as the situation
allows.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
import onnx
from onnx import TensorProto, helper, numpy_helper

from tests.contracts import CONFIG, EVALUATE, write_contract

Write = Callable[[Path], Path]
"""Writes the contract of a situation into a folder."""


@dataclass(frozen=True)
class Situation:
    """What a user does, and what must be said of it.

    Attributes:
        write: writes the contract.
        cause: texts of which the messages must hold each, in any case.
        remedy: the same of the hints.
        kind: "fault", "warning", or "" where all is well: what went wrong once works now.
        score: whether the evaluation is part of it.
        unlike: texts that no message and no hint may hold: what was blamed before.
    """

    write: Write
    cause: Sequence[str] = ()
    remedy: Sequence[str] = ()
    kind: str = "fault"
    score: bool = False
    unlike: Sequence[str] = ()


CATCH_ALL = ("replace that op in the model by ones", "baked in", "onnx.checker", "console.log")
_RANDOM = np.random.default_rng(0)


def weights(name: str, *shape: int, scale: float = 0.3) -> onnx.TensorProto:
    return numpy_helper.from_array((_RANDOM.normal(size=shape) * scale).astype(np.float32), name)


def constant(name: str, values: Any, dtype: Any = np.float32) -> onnx.TensorProto:
    return numpy_helper.from_array(np.asarray(values, dtype), name)


def node(kind: str, inputs: str, outputs: str, **attributes: Any) -> onnx.NodeProto:
    names = [inputs.split(), outputs.split()]
    return helper.make_node(kind, *names, name=f"{kind}_{outputs.split()[0]}", **attributes)


@dataclass
class Graph:
    """An ONNX model, from its nodes."""

    nodes: list[onnx.NodeProto]
    constants: list[onnx.TensorProto] = field(default_factory=list)
    inputs: dict[str, Sequence[Any]] = field(default_factory=lambda: {"x": (1, 3, 8, 8)})
    outputs: tuple[str, ...] = ("y",)
    opset: int = 18
    types: dict[str, int] = field(default_factory=dict)

    def save(self, file: Path) -> Path:
        inputs = [
            helper.make_tensor_value_info(name, self.types.get(name, TensorProto.FLOAT), shape)
            for name, shape in self.inputs.items()
        ]
        # Their types and shapes are inferred.
        outputs = [onnx.ValueInfoProto(name=name) for name in self.outputs]
        graph = helper.make_graph(self.nodes, "graph", inputs, outputs, self.constants)
        opsets = [helper.make_opsetid("", self.opset)]
        model = helper.make_model(graph, opset_imports=opsets, ir_version=8)
        onnx.save(onnx.shape_inference.infer_shapes(model), str(file))
        return file


CONV = node("Conv", "x w b", "c", pads=[1, 1, 1, 1])
CONV_WEIGHTS = [weights("w", 8, 3, 3, 3), weights("b", 8)]
LOADER = """import torch
    generator = torch.Generator().manual_seed(0)
    return [{batch} for _ in range(4)]"""


def random_batch(*shapes: Sequence[int]) -> str:
    parts = [f"torch.randn({', '.join(map(str, shape))}, generator=generator)" for shape in shapes]
    return parts[0] if len(parts) == 1 else f"[{', '.join(parts)}]"


def onnx_contract(
    graph: Graph | Callable[[Path], Any],
    *,
    input_shape: Any = (3, 8, 8),
    batch: str | None = None,
    batch_size: int = 16,
    evaluate: str = "return {'top1': 1.0}",
    calibration: str | None = None,
    file: str = "model.onnx",
    **config: Any,
) -> Write:
    """Return what writes an ONNX model and a contract for it."""

    def write(folder: Path) -> Path:
        path = folder / file
        if isinstance(graph, Graph):
            graph.save(path)
        else:
            graph(path)
        shapes = input_shape if isinstance(input_shape[0], (list, tuple)) else [input_shape]
        given = batch or random_batch(*[(batch_size, *shape) for shape in shapes])
        return write_contract(
            folder,
            config=CONFIG
            | {
                "model_type": "onnx",
                "onnx_path": file,
                "input_shape": [list(s) for s in shapes] if len(shapes) > 1 else list(shapes[0]),
                "batch_size": batch_size,
            }
            | config,
            calibration=calibration or LOADER.format(batch=given),
            evaluate=evaluate,
        )

    return write


def torch_contract(**parts: Any) -> Write:
    """Return what writes a torch contract; parts are those of :func:`write_contract`."""

    def write(folder: Path) -> Path:
        return write_contract(folder, prelude="import torch\n", **parts)

    return write


def after_conv(kind: str, extra: str = "", **attributes: Any) -> Graph:
    """A Conv, then an op on its output."""
    return Graph([CONV, node(kind, f"c {extra}".strip(), "y", **attributes)], list(CONV_WEIGHTS))


def _scoring(change: str) -> str:
    """An evaluation of the network of the tests, with the images changed."""
    return f"""import torch
    from esp_ppq.executor import TorchExecutor
    from tests.networks import depthwise_cnn, held_out_images
    images = held_out_images(256)
    labels = depthwise_cnn()(images).argmax(1)
    {change}
    decided = TorchExecutor(graph=quant_graph, device="cpu").forward(images)[0].argmax(1)
    right = (decided == labels).float()
    """


TOP1 = "return {'top1': 100.0 * float(right.mean()), 'per_sample': right}"
_CALIBRATION = "import torch; from tests.networks import calibration_images\n    "


def _fixed(file: Path) -> None:
    """An If on a constant condition."""
    branches = []
    for name, kind in (("then", "Relu"), ("else", "Sigmoid")):
        out = helper.make_tensor_value_info(f"{name}_y", TensorProto.FLOAT, None)
        branches.append(helper.make_graph([node(kind, "c", f"{name}_y")], name, [], [out]))
    chosen = node("If", "flag", "y", then_branch=branches[0], else_branch=branches[1])
    Graph([CONV, chosen], [*CONV_WEIGHTS, constant("flag", True, np.bool_)]).save(file)


def _chosen(file: Path) -> None:
    """An If that depends on the input."""
    branches = []
    for name, kind in (("then", "Relu"), ("else", "Sigmoid")):
        out = helper.make_tensor_value_info(f"{name}_y", TensorProto.FLOAT, None)
        branches.append(helper.make_graph([node(kind, "c", f"{name}_y")], name, [], [out]))
    nodes = [
        CONV,
        node("ReduceMax", "c", "m", keepdims=0),
        node("Greater", "m zero", "flag"),
        node("If", "flag", "y", then_branch=branches[0], else_branch=branches[1]),
    ]
    Graph(nodes, [*CONV_WEIGHTS, constant("zero", 0.0)]).save(file)


def _quantized(file: Path) -> None:
    """A file that is quantized already."""
    scale, zero = constant("s", 0.1), constant("z", 0, np.int8)
    nodes = [
        node("QuantizeLinear", "x s z", "q"),
        node("DequantizeLinear", "q s z", "d"),
        node("Conv", "d w b", "y", pads=[1, 1, 1, 1]),
    ]
    Graph(nodes, [*CONV_WEIGHTS, scale, zero]).save(file)


def _half(file: Path) -> None:
    """A file in fp16."""
    halves = [
        numpy_helper.from_array(numpy_helper.to_array(each).astype(np.float16), each.name)
        for each in CONV_WEIGHTS
    ]
    types = {"x": TensorProto.FLOAT16}
    Graph([node("Conv", "x w b", "y", pads=[1, 1, 1, 1])], halves, types=types).save(file)


def _tflite(file: Path) -> None:
    file.write_bytes(b"\x1c\x00\x00\x00TFL3" + bytes(200))


def _two_inputs(first: str = "a", second: str = "b") -> Graph:
    nodes = [
        node("Conv", "a wa", "ca"),
        node("Conv", "b wb", "cb"),
        node("GlobalAveragePool", "ca", "ga"),
        node("GlobalAveragePool", "cb", "gb"),
        node("Add", "ga gb", "y"),
    ]
    shapes = {"a": (1, 3, 8, 8), "b": (1, 1, 16, 16)}
    return Graph(
        nodes,
        [weights("wa", 8, 3, 3, 3), weights("wb", 8, 1, 3, 3)],
        inputs={name: shapes[name] for name in (first, second)},
    )


def _lstm(initial: bool) -> Graph:
    hidden = 8
    nodes = [
        node("LSTM", f"x w r{'  b  h c' if initial else ''}", "s", hidden_size=hidden)
        if not initial
        else helper.make_node(
            "LSTM", ["x", "w", "r", "", "", "h", "c"], ["s"], name="LSTM_s", hidden_size=hidden
        ),
        node("Squeeze", "s axis", "y"),
    ]
    constants = [
        weights("w", 1, 4 * hidden, 5),
        weights("r", 1, 4 * hidden, hidden),
        constant("axis", [1], np.int64),
    ]
    inputs: dict[str, Sequence[Any]] = {"x": (6, 1, 5)}
    if initial:
        inputs |= {"h": (1, 1, hidden), "c": (1, 1, hidden)}
    return Graph(nodes, constants, inputs=inputs)


def _sequence() -> Graph:
    graph = _lstm(initial=False)
    graph.nodes = [
        node("Transpose", "rows", "x", perm=[1, 0, 2]),
        *graph.nodes,
    ]
    graph.inputs = {"rows": (1, 6, 5)}
    return graph


def _dynamic() -> Graph:
    """A Reshape by shape arithmetic on an axis that is not fixed."""
    nodes = [
        CONV,
        node("Shape", "c", "shape"),
        node("Gather", "shape zero", "n"),
        node("Unsqueeze", "n axis", "n1"),
        node("Concat", "n1 rest", "target", axis=0),
        node("Reshape", "c target", "y"),
    ]
    constants = [
        *CONV_WEIGHTS,
        constant("zero", 0, np.int64),
        constant("axis", [0], np.int64),
        constant("rest", [-1], np.int64),
    ]
    return Graph(nodes, constants, inputs={"x": ("n", 3, "h", "w")})


def _gemm(**attributes: Any) -> Graph:
    return Graph(
        [
            CONV,
            node("GlobalAveragePool", "c", "g"),
            node("Flatten", "g", "f"),
            node("Gemm", "f gw gb", "y", **attributes),
        ],
        [
            *CONV_WEIGHTS,
            weights("gw", 8, 4),
            constant("gb", 0.5) if attributes.get("transA") is None else weights("gb", 4),
        ],
    )


def _scaled_gemm() -> Graph:
    graph = _gemm(alpha=0.5, beta=2.0)
    graph.constants[-1] = weights("gb", 4)
    return graph


def _lost_output() -> Graph:
    return Graph([CONV, node("Relu", "c", "y")], list(CONV_WEIGHTS), outputs=("c", "y"))


def _resize(**attributes: Any) -> Graph:
    resize = helper.make_node("Resize", ["c", "", "s"], ["y"], "Resize_y", **attributes)
    return Graph([CONV, resize], [*CONV_WEIGHTS, constant("s", [1, 1, 2, 2])])


SITUATIONS: dict[str, Situation] = {
    # What is scored is not what was meant.
    "evaluate() never runs the graph": Situation(
        torch_contract(evaluate="return {'top1': 92.2}"),
        ["never runs the graph"],
        ["TorchExecutor(graph=quant_graph)"],
        score=True,
    ),
    "calibration in other units than what is scored": Situation(
        torch_contract(
            calibration=_CALIBRATION
            + "return [x * 128 + 128 for x in calibration_images(64).split(16)]",
            evaluate=_scoring("") + TOP1,
        ),
        ["calibration and evaluate() give input", "range", "calibration holds 0 to 255"],
        ["preprocess calibration and scored samples by one function"],
        score=True,
    ),
    "what is scored is cut off by the input's exponent": Situation(
        torch_contract(
            calibration=_CALIBRATION + "return list(calibration_images(64).split(16))",
            evaluate=_scoring("images = images * 128 + 128") + TOP1,
        ),
        ["of the scored values are beyond 1", "cut off"],
        ["preprocess calibration and scored samples by one function"],
        score=True,
    ),
    "calibration is normalised otherwise": Situation(
        torch_contract(
            calibration=_CALIBRATION
            + "return [x / 2 + 0.5 for x in calibration_images(64).split(16)]",
            evaluate=_scoring("") + TOP1,
        ),
        ["standard deviation", "in calibration"],
        ["preprocess calibration and scored samples by one function"],
        "warning",
        score=True,
    ),
    "calibration has its axes in another order": Situation(
        torch_contract(
            calibration=_CALIBRATION + "return list(calibration_images(64).reshape(64, 28, 7, 4)"
            ".permute(0, 3, 1, 2).reshape(64, 1, 28, 28).split(16))",
            evaluate=_scoring("") + TOP1,
        ),
        ["layout"],
        ["layout"],
        "warning",
        score=True,
    ),
    "all-zero calibration": Situation(
        torch_contract(calibration="return [torch.zeros(16, 1, 28, 28)] * 4"),
        ["all zeros"],
        ["real samples"],
    ),
    "constant calibration": Situation(
        torch_contract(calibration="return [torch.ones(16, 1, 28, 28)] * 4"),
        ["every value of every calibration sample is 1"],
        ["real samples"],
    ),
    "calibration of 1e-20": Situation(
        torch_contract(
            calibration=_CALIBRATION + "return list((calibration_images(64) * 1e-20).split(16))"
        ),
        ["1e-20"],
        ["real samples"],
    ),
    "one calibration image again and again": Situation(
        torch_contract(
            calibration=_CALIBRATION + "return [calibration_images(1).repeat(16, 1, 1, 1)] * 4"
        ),
        ["are all the same"],
        ["drawn from the data"],
        "warning",
    ),
    "evaluate() scores other images each time": Situation(
        torch_contract(
            evaluate=_scoring(
                "import time; pick = torch.randperm(256, "
                "generator=torch.Generator().manual_seed(time.perf_counter_ns()))[:50]; "
                "images, labels = images[pick] + 0.3, labels[pick]"
            )
            + TOP1
        ),
        ["scores other samples each time"],
        ["by a fixed list or a generator that is seeded"],
        "",
        score=True,
    ),
    "evaluate() is not deterministic": Situation(
        torch_contract(
            evaluate=_scoring("import time")
            + "return {'score': float(right.mean()) + time.perf_counter() % 1}",
            config=CONFIG | {"primary_metric": "score"},
        ),
        ["on the same samples"],
        ["seed what evaluate() draws"],
        "warning",
        score=True,
    ),
    "evaluate() fails the second time": Situation(
        torch_contract(
            evaluate=_scoring("TODO = images") + "STATE.pop()\n    " + TOP1, extra="STATE = [1]\n"
        ),
        ["failed when it was called again", "pop from empty list"],
        ["leave nothing behind"],
        score=True,
    ),
    "evaluate() fails on quantized graphs alone": Situation(
        torch_contract(
            evaluate="assert not any(hasattr(op, 'config') for op in quant_graph.operations"
            ".values()), 'float graphs alone'\n    " + EVALUATE,
        ),
        ["fails on a quantized graph, even while nothing is quantized", "float graphs alone"],
        ["the same inputs and outputs, and other ops"],
        score=True,
    ),
    "evaluate() fails on what the trial puts out": Situation(
        torch_contract(
            evaluate=_scoring(
                "executor = TorchExecutor(graph=quant_graph, device='cpu'); "
                "steps = executor.forward(images[:16])[0] * 2**12; "
                "assert bool((steps != steps.round()).any()), 'no detection'"
            )
            + TOP1
        ),
        ["fails on a trial that is quantized by a few samples", "no detection"],
        ["return its worst value"],
        "warning",
        score=True,
    ),
    "shuffled labels": Situation(
        torch_contract(
            evaluate=_scoring("labels = torch.arange(256) % 10") + TOP1,
        ),
        ["what guessing among 10 outputs gives"],
        ["labels belong to their samples"],
        "warning",
        score=True,
    ),
    "metric_direction min for top-1": Situation(
        torch_contract(evaluate=_scoring("") + TOP1, config=CONFIG | {"metric_direction": "min"}),
        ["metric_direction is 'min'", "noise in its weights is better"],
        ["set metric_direction to 'max'"],
        score=True,
    ),
    "target 97 of a metric in 0..1": Situation(
        torch_contract(
            evaluate=_scoring("") + "return {'top1': float(right.mean()), 'per_sample': right}",
            config=CONFIG | {"target_metric": 97.0},
        ),
        ["target_metric is 97", "ends at 1"],
        ["in the unit of top1"],
        score=True,
    ),
    "target 0.97 of a metric in percent": Situation(
        torch_contract(evaluate=_scoring("") + TOP1, config=CONFIG | {"target_metric": 0.97}),
        ["will stop at its first iteration"],
        ["in the unit of top1"],
        "warning",
        score=True,
    ),
    "a target above the float model": Situation(
        torch_contract(
            evaluate=_scoring("labels[::3] = 11") + TOP1, config=CONFIG | {"target_metric": 90.0}
        ),
        ["above the float model's top1"],
        ["set it below"],
        "warning",
        score=True,
    ),
    "per_sample of other length than the samples": Situation(
        torch_contract(
            evaluate=_scoring("")
            + "return {'top1': 100.0 * float(right[:100].mean()), 'per_sample': right[:100]}"
        ),
        ["256 samples", "per_sample has 100 results"],
        ["one result per sample"],
        "warning",
        score=True,
    ),
    "per_sample contradicts the metric": Situation(
        torch_contract(evaluate=_scoring("") + "return {'top1': 42.0, 'per_sample': right}"),
        ["the mean of per_sample is"],
        [],
        "warning",
        score=True,
    ),
    "forward()'s list is taken for a tensor": Situation(
        torch_contract(
            evaluate=EVALUATE.split("\n")[0]
            + """
    from esp_ppq.executor import TorchExecutor
    from tests.networks import held_out_images
    outputs = TorchExecutor(graph=quant_graph, device="cpu").forward(held_out_images(8))
    return {'top1': float(outputs.argmax(1).float().mean())}"""
        ),
        ["'list' object has no attribute 'argmax'"],
        ["forward() returns a list", "[0]"],
        score=True,
    ),
    "the graph is called like a module": Situation(
        torch_contract(
            evaluate="""from tests.networks import held_out_images
    return {'top1': float(quant_graph(held_out_images(8)).mean())}"""
        ),
        ["'BaseGraph' object is not callable"],
        ["TorchExecutor(graph=quant_graph"],
        score=True,
    ),
    # What only the graph decides, and was seen after minutes.
    "InstanceNormalization": Situation(
        onnx_contract(
            Graph(
                [CONV, node("InstanceNormalization", "c sc bi", "y")],
                [*CONV_WEIGHTS, constant("sc", [1.0] * 8), constant("bi", [0.0] * 8)],
            )
        ),
        kind="",
    ),
    "Reciprocal": Situation(onnx_contract(after_conv("Reciprocal")), kind=""),
    "ArgMax": Situation(
        onnx_contract(after_conv("ArgMax", axis=1)),
        ["ArgMax_y"],
        ["leave it out of the model", "in evaluate()"],
    ),
    "an output that feeds a Relu": Situation(
        onnx_contract(_lost_output()),
        ["Conv_c", "'c' is an output of the model", "Relu"],
        ["torch.clamp"],
    ),
    "ReduceMean without keepdims": Situation(
        onnx_contract(
            Graph(
                [CONV, node("ReduceMean", "c axes", "y")],
                [*CONV_WEIGHTS, constant("axes", [2, 3], np.int64)],
            ),
        ),
        kind="",
    ),
    "Gemm with alpha and beta": Situation(onnx_contract(_scaled_gemm()), kind=""),
    "Gemm with a scalar bias": Situation(onnx_contract(_gemm()), kind=""),
    "LSTM without initial state": Situation(
        torch_contract(
            model="class Net(torch.nn.Module):\n"
            "        def __init__(self):\n"
            "            super().__init__()\n"
            "            self.cells = torch.nn.LSTM(28, 12, batch_first=True)\n"
            "        def forward(self, x):\n"
            "            return self.cells(x.flatten(1, 2))[0].mean(1)\n"
            "    torch.manual_seed(0)\n"
            "    return Net().eval()"
        ),
        kind="",
    ),
    "a token that is expanded to the batch": Situation(
        torch_contract(
            model="class Token(torch.nn.Module):\n"
            "        def forward(self, x):\n"
            "            token = torch.ones(1, 1, 1, 28).expand(x.shape[0], -1, -1, -1)\n"
            "            return torch.cat([token, x], 2).mean(2).flatten(1)\n"
            "    return Token().eval()"
        ),
        ["runs on one calibration sample, and not on a batch of 16"],
        ["calibrate with batch_size 1"],
    ),
    "a convolution of three dimensions": Situation(
        torch_contract(
            model="return torch.nn.Sequential(torch.nn.Unflatten(1, (1, 1)), "
            "torch.nn.Conv3d(1, 2, 3, padding=1), torch.nn.Flatten()).eval()"
        ),
        ["Conv", "works in 3 dimensions"],
        ["the layer of two dimensions"],
    ),
    "a convolution of two groups": Situation(
        torch_contract(
            model="return torch.nn.Sequential(torch.nn.Conv2d(1, 4, 3), "
            "torch.nn.Conv2d(4, 4, 3, groups=2), torch.nn.Flatten()).eval()"
        ),
        ["2 groups of 4 channels"],
        ["convolve each part by itself"],
    ),
    "calib_steps 1": Situation(
        torch_contract(config=CONFIG | {"calib_steps": 1}), ["calib_steps", "from 2"], ["16"]
    ),
    "integer inputs": Situation(
        onnx_contract(
            Graph(
                [node("Gather", "table x", "e"), node("MatMul", "e w", "y")],
                [weights("table", 50, 16), weights("w", 16, 4)],
                inputs={"x": (1, 12)},
                types={"x": TensorProto.INT64},
            ),
            input_shape=(12,),
            batch="torch.randint(0, 50, (16, 12), generator=generator)",
        ),
        ["int64"],
        ["embedding"],
        unlike=CATCH_ALL,
    ),
    # One remedy for unrelated causes.
    "float64 batches": Situation(
        torch_contract(
            calibration=_CALIBRATION
            + "return [x.double() for x in calibration_images(64).split(16)]"
        ),
        kind="",
    ),
    "float64 batches for an ONNX file": Situation(
        onnx_contract(
            after_conv("Relu"),
            batch="torch.randn(16, 3, 8, 8, generator=generator, dtype=torch.float64)",
        ),
        kind="",
    ),
    "float16 batches for an ONNX file": Situation(
        onnx_contract(
            after_conv("Relu"),
            batch="torch.randn(16, 3, 8, 8, generator=generator).half()",
        ),
        kind="",
    ),
    "a float64 model": Situation(
        torch_contract(
            model="from tests.networks import depthwise_cnn\n    return depthwise_cnn().double()"
        ),
        ["the torch model fails"],
        ["model.float()"],
        unlike=CATCH_ALL,
    ),
    "evaluate() passes float64": Situation(
        torch_contract(
            evaluate="""from esp_ppq.executor import TorchExecutor
    from tests.networks import held_out_images
    images = held_out_images(8).double()
    run = TorchExecutor(graph=quant_graph, device="cpu").forward
    return {'top1': float(run(images)[0].mean())}"""
        ),
        ["Input type (double)"],
        ["give float32", "evaluate() passes on"],
        score=True,
        unlike=CATCH_ALL,
    ),
    "evaluate() changes the graph": Situation(
        torch_contract(
            evaluate=_scoring(
                "[op.parameters[0].value.mul_(0.9) for op in quant_graph.operations.values() "
                "if op.type == 'Conv']"
            )
            + TOP1
        ),
        ["changes the graph that it is given"],
        ["leave it as it is"],
        score=True,
    ),
    "evaluate() ignores the graph's outputs": Situation(
        torch_contract(
            evaluate=_scoring("") + "return {'top1': 50.0}",
        ),
        ["with zeros and with random weights"],
        ["from what the graph puts out"],
        "warning",
        score=True,
    ),
    "calibration is drawn anew at each call": Situation(
        torch_contract(
            calibration=_CALIBRATION + "CALLS.append(len(CALLS)); first = CALLS[-1]\n"
            "    return list(calibration_images(80)[first:first + 64].split(16))",
            extra="CALLS = []\n",
        ),
        ["other samples each time", "by the same seed"],
        ["by torch's own generator"],
        "",
    ),
    "forward() changes its input in place": Situation(
        torch_contract(
            model="class Net(torch.nn.Module):\n"
            "        def forward(self, x):\n"
            "            return x.mul_(2).flatten(1)\n"
            "    return Net().eval()"
        ),
        kind="",
    ),
    "forward() keeps a state in the module": Situation(
        torch_contract(
            model="class Net(torch.nn.Module):\n"
            "        seen = 0\n"
            "        def forward(self, x):\n"
            "            self.seen += 1\n"
            "            return (x * self.seen).flatten(1)\n"
            "    return Net().eval()"
        ),
        ["differs from run to run"],
        ["make a state an input and an output"],
        "warning",
    ),
    "a sample's output depends on the others": Situation(
        torch_contract(
            model="class Net(torch.nn.Module):\n"
            "        def forward(self, x):\n"
            "            return (x - x.mean(0, keepdim=True)).flatten(1)\n"
            "    return Net().eval()"
        ),
        ["depends on the other samples of its batch"],
        ["batch_axis"],
    ),
    "a traced module": Situation(
        torch_contract(
            model="from tests.networks import depthwise_cnn\n"
            "    return torch.jit.trace(depthwise_cnn(), torch.zeros(1, 1, 28, 28))"
        ),
        kind="",
    ),
    "weights in the place of the model": Situation(
        torch_contract(
            model="from tests.networks import depthwise_cnn\n"
            "    return depthwise_cnn().state_dict()"
        ),
        ["returned a OrderedDict"],
        ["load_state_dict()"],
    ),
    "NaN among the weights": Situation(
        torch_contract(
            model="from tests.networks import depthwise_cnn\n"
            "    net = depthwise_cnn()\n"
            "    next(net.parameters()).data[0] = float('nan')\n"
            "    return net"
        ),
        ["the model itself gives NaN"],
        ["trained ones"],
        unlike=("batch of one", "parameter quantization"),
    ),
    "a limit that is computed": Situation(
        onnx_contract(
            Graph(
                [
                    CONV,
                    node("ReduceMax", "c", "hi", keepdims=0),
                    helper.make_node("Clip", ["c", "", "hi"], ["y"], "Clip_y"),
                ],
                list(CONV_WEIGHTS),
            )
        ),
        ["upper limit 'hi' is computed"],
        ["clamp to constants"],
    ),
    "an LSTM that puts out its sequence alone": Situation(
        onnx_contract(_sequence(), input_shape=(6, 5)), kind=""
    ),
    "a convolution by what is computed": Situation(
        onnx_contract(
            Graph(
                [
                    node("ReduceMean", "x axes", "m", keepdims=1),
                    node("Mul", "m w", "k"),
                    node("Conv", "x k", "y"),
                ],
                [CONV_WEIGHTS[0], constant("axes", [0, 1, 2, 3], np.int64)],
            )
        ),
        ["Conv_y", "weight 'k' is computed"],
        ["torch.matmul"],
    ),
    "indices of a MaxPool": Situation(
        onnx_contract(
            Graph(
                [CONV, node("MaxPool", "c", "y i", kernel_shape=[2, 2])],
                list(CONV_WEIGHTS),
                outputs=("y", "i"),
            )
        ),
        ["MaxPool_y", "Indices"],
        ["return_indices=False"],
    ),
    "a file whose batch of one is summed": Situation(
        onnx_contract(after_conv("ReduceMean", keepdims=0)),
        ["the batch of one of the export"],
        ["batch_size"],
        unlike=("comparison of floats",),
    ),
    "a network that is spread over devices": Situation(
        torch_contract(
            model="from tests.networks import depthwise_cnn\n"
            "    return torch.nn.DataParallel(depthwise_cnn()).eval()"
        ),
        kind="",
    ),
    "a ConvTranspose without pads": Situation(
        onnx_contract(
            Graph(
                [CONV, node("ConvTranspose", "c tw", "y", strides=[2, 2])],
                [*CONV_WEIGHTS, weights("tw", 8, 4, 2, 2)],
            )
        ),
        kind="",
    ),
    "a metric that is a text": Situation(
        torch_contract(evaluate=_scoring("") + "return {'top1': '71.2'}"),
        ["top1 = '71.2'"],
        ["top1=float(value)"],
        score=True,
        unlike=("NaN",),
    ),
    "random weights at each call": Situation(
        torch_contract(
            model="return torch.nn.Sequential(torch.nn.Conv2d(1, 8, 3), torch.nn.Flatten()).eval()"
        ),
        ["returns another model each time", "other numbers in 2 of its 2 tensors, '0.weight'"],
        ["load_state_dict()", "torch.manual_seed(0)"],
        unlike=("control flow", "branches"),
    ),
    "a file that is not where it was": Situation(
        torch_contract(calibration="return torch.load('images.pt')"),
        ["images.pt", "create_calib_dataloader()"],
        ["Path(__file__).parent"],
    ),
    "a package that is not installed": Situation(
        torch_contract(model="import no_such_package"),
        ["No module named 'no_such_package'"],
        ["install it"],
    ),
    "an op that esp-ppq does not run": Situation(
        onnx_contract(after_conv("Mish")), ["Mish_y"], ["replace it in the model"]
    ),
    "a Resize to a fixed size": Situation(
        onnx_contract(
            Graph(
                [
                    CONV,
                    helper.make_node(
                        "Resize", ["c", "", "", "s"], ["y"], "Resize_y", mode="nearest"
                    ),
                ],
                [*CONV_WEIGHTS, constant("s", [1, 8, 16, 16], np.int64)],
            )
        ),
        kind="",
    ),
    "a file that is no ONNX": Situation(
        onnx_contract(_tflite, file="model.tflite"), ["tflite"], ["ONNX"], unlike=CATCH_ALL
    ),
    "a fixed batch in a Reshape": Situation(
        onnx_contract(
            Graph(
                [CONV, node("Reshape", "c target", "y")],
                [*CONV_WEIGHTS, constant("target", [1, 512], np.int64)],
            )
        ),
        ["Reshape_y", "batch"],
        ["-1"],
    ),
    # What the file declares, and what the contract says of it.
    "the shape of channels first for a file of channels last": Situation(
        onnx_contract(
            Graph(
                [node("Transpose", "x", "t", perm=[0, 3, 1, 2]), node("Conv", "t w b", "y")],
                list(CONV_WEIGHTS),
                inputs={"x": (1, 8, 8, 3)},
            )
        ),
        ["[batch, 3, 8, 8]", "[1, 8, 8, 3]"],
        ["NHWC", "set input_shape to [8, 8, 3]"],
        unlike=CATCH_ALL,
    ),
    "an input_shape other than the file's": Situation(
        onnx_contract(after_conv("Relu"), input_shape=(3, 16, 16)),
        ["[batch, 3, 16, 16]", "[1, 3, 8, 8]"],
        ["set input_shape to [3, 8, 8]"],
        unlike=CATCH_ALL,
    ),
    "a file in fp16": Situation(onnx_contract(_half), ["float16"], ["float32"], unlike=CATCH_ALL),
    "a file that is quantized already": Situation(
        onnx_contract(_quantized), ["QuantizeLinear"], ["float model"], unlike=CATCH_ALL
    ),
    "an If on a constant": Situation(onnx_contract(_fixed), kind=""),
    "an If on the input": Situation(onnx_contract(_chosen), ["If_y"], ["branch"], unlike=CATCH_ALL),
    "inputs in another order": Situation(
        onnx_contract(_two_inputs("b", "a"), input_shape=((3, 8, 8), (1, 16, 16))),
        ["'a'", "'b'"],
        ["order"],
        unlike=CATCH_ALL,
    ),
    "a missing input": Situation(
        onnx_contract(_two_inputs(), input_shape=(3, 8, 8)),
        ["2 inputs"],
        ["input_shape"],
        unlike=CATCH_ALL,
    ),
    "a state whose first axis is no batch": Situation(
        onnx_contract(_lstm(initial=True), input_shape=((6, 5), (1, 8), (1, 8)), batch_size=4),
        ["[6, 1, 5]", "[batch, 6, 5]"],
        ["batch_axis"],
        unlike=CATCH_ALL,
    ),
    "dict batches for an ONNX file": Situation(
        onnx_contract(
            _two_inputs(),
            input_shape=((3, 8, 8), (1, 16, 16)),
            batch="{'b': torch.randn(16, 1, 16, 16), 'a': torch.randn(16, 3, 8, 8)}",
        ),
        kind="",
    ),
    "dynamic axes": Situation(onnx_contract(_dynamic()), kind=""),
    # Ops that esp-ppq reads otherwise than ONNX means them.
    "a Conv and a constant Add": Situation(
        onnx_contract(
            Graph(
                [CONV, node("Add", "c k", "y")],
                [*CONV_WEIGHTS, weights("k", 1, 8, 1, 1, scale=2.0)],
            )
        ),
        kind="",
    ),
    "Softmax of opset 11 without an axis": Situation(
        onnx_contract(Graph([CONV, node("Softmax", "c", "y")], list(CONV_WEIGHTS), opset=11)),
        kind="",
    ),
    "a padded AveragePool that does not count its padding": Situation(
        onnx_contract(
            after_conv("AveragePool", kernel_shape=[3, 3], pads=[1, 1, 1, 1], count_include_pad=0)
        ),
        ["AveragePool", "count_include_pad"],
        ["count_include_pad=True"],
    ),
    "MaxPool without strides": Situation(
        onnx_contract(after_conv("MaxPool", kernel_shape=[2, 2])), kind=""
    ),
    "AveragePool without strides": Situation(
        onnx_contract(after_conv("AveragePool", kernel_shape=[2, 2])), kind=""
    ),
    "linear Resize, asymmetric": Situation(
        onnx_contract(_resize(mode="linear", coordinate_transformation_mode="asymmetric")),
        ["Resize_y", "asymmetric"],
        ["half_pixel"],
    ),
    "nearest Resize that rounds up": Situation(
        onnx_contract(_resize(mode="nearest", nearest_mode="round_prefer_ceil")),
        kind="",
    ),
    "ConvTranspose with asymmetric pads": Situation(
        onnx_contract(
            Graph(
                [CONV, node("ConvTranspose", "c tw", "y", strides=[2, 2], pads=[0, 0, 1, 1])],
                [*CONV_WEIGHTS, weights("tw", 8, 4, 3, 3)],
            )
        ),
        kind="",
    ),
    "Split by num_outputs": Situation(
        onnx_contract(
            Graph(
                [CONV, node("Split", "c", "s0 s1 s2", axis=1, num_outputs=3)],
                list(CONV_WEIGHTS),
                outputs=("s0", "s1", "s2"),
            )
        ),
        kind="",
    ),
}
