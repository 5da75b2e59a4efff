"""Loads a contract for a command, with what esp-ppq prints meanwhile kept off the terminal."""

from __future__ import annotations

import os
from pathlib import Path

from espdl_quantize.contract import Contract, load_contract
from espdl_quantize.iteration import captured


def load(path: Path) -> Contract:
    """Load a contract against the chips of the installed esp-ppq.

    Raises:
        ContractError: it does not load, or breaks the contract.
        InstallationError: esp-ppq is missing or lacks something.
    """
    from espdl_quantize.ppq import check_installation, target_names

    with captured(Path(os.devnull)):
        check_installation()
        return load_contract(path, target_names())
