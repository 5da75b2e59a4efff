"""A setting as a few lines of Python, and as a whole script, that need esp-ppq alone."""

from __future__ import annotations

import keyword
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from espdl_quantize.core import SHELL, Command, Hint
from espdl_quantize.record import Iteration, load_applied
from espdl_quantize.report._escape import plain, python_literal
from espdl_quantize.setting import PASSES, Setting

_HOLDERS = {name: spec.parameters for name, spec in PASSES.items()}
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
    yield f"setting = QuantizationSettingFactory.espdl_setting(num_of_bits={num_of_bits:d})"
    if setting.calib_algorithm is not None:
        yield _assign("quantize_activation_setting.calib_algorithm", setting.calib_algorithm)
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
            platform = f"get_target_platform({python_literal(target)}, {entry.bits})"
            yield f"setting.dispatching_table.append({python_literal(entry.op)}, {platform})"
    if setting.extra:
        yield ""
        yield from _extra("", setting.extra)


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
    "device": config.get("device", "cpu"),
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
    call = _CALL.format(target=python_literal(target), bits=applied.num_of_bits)
    return head + python_snippet(applied.setting, target, applied.num_of_bits) + call


def how_exact(best: Iteration) -> str:
    """Say how near the script comes to the best model."""
    return REFERENCE if best.engine == "reference" else FAST
