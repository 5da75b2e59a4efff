"""Exports a quantized graph to the files that ESP-DL loads."""

from __future__ import annotations

import contextlib
import math
import traceback
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path
from typing import Any

from espdl_quantize.core import IterationError, error_of
from espdl_quantize.ppq._blame import failure_of
from espdl_quantize.ppq._fallback import Restore, keep_graph
from espdl_quantize.ppq._messages import follow_standard_output
from espdl_quantize.ppq._quantize import QuantizedModel
from espdl_quantize.ppq.engines import QuantizationEngine, ReferenceEngine
from espdl_quantize.ppq.patches import When, installed, override
from espdl_quantize.ppq.unsupported import without_form
from espdl_quantize.record.files import TEST_MODEL
from espdl_quantize.setting import Setting, Streaming


def export(
    model: QuantizedModel,
    file: Path,
    *,
    engine: QuantizationEngine | None = None,
    with_info: bool = False,
    with_native: bool = False,
    test_values: Mapping[str, Mapping[str, Any]] | None = None,
) -> dict[str, tuple[int, ...]]:
    """Write ``file`` (.espdl); the graph stays as it is, since esp-ppq exports a copy of it.

    Args:
        model: the quantized model.
        file: where the .espdl goes.
        engine: is installed, and does the work; None for plain esp-ppq.
        with_info: write .info (readable text) and .json (scales) beside it.
        with_native: write .native, esp-ppq's own pickled graph, beside it.
        test_values: tensors by name under "inputs" and "outputs"; ``model_test.espdl`` beside the
            file is the same model with these recorded in it. It is left out where esp-ppq cannot
            record them: the model itself does not depend on it.

    Returns:
        By variable, the axes of the graph's tensor in the order in which the file keeps them; the
        file itself does not say.

    Raises:
        IterationError: esp-ppq cannot export an op.
    """
    import esp_ppq.lib as ppq_lib
    from esp_ppq.core import TargetPlatform

    follow_standard_output()

    layouts: dict[str, tuple[int, ...]] = {}

    def write() -> None:
        exporter = ppq_lib.Exporter(platform=model.platform)
        recording = _recording(exporter, test_values, file.with_name(TEST_MODEL))
        with installed(When.EXPORT, layouts), recording:
            exporter.export(
                file_path=str(file),
                graph=model.graph,
                export_config=with_info,
                **export_arguments(model.setting),
            )
        if with_native:
            ppq_lib.Exporter(platform=TargetPlatform.NATIVE).export(
                file_path=str(file.with_suffix(".native")), graph=model.graph
            )

    def snapshot() -> Restore:
        put_back = keep_graph(model.graph)

        def restore() -> None:
            put_back()
            layouts.clear()
            _reset_exporter()

        return restore

    streaming = model.setting.streaming
    if streaming is not None:
        reject_streaming(streaming, model.graph)
    try:
        (engine or ReferenceEngine()).write_files(write, file.name, snapshot)
    except (OSError, IterationError):
        raise
    except Exception as error:
        # esp-ppq stumbles over an op without a form, and names another or none.
        named = error_of(without_form(model.graph))
        if named is not None:
            raise named from error
        raise failure_of(error, "esp-ppq cannot export the model", "export the model") from error
    finally:
        _reset_exporter()
    return layouts


def export_arguments(setting: Setting) -> dict[str, Any]:
    """Return what esp-ppq's exporter is given beside the graph, by a setting."""
    arguments: dict[str, Any] = {}
    if setting.model_version is not None:
        arguments["model_version"] = setting.model_version
    if setting.metadata:
        arguments["metadata_props"] = dict(sorted(setting.metadata.items()))
    streaming = setting.streaming
    if streaming is not None:
        arguments["auto_streaming"] = streaming.auto
        arguments["streaming_input_shape"] = streaming.input_shapes or streaming.input_shape
        arguments["streaming_table"] = {
            cache.variable: {
                "window_size": cache.window_size,
                "op_name": cache.op,
                "frame_axis": cache.frame_axis,
            }
            for cache in streaming.caches or []
        }
    return arguments


def reject_streaming(streaming: Streaming, graph: Any) -> None:
    """Refuse what esp-ppq would stream wrongly, or not at all.

    Its exporter writes a line to the log and goes on where a name is not known or a Conv is padded
    on the side of the future, which leaves a file that computes something else.

    Args:
        streaming: of the setting.
        graph: the quantized ``BaseGraph``.

    Raises:
        IterationError: names what does not fit.
    """
    shapes = streaming.input_shapes
    if shapes is None:
        if len(graph.inputs) != 1:
            raise IterationError(
                f"streaming.input_shape is of one input, the model has {len(graph.inputs)}",
                "give streaming.input_shapes, by name: " + ", ".join(graph.inputs),
            )
        shapes = {name: streaming.input_shape or [] for name in graph.inputs}
    axes = set()
    for name, shape in shapes.items():
        if name not in graph.inputs:
            raise IterationError(
                f"streaming.input_shapes names {name!r}, which is no input of the model",
                "its inputs are " + ", ".join(graph.inputs),
            )
        whole = [int(size) for size in graph.inputs[name].shape]
        differing = []
        if len(shape) == len(whole):
            differing = [axis for axis, size in enumerate(whole) if shape[axis] != size]
        if len(differing) != 1 or not 0 < shape[differing[0]] < whole[differing[0]]:
            raise IterationError(
                f"the streaming shape of {name!r} is {shape}, the whole model's is {whole}",
                "give the same shape with fewer frames, at least 1, on the axis of time",
            )
        axes.add(differing[0])
    for cache in streaming.caches or []:
        if cache.variable not in graph.variables:
            raise IterationError(
                f"streaming.caches names {cache.variable!r}, which the graph does not have",
                "take a name from simplified_ops.json",
            )
    axis = axes.pop()
    for op in graph.operations.values() if streaming.auto else ():
        pads = op.attributes.get("pads")
        spatial = axis - 2
        if op.type not in _WINDOWED or not pads or not 0 <= spatial < len(pads) // 2:
            continue
        if pads[len(pads) // 2 + spatial] > 0:
            raise IterationError(
                f"op {op.name!r} ({op.type}) has the pads {list(pads)}: it reads frames that are "
                "still to come, which a streaming model does not have",
                "pad on the side of the past alone, in the model: F.pad before the Conv, or "
                "pads [k-1, 0]",
            )


_WINDOWED = ("Conv", "AveragePool", "MaxPool", "ConvTranspose")
"""Ops that read several frames (``CONV_STREAMING_OP_SET``)."""


def _reset_exporter() -> None:
    """Reset esp-ppq's global state, which its exporter clears only where the export went well."""
    from esp_ppq.parser.espdl import helper
    from esp_ppq.parser.espdl.espdl_streaming import StreamingTable
    from esp_ppq.parser.espdl.espdl_typedef import ExporterPatternInfo

    ExporterPatternInfo().reset()
    StreamingTable().reset()
    helper.reset_global_fbs_builder()


@contextlib.contextmanager
def _recording(
    exporter: Any, test_values: Mapping[str, Mapping[str, Any]] | None, file: Path
) -> Iterator[None]:
    """Have an exporter write its model a second time, with test values in it.

    Preparing a graph takes most of an export's time, and is done once: both files come from the
    same prepared graph, so their weights and exponents are equal.
    """
    if test_values is None:
        yield
        return
    from esp_ppq.parser.espdl import helper

    original = exporter.export_graph

    def export_graph(**arguments: Any) -> bytes:
        plain: bytes = original(**arguments)
        try:
            recorded = original(**{**arguments, "values_for_test": test_values})
        except Exception:
            traceback.print_exc()
            helper.reset_global_fbs_builder()
        else:
            helper.save(recorded, str(file))
        return plain

    override(exporter, "export_graph", export_graph)
    try:
        yield
    finally:
        # esp-ppq hands out the same exporter every time.
        del exporter.export_graph


def keeping_layouts(
    original: Callable[[Any], None], layouts: dict[str, tuple[int, ...]]
) -> Callable[[Any], None]:
    """Keep the permutations of an export, which the exporter forgets at its end."""

    def keep_and_reset(info: Any) -> None:
        for name, axes in info.var_permute.items():
            if axes:
                layouts[name] = tuple(axes)
        original(info)

    return keep_and_reset


def laying_out_constants(original: Callable[..., Any], _: object) -> Callable[..., Any]:
    """Permute the constant of an element-wise op as the activation beside it.

    esp-ppq takes a constant to fit any layout (``BypassAddLikePattern``): one of [1, C, 1, 1] stays
    so beside an activation of [N, H, W, C], and the kernel multiplies rows by what is of channels.
    """

    def export(pattern: Any, op: Any, graph: Any, **options: Any) -> Any:
        from esp_ppq.parser.espdl.espdl_typedef import ADD_LIKE_OP_SET, ExporterPatternInfo

        result = original(pattern, op, graph, **options)
        if op.type not in ADD_LIKE_OP_SET or len(op.inputs) != 2:
            return result
        axes = ExporterPatternInfo().get_var_permute(op.outputs[0].name)
        if not axes or list(axes) == sorted(axes):
            return result
        activations = [variable for variable in op.inputs if not variable.is_parameter]
        constants = [variable for variable in op.inputs if variable.is_parameter]
        for constant in constants if activations else ():
            value = constant.value
            # Of several ops that share it, each may have another layout.
            if value.numel() > 1 and value.dim() <= len(axes) and len(constant.dest_ops) == 1:
                whole = value.reshape([1] * (len(axes) - value.dim()) + list(value.shape))
                constant.value = whole.permute(*axes).contiguous()
        return result

    return export


def espdl_tables(body: bytes) -> tuple[Any, Any]:
    """Open the FlatBuffer of an .espdl file.

    Args:
        body: the file without its header.

    Returns:
        The table of the graph, and the class that reads a tensor's type and shape.
    """
    from esp_ppq.parser.espdl import helper

    graph = helper.Model.Model.GetRootAs(body, 0).Graph()
    return graph, helper.TensorTypeAndShape.TensorTypeAndShape


def configured_variables(op: Any) -> list[tuple[Any, tuple[int, ...] | None]]:
    """Return the variables of an op, each with the exponents that an export gives it.

    The exponents are base-2 logarithms of the scales; None where the variable has none.
    """
    from esp_ppq.IR import QuantableOperation

    if isinstance(op, QuantableOperation):
        return [(variable, _exponents(config)) for config, variable in op.config_with_variable]
    return [(variable, None) for variable in (*op.inputs, *op.outputs)]


def _exponents(config: Any) -> tuple[int, ...] | None:
    from esp_ppq.core import QuantizationStates

    if config.state == QuantizationStates.FP32 or config.scale is None:
        return None
    if not config.can_export(True):
        return None
    return tuple(round(math.log2(scale)) for scale in config.scale.flatten().tolist())


def espdl_text(body: bytes) -> str:
    """Return ops, tensors and exponents in esp-ppq's own words, without the numbers of weights.

    Args:
        body: an .espdl file without its header.
    """
    from esp_ppq.parser.espdl import helper

    return str(helper.printable_graph(body, print_value_info=True)) + "\n"
