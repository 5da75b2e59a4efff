"""Writes contract modules for tests; the defaults make a small torch contract that holds."""

from __future__ import annotations

from pathlib import Path
from typing import Any

CONFIG: dict[str, Any] = {
    "model_type": "torch",
    "model_name": "net",
    "input_shape": [1, 28, 28],
    "batch_size": 16,
    "target": "esp32s3",
    "num_of_bits": 8,
    "device": "cpu",
    "calib_steps": 4,
    "analyse_steps": 2,
    "primary_metric": "top1",
    "metric_direction": "max",
}

CALIBRATION = """from tests.networks import calibration_images
    from torch.utils.data import DataLoader
    return DataLoader(calibration_images(64), batch_size=16)"""
MODEL = "from tests.networks import depthwise_cnn\n    return depthwise_cnn()"
EVALUATE = "from tests.networks import agreement\n    return {'top1': agreement(quant_graph, 256)}"
RUN = "from tests.networks import agreement; agreement(quant_graph, 8)\n    "
"""Runs the graph, for an evaluation that then returns whatever a test is about."""


def write_contract(
    folder: Path,
    *,
    config: dict[str, Any] | None = None,
    calibration: str = CALIBRATION,
    model: str = MODEL,
    evaluate: str = EVALUATE,
    prelude: str = "",
    extra: str = "",
) -> Path:
    """Write user_quant.py into ``folder``; each argument is the body of one function."""
    path = folder / "user_quant.py"
    path.write_text(
        f"{prelude}QUANT_CONFIG = {config or CONFIG!r}\n"
        f"def create_calib_dataloader():\n    {calibration}\n"
        f"def get_torch_model():\n    {model}\n"
        f"def evaluate(quant_graph):\n    {evaluate}\n"
        f"{extra}"
    )
    return path
