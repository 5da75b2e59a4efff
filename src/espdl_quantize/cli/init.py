"""``espdl-quantize init`` and ``schema``: what a user begins with."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from espdl_quantize.core import EspdlQuantizeError


def init(
    *,
    torch: Annotated[bool, typer.Option("--torch", help="For a torch model.")] = False,
    onnx: Annotated[bool, typer.Option("--onnx", help="For an ONNX file.")] = False,
    path: Annotated[Path, typer.Argument(help="Where to write it.")] = Path("user_quant.py"),
) -> None:
    """Write a commented starter contract."""
    from espdl_quantize.contract import starter_contract

    if torch == onnx:
        raise typer.BadParameter("give one of --torch and --onnx")
    if path.exists():
        raise EspdlQuantizeError(f"{path} exists", "give another path; it is not overwritten")
    path.write_text(starter_contract("torch" if torch else "onnx"), encoding="utf-8")
    print(f"wrote {path}; fill it in, then run: espdl-quantize check {path}")


def schema() -> None:
    """Print the JSON Schema of a setting."""
    from espdl_quantize.setting import json_schema

    print(json_schema(), end="")
