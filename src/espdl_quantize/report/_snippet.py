"""A setting as a few lines of Python, and as a whole script, that need esp-ppq alone."""

from __future__ import annotations

import keyword
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from espdl_quantize.core import SHELL, Command, Hint
from espdl_quantize.record import Iteration, load_applied
from espdl_quantize.report._escape import plain, python_literal
from espdl_quantize.setting import (
    PASSES,
    Setting,
    activation_bits,
    enabled_passes,
    width_of,
)

_HOLDERS = {name: spec.parameters for name, spec in PASSES.items() if not spec.own}
"""Each switch of esp-ppq's QuantizationSetting and the attribute with its parameters; names from
esp_ppq/api/setting.py of esp-ppq 1.3.12."""


def python_snippet(setting: Setting, target: str, num_of_bits: int = 8) -> str:
    """Write the code that builds the same QuantizationSetting.

    Args:
        setting: as it was applied.
        target: the chip's name.
        num_of_bits: the contract's default width.
    """
    return "\n".join(_lines(setting, target, num_of_bits)) + "\n"


def _lines(setting: Setting, target: str, num_of_bits: int) -> Iterator[str]:
    if setting.dispatching_table:
        yield "from esp_ppq.api import get_target_platform"
    yield "from esp_ppq.api.setting import QuantizationSettingFactory"
    yield ""
    bits = activation_bits(width_of(setting, num_of_bits))
    yield f"setting = QuantizationSettingFactory.espdl_setting(num_of_bits={bits:d})"
    for field in ("calib_algorithm", "calib_algorithm_per_layer"):
        for holder, prefix in (("activation", ""), ("parameter", "weight_")):
            value = getattr(setting, f"{prefix}{field}")
            if value:
                yield _assign(f"quantize_{holder}_setting.{field}", value)
    for name, holder in _HOLDERS.items():
        section = getattr(setting, name)
        if section is None or not section.enabled:
            continue
        yield ""
        yield _assign(name, True)
        for field, value in section.model_dump(exclude={"enabled"}).items():
            if field == "collecting_device" and value is None:
                yield f"{_assign(f'{holder}.{field}', 'cpu')}  # or 'cuda', where there is a GPU"
            elif value is not None:
                yield _assign(f"{holder}.{field}", value)
    if setting.fusion_alignment is not None:
        aligned = setting.fusion_alignment.model_dump(exclude_none=True)
        if aligned:
            yield ""
        for field, value in aligned.items():
            yield _assign(f"fusion_setting.{field}", value)
    if setting.dispatching_table:
        yield ""
        for entry in setting.dispatching_table:
            platform = f"get_target_platform({python_literal(target)}, {entry.bits!r})"
            yield f"setting.dispatching_table.append({python_literal(entry.op)}, {platform})"
    if setting.extra:
        yield ""
        yield from _extra("", setting.extra)
    yield from _beside(setting)


def _beside(setting: Setting) -> Iterator[str]:
    """Write what esp-ppq has no attribute of QuantizationSetting for."""
    for spec, section in enabled_passes(setting):
        if spec.own:
            given = section.model_dump(exclude={"enabled"}, exclude_none=True)
            yield ""
            yield f"# {spec.field} {python_literal(given)} is a pass of espdl-quantize's own, which"
            yield "# esp-ppq lacks: without it this code comes to other exponents than best/ has."
    if setting.tensor_bits:
        yield from _TENSOR_BITS.format(widths=python_literal(_widths(setting))).splitlines()
    if setting.percentile is None and not setting.int16_tables:
        return
    yield from _PIPELINE_HEAD.splitlines()
    if setting.percentile is not None:
        yield from _PERCENTILE.format(percentile=python_literal(setting.percentile)).splitlines()
    if setting.int16_tables:
        yield from _TABLES.splitlines()
    yield from _PIPELINE_END.splitlines()


def _widths(setting: Setting) -> dict[str, dict[str, dict[str, int]]]:
    widths: dict[str, dict[str, dict[str, int]]] = {}
    for entry in setting.tensor_bits or []:
        widths.setdefault(entry.op, {})[entry.tensor] = {"bit_width": entry.bits}
    return widths


def _arguments(setting: Setting) -> Iterator[str]:
    """Write what esp-ppq is given beside the setting."""
    if setting.width is not None:
        names = {8: "w8a8", 16: "w16a16", "w8a16": "w8a16"}
        yield f'    "quant_type": "{names[setting.width]}",'
    if setting.model_version is not None:
        yield f'    "model_version": {setting.model_version:d},'
    if setting.metadata:
        yield f'    "metadata_props": {python_literal(dict(sorted(setting.metadata.items())))},'
    streaming = setting.streaming
    if streaming is not None:
        caches = {
            cache.variable: {
                "window_size": cache.window_size,
                "op_name": cache.op,
                "frame_axis": cache.frame_axis,
            }
            for cache in streaming.caches or []
        }
        shape = python_literal(streaming.input_shapes or streaming.input_shape)
        yield f'    "auto_streaming": {streaming.auto!r},'
        yield f'    "streaming_input_shape": {shape},'
        yield f'    "streaming_table": {python_literal(caches)},'


def _assign(path: str, value: Any) -> str:
    return f"setting.{path} = {python_literal(value)}"


def _extra(prefix: str, values: dict[str, Any]) -> Iterator[str]:
    """Write further attributes; a dict given for a group sets each attribute of the group."""
    for key, value in values.items():
        path = f"{prefix}{key}"
        if not all(part.isidentifier() and not keyword.iskeyword(part) for part in path.split(".")):
            yield f"# skipped, no attribute name: {plain(python_literal(path))}"
        elif isinstance(value, dict) and path.endswith("_setting"):
            yield from _extra(f"{path}.", value)
        else:
            yield _assign(path, value)


_TENSOR_BITS = """
# Widths of single tensors are an attribute of esp-ppq's quantizer, which it makes itself.
from esp_ppq.quantization.quantizer.EspdlQuantizer import BaseEspdlQuantizer

apply_widths = BaseEspdlQuantizer._apply_custom_tqc


def apply_own_widths(quantizer, operation, config):
    quantizer.custom_tqc = {widths}
    apply_widths(quantizer, operation, config)


BaseEspdlQuantizer._apply_custom_tqc = apply_own_widths"""

_PIPELINE_HEAD = """
# esp-ppq has no setting for what follows: its quantizer is extended.
from esp_ppq.core import OBSERVER_PERCENTILE_MANUL_OVERRIDE
from esp_ppq.IR import QuantableOperation
from esp_ppq.quantization.optim import EspdlLUTFusionPass
from esp_ppq.quantization.quantizer.EspdlQuantizer import BaseEspdlQuantizer

build_pipeline = BaseEspdlQuantizer.build_quant_pipeline


def build_own_pipeline(quantizer, setting):
    pipeline = build_pipeline(quantizer, setting)"""

_PERCENTILE = """    for op in quantizer._graph.operations.values():
        if isinstance(op, QuantableOperation):
            for config, variable in op.config_with_variable:
                if not variable.is_parameter:
                    config.detail[OBSERVER_PERCENTILE_MANUL_OVERRIDE] = {percentile}"""

_TABLES = """    if not any(isinstance(one, EspdlLUTFusionPass) for one in pipeline):
        tables = setting.lut_optimization_setting
        pipeline.append_optimization_to_pipeline(
            EspdlLUTFusionPass(target_ops=tables.target_ops, lut_step=tables.step)
        )"""

_PIPELINE_END = """    return pipeline


BaseEspdlQuantizer.build_quant_pipeline = build_own_pipeline"""

_HEAD = """# Makes {name} again by plain esp-ppq {version}.
# Run it in the folder of {contract}.py.
import random
import sys
from pathlib import Path

import numpy
import torch
from esp_ppq.api import espdl_quantize_onnx, espdl_quantize_torch

here = Path.cwd()  # a contract may go elsewhere
sys.path.insert(0, str(here))
contract = __import__({contract!r})
config = contract.QUANT_CONFIG
random.seed({seed})
numpy.random.seed({seed})
torch.manual_seed({seed})

"""

_CALL = """
# Read once: esp-ppq goes through its loader many times, and a shuffling one would mix samples.
collate = getattr(contract, "collate_fn", lambda batch: batch)
batches = [collate(batch) for batch in contract.create_calib_dataloader()]
shapes = config["input_shape"] if isinstance(config["input_shape"][0], list) else [
    config["input_shape"]
]
common = {{
    "espdl_export_file": str(here / "model.espdl"),
    "calib_dataloader": batches,
    "calib_steps": config.get("calib_steps", 32),
    "input_shape": [[1, *shape] for shape in shapes],
    "inputs": [torch.zeros([1, *shape]) for shape in shapes],
    "target": {target},
    "num_of_bits": {bits},
{more}    "device": config.get("device", "cpu"),
    "setting": setting,
    "collate_fn": lambda batch: batch,
    "error_report": False,
}}
if config["model_type"] == "torch":
    espdl_quantize_torch(model=contract.get_torch_model(), **common)
else:
    espdl_quantize_onnx(onnx_import_file=str(here / config["onnx_path"]), **common)
"""

_ORDER = (
    "The order of the tensors in the file, and with it the padding between them, is esp-ppq's own "
    "and changes from run to run."
)
REFERENCE = (
    "This iteration ran on plain esp-ppq: the script gives the same weights and exponents, bit for "
    f"bit. {_ORDER}"
)
FAST = (
    "This iteration ran on the fast engine. Without a training pass the script gives the same "
    "weights and exponents, bit for bit. After training (TQT, blockwise) the exponents are the "
    "same and weights may differ by rounding, since sums are taken in another order; "
    f"{SHELL.spell(Hint(Command.ENGINES))} measures it on your model. {_ORDER}"
)


LOWERED = "need no left shift"
"""In the warnings of an iteration whose weights got lower exponents."""
NOT_LOWERED = (
    "Weights whose exponents were lowered, as the iteration's warnings tell, keep higher ones in "
    "the script's model, whose sums the vector unit would shift left: deploy the file of best."
)


def python_script(best: Iteration) -> str:
    """Write the script; empty where the setting as applied cannot be read."""
    applied = load_applied(best)
    if applied.setting is None:
        return ""
    target = best.target_chip or "esp32p4"
    contract = Path(best.contract_path or "user_quant.py").stem
    head = _HEAD.format(
        name=plain(best.name),
        version=plain(best.esp_ppq_version or ""),
        contract=contract if contract.isidentifier() else "user_quant",
        seed=int(best.seed or 0),
    )
    more = "".join(f"{line}\n" for line in _arguments(applied.setting))
    call = _CALL.format(target=python_literal(target), bits=applied.num_of_bits, more=more)
    return head + python_snippet(applied.setting, target, applied.num_of_bits) + call


def how_exact(best: Iteration) -> str:
    """Say how near the script comes to the best model."""
    exact = REFERENCE if best.engine == "reference" else FAST
    lowered = any(LOWERED in warning for warning in best.warnings)
    return f"{exact} {NOT_LOWERED}" if lowered else exact
