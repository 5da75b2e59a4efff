"""Starter contracts for ``espdl-quantize init``."""

from __future__ import annotations

from importlib import resources
from typing import Literal

ModelType = Literal["torch", "onnx"]


def starter_contract(model_type: ModelType) -> str:
    """Return the source of a commented contract to copy and fill in."""
    folder = resources.files("espdl_quantize.contract") / "templates"
    parts = [f"{model_type}_model", "common"]
    if model_type == "torch":
        parts.append("torch_functions")
    return "".join((folder / f"{part}.py.txt").read_text(encoding="utf-8") for part in parts)
