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
    of: Annotated[
        str | None,
        typer.Option(
            "--from",
            metavar="MODEL.ONNX|MODULE:FUNCTION",
            help="Fill in what an ONNX file says of itself, or the function that returns the torch "
            "model.",
        ),
    ] = None,
    path: Annotated[Path, typer.Argument(help="Where to write it.")] = Path("user_quant.py"),
) -> None:
    """Write a commented starter contract."""
    from espdl_quantize.contract import starter_contract, starter_from

    if sum((torch, onnx, of is not None)) != 1:
        raise typer.BadParameter("give one of --from, --torch and --onnx")
    if path.exists():
        raise EspdlQuantizeError(f"{path} exists", "give another path; it is not overwritten")
    if of is not None:
        source = starter_from(of, path)
    else:
        source = starter_contract("torch" if torch else "onnx")
    path.write_text(source, encoding="utf-8")
    print(f"wrote {path}; fill it in, then run: espdl-quantize check {path}")


def schema() -> None:
    """Print the JSON Schema of a setting."""
    from espdl_quantize.setting import json_schema

    print(json_schema(), end="")
