"""What esp-ppq's executor does not honour of an op, for the remedy where numbers differ.

Source: ``esp_ppq/executor/op/torch/default.py`` of 1.3.12, read op by op against ONNX's reference.
Nothing is refused because of these: they name the cause where an op gives other numbers, or none.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

from espdl_quantize.core import Finding, FindingKind, Hint, Option
from espdl_quantize.ppq.normalise.graph import Graph, attribute_of, has_attribute

NodeProto = Any


@dataclass(frozen=True)
class Misreading:
    """One thing that is not honoured.

    Attributes:
        what: the attribute or input, with its value.
        remedy: what to change in the model.
    """

    what: str
    remedy: str


@dataclass(frozen=True)
class _Known:
    types: tuple[str, ...]
    name: str
    applies: Callable[[NodeProto, int], bool]
    remedy: str


def _is(name: str, default: Any, *honoured: Any) -> Callable[[NodeProto, int], bool]:
    """Return a test for an attribute whose value is none of those that are honoured."""
    return lambda node, _: attribute_of(node, name, default) not in honoured


def _uneven(node: NodeProto, _: int) -> bool:
    return len(set(attribute_of(node, "pads", [0]))) > 1


def _input(place: int) -> Callable[[NodeProto, int], bool]:
    return lambda node, _: Graph.has_input(node, place)


_RECURRENT = ("GRU", "LSTM")
_UNPADDED = "let the pooling count its padding (count_include_pad=True), or pad by none"
_RESIZED = "resize by half_pixel or align_corners (torch's interpolate does), without antialias"

KNOWN: tuple[_Known, ...] = (
    _Known(
        ("AveragePool",),
        "count_include_pad",
        lambda node, _: (
            any(attribute_of(node, "pads", [0])) and not attribute_of(node, "count_include_pad", 0)
        ),
        _UNPADDED,
    ),
    _Known(
        ("AveragePool",),
        "dilations",
        lambda node, _: any(each != 1 for each in attribute_of(node, "dilations", [1])),
        "pool without dilation, or by a depthwise convolution",
    ),
    _Known(
        ("AveragePool", "MaxPool"),
        "ceil_mode",
        _is("ceil_mode", 0, 0),
        "pool with ceil_mode=False, and pad before it",
    ),
    _Known(
        ("MaxPool",),
        "pads",
        lambda node, rank: rank != 4 and _uneven(node, rank),
        "give the same pads at both sides",
    ),
    _Known(
        ("MaxPool",),
        "Indices",
        lambda node, _: len(node.output) > 1,
        "let it return no indices (return_indices=False): no chip has them",
    ),
    _Known(("ConvTranspose",), "pads", _uneven, "give the same pads all around, and slice"),
    _Known(
        ("ConvTranspose",),
        "output_shape",
        lambda node, _: has_attribute(node, "output_shape"),
        "give pads and output_padding",
    ),
    _Known(
        ("Conv",),
        "pads",
        lambda node, rank: rank == 5 and _uneven(node, rank),
        "give the same pads on all axes",
    ),
    _Known(
        ("Conv", "AveragePool", "MaxPool"),
        "auto_pad",
        _is("auto_pad", "NOTSET", "NOTSET"),
        "give pads",
    ),
    _Known(
        ("Resize",),
        "coordinate_transformation_mode",
        _is("coordinate_transformation_mode", "half_pixel", "half_pixel", "align_corners"),
        _RESIZED,
    ),
    _Known(("Resize",), "antialias", _is("antialias", 0, 0), _RESIZED),
    _Known(
        ("Resize",),
        "nearest_mode",
        lambda node, _: attribute_of(node, "mode", "nearest") == "nearest",
        "resize by whole factors, with asymmetric coordinates and floor",
    ),
    _Known(("Resize",), "exclude_outside", _is("exclude_outside", 0, 0), _RESIZED),
    _Known(
        ("Resize",),
        "cubic_coeff_a",
        lambda node, _: (
            attribute_of(node, "mode") == "cubic"
            and abs(attribute_of(node, "cubic_coeff_a", -0.75) + 0.75) > 1e-6
        ),
        "resize by linear or nearest",
    ),
    _Known(
        ("Resize",),
        "keep_aspect_ratio_policy",
        _is("keep_aspect_ratio_policy", "stretch", "stretch"),
        "give scales",
    ),
    _Known(
        ("GRU",),
        "linear_before_reset",
        _is("linear_before_reset", 0, 1),
        "use torch's GRU, which exports linear_before_reset=1",
    ),
    _Known(_RECURRENT, "layout", _is("layout", 0, 0), "transpose the input, and use layout 0"),
    _Known(
        _RECURRENT,
        "direction",
        _is("direction", "forward", "forward", "bidirectional"),
        "write it forward",
    ),
    _Known(
        _RECURRENT,
        "clip",
        lambda node, _: has_attribute(node, "clip"),
        "clip by an op of its own, or not at all",
    ),
    _Known(
        _RECURRENT,
        "activations",
        lambda node, _: has_attribute(node, "activations"),
        "use the default activations",
    ),
    _Known(_RECURRENT, "sequence_lens", _input(4), "give sequences of one length, without it"),
    _Known(("LSTM",), "peepholes", _input(7), "use an LSTM without peepholes"),
    _Known(("LSTM",), "input_forget", _is("input_forget", 0, 0), "use separate gates"),
    _Known(
        ("Gelu",),
        "approximate",
        _is("approximate", "none", "none"),
        "use GELU without the tanh approximation",
    ),
    _Known(
        ("ScatterElements",), "reduction", _is("reduction", "none", "none"), "scatter without it"
    ),
    _Known(
        ("BatchNormalization",),
        "training_mode",
        _is("training_mode", 0, 0),
        "export the model in eval mode",
    ),
    _Known(("Dropout",), "training_mode", _input(2), "export the model in eval mode"),
    _Known(
        ("ArgMax",),
        "select_last_index",
        _is("select_last_index", 0, 0),
        "take the first of equal ones",
    ),
    _Known(
        ("Pad",),
        "mode",
        _is("mode", "constant", "constant", "reflect", "edge"),
        "pad by constant, reflect or edge",
    ),
    _Known(("Shape",), "start", lambda node, _: has_attribute(node, "start"), "slice the shape"),
    _Known(("Shape",), "end", lambda node, _: has_attribute(node, "end"), "slice the shape"),
    _Known(
        ("LayerNormalization",),
        "axis",
        lambda node, rank: attribute_of(node, "axis", -1) not in (-1, rank - 1),
        "normalize the last axis",
    ),
    _Known(
        ("PRelu",), "slope", lambda node, _: True, "give one slope per channel, on the second axis"
    ),
    _Known(
        ("Softplus", "LogSoftmax"),
        "large inputs",
        lambda node, _: True,
        "esp-ppq computes it by exp and log, which overflow: keep its input within -80 and 80",
    ),
    _Known(("Mod",), "fmod", _is("fmod", 0, 1), "use fmod=1"),
    _Known(
        ("Gemm",),
        "C",
        lambda node, _: True,
        "give constant weights and one bias per column (a Linear)",
    ),
)


def misreading_of(node: NodeProto, rank: int) -> Misreading | None:
    """Return what esp-ppq does not honour of a node; None where nothing is known.

    Args:
        node: an ONNX ``NodeProto``.
        rank: of its first input.
    """
    for known in KNOWN:
        if node.op_type in known.types and known.applies(node, rank):
            value = attribute_of(node, known.name)
            shown = known.name if value is None else f"{known.name}={value!r}"
            if known.name == "count_include_pad":
                shown = f"count_include_pad=0 with pads {attribute_of(node, 'pads')}"
            return Misreading(shown, known.remedy)
    return None


def in_training(model: Any) -> Finding | None:
    """Return the fault of a BatchNormalization in training mode; None where there is none.

    onnxruntime refuses many of them, and esp-ppq folds one into the op before it, which a
    comparison would blame.

    Args:
        model: an ONNX ``ModelProto``.
    """
    for node in model.graph.node:
        if node.op_type != "BatchNormalization":
            continue
        # Before opset 14 its further outputs say so.
        if attribute_of(node, "training_mode", 0) or len(node.output) > 1:
            where = f"op {node.name!r} (BatchNormalization)"
            return Finding(
                FindingKind.FAULT,
                "in_training_mode",
                where,
                f"{where} is in training mode: it normalizes by the mean and variance of the batch "
                "at hand, which no chip has; esp-ppq takes those that the file keeps",
                Hint(
                    "export the model in eval mode, with layers that keep their statistics "
                    "(track_running_stats=True); ",
                    Option.ALLOW_MISMATCH.of(True),
                    " scores the model of the kept ones",
                ),
                figures={"op": node.name},
            )
    return None
