"""A whole script that makes the best model again by plain esp-ppq."""

from __future__ import annotations

from pathlib import Path

from espdl_quantize.core import SHELL, Command, Hint
from espdl_quantize.record import Iteration, load_applied
from espdl_quantize.report._escape import plain, python_literal
from espdl_quantize.report._snippet import python_snippet

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
