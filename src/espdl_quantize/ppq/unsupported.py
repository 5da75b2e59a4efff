"""What esp-ppq's executor runs, and its quantizer or exporter does not do rightly."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import Any

from espdl_quantize.core import Finding, IterationError, error_of
from espdl_quantize.ppq._targets import exported_op_types
from espdl_quantize.targets.ops import op_table

_NUMBER_OF_INPUTS = {"GRU": 6, "LSTM": 7}
"""Inputs of a recurrent op up to its last initial state (ONNX operator schemas, opset 14)."""

_ELSEWHERE = (
    "leave it out of the model: let the model put out what it reads, and compute it in the program "
    "on the chip and in evaluate()"
)


def unsupported(graph: Any) -> list[Finding]:
    """Name the ops that esp-ppq cannot quantize, or would export wrongly, although it runs them.

    Args:
        graph: an esp-ppq ``BaseGraph``, before it is quantized.
    """
    findings = []
    for rule in _RULES:
        for op, code, message, hint in rule(graph):
            where = f"op {op.name!r} ({op.type})"
            error = IterationError(f"esp-ppq cannot quantize {where}: {message}", hint)
            findings.append(Finding.of_error(error, code, where))
    return findings


def reject_unsupported(graph: Any) -> None:
    """Refuse a graph that holds any of them.

    Raises:
        EspdlQuantizeError: names each op, why, and what to write instead.
    """
    error = error_of(unsupported(graph))
    if error is not None:
        raise error


def without_form(graph: Any) -> list[Finding]:
    """Name the ops of a quantized graph that esp-ppq's exporter has no ESP-DL form of."""
    return [
        Finding.of_error(
            IterationError(
                f"op {op.name!r} ({op.type}) has no ESP-DL form: esp-ppq cannot export it",
                op_table().remedies.get(op.type, _ELSEWHERE),
            ),
            "no_espdl_form",
            f"op {op.name!r} ({op.type})",
        )
        for op in graph.operations.values()
        if op.type not in exported_op_types()
    ]


_Fault = tuple[Any, str, str, str]
"""Op, code, what is wrong with it, and what to do."""


def _stateless(graph: Any) -> Iterator[_Fault]:
    """esp-ppq's alignment pass reads the initial state of every GRU and LSTM by position."""
    for op in graph.operations.values():
        if op.num_of_input < _NUMBER_OF_INPUTS.get(op.type, 0):
            hint = (
                "pass one that depends on the input, so that it has the input's batch size, e.g. "
                "zeros = (x[:, 0, :hidden] * 0).unsqueeze(0)"
            )
            yield op, "no_initial_state", "it has no initial state", hint


def _scaled_gemm(graph: Any) -> Iterator[_Fault]:
    """The exporter asserts that alpha and beta are 1 (``espdl_exporter.py``)."""
    for op in graph.operations.values():
        if op.type != "Gemm":
            continue
        alpha, beta = (float(op.attributes.get(name, 1.0)) for name in ("alpha", "beta"))
        has_bias = op.num_of_input > 2
        if alpha != 1 or (has_bias and beta != 1):
            yield (
                op,
                "scaled_gemm",
                f"its alpha is {alpha:g} and its beta {beta:g}, and ESP-DL's Gemm has neither",
                "fold them into its weight and bias: weight * alpha, bias * beta, and leave both "
                "attributes out",
            )


def _narrow_bias(graph: Any) -> Iterator[_Fault]:
    """A bias is quantized and added channel by channel; ONNX lets a Gemm broadcast it."""
    for op in graph.operations.values():
        if op.type != "Gemm" or op.num_of_input < 3:
            continue
        weight, bias = op.inputs[1].value, op.inputs[2].value
        if weight is None or bias is None:
            continue
        outputs = weight.shape[0 if op.attributes.get("transB", 0) else -1]
        if bias.numel() != outputs:
            yield (
                op,
                "broadcast_bias",
                f"its bias has {bias.numel()} numbers for {outputs} outputs",
                "write the bias out, one per output",
            )


def _computed_weights(graph: Any) -> Iterator[_Fault]:
    """The exporter lays out constant weights for ESP-DL's kernels, and no others
    (``ResetParamLayoutPattern``)."""
    for op in graph.operations.values():
        if op.type not in ("Conv", "ConvTranspose", "Gemm") or op.num_of_input < 2:
            continue
        weight = op.inputs[1]
        if weight.source_op is not None or weight.value is None:
            yield (
                op,
                "computed_weight",
                f"its weight {weight.name!r} is computed by the model or an input of it, and the "
                "kernel reads constants",
                "multiply two tensors by torch.matmul, which is a MatMul; convolve by constants",
            )


def _lost_outputs(graph: Any) -> Iterator[_Fault]:
    """esp-ppq fuses a Relu into the Conv or Gemm that it reads, whose own output is then gone."""
    for name, variable in graph.outputs.items():
        source = variable.source_op
        relus = [op for op in variable.dest_ops if op.type == "Relu"]
        if source is None or source.type not in ("Conv", "Gemm", "ConvTranspose") or not relus:
            continue
        yield (
            source,
            "lost_output",
            f"its output {name!r} is an output of the model and feeds the Relu {relus[0].name!r}, "
            "which esp-ppq fuses into it: the exported model would lack that output",
            "write that Relu as torch.clamp(x, min=0), a Clip, which is not fused; or let the "
            "model put out the Relu's output alone",
        )


def _three_dimensional(graph: Any) -> Iterator[_Fault]:
    """The exporter knows layouts of one and two dimensions (``layout_patterns.py``)."""
    for op in graph.operations.values():
        if op.type in ("Conv", "ConvTranspose", "AveragePool", "MaxPool"):
            kernel = op.attributes.get("kernel_shape")
            weight = op.inputs[1].value if "Conv" in op.type and op.num_of_input > 1 else None
            count = len(kernel) if kernel else 0 if weight is None else weight.dim() - 2
            if count > 2:
                yield (
                    op,
                    "three_dimensional",
                    f"it works in {count} dimensions, and ESP-DL's kernels in one or two",
                    "put one of the dimensions into the channels or the batch, and use the layer "
                    "of two dimensions",
                )


def _computed_limits(graph: Any) -> Iterator[_Fault]:
    """A Clip's limits are constants to esp-ppq's quantizer, and to ESP-DL."""
    for op in graph.operations.values():
        if op.type != "Clip":
            continue
        for variable, name in zip(op.inputs[1:], ("lower", "upper"), strict=False):
            if variable.source_op is not None and variable.value is None:
                yield (
                    op,
                    "computed_limit",
                    f"its {name} limit {variable.name!r} is computed by the model, and a limit is "
                    "a constant here",
                    "clamp to constants",
                )


_RULES: tuple[Callable[[Any], Iterator[_Fault]], ...] = (
    _stateless,
    _scaled_gemm,
    _narrow_bias,
    _computed_weights,
    _lost_outputs,
    _three_dimensional,
    _computed_limits,
)
