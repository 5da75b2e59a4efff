"""``espdl-quantize lint``: holds a hand-written setting against the rules of the search."""

from __future__ import annotations

import sys
from pathlib import Path
from typing import Annotated

import typer

from espdl_quantize.cli._options import AsJson, OutputFolder
from espdl_quantize.core import EXIT_OK, EXIT_REFUSED


def lint(
    *,
    setting: Annotated[
        Path, typer.Argument(help="A JSON setting, or a quant_setting.json that esp-ppq saved.")
    ],
    output_dir: OutputFolder = Path("outputs"),
    as_json: AsJson = False,
) -> None:
    """Check a hand-written setting against the rules of the search and the names of the ops."""
    from espdl_quantize.core import dumps
    from espdl_quantize.report import lint as lint_folder
    from espdl_quantize.setting import load_setting

    violations = lint_folder(output_dir, load_setting(setting))
    if as_json:
        print(dumps({"violations": [vars(entry) for entry in violations]}), end="")
    else:
        print("\n".join(map(str, violations)) or "the setting keeps every rule")
    sys.exit(EXIT_REFUSED if violations else EXIT_OK)
