"""What stands for the arguments of the calls, and what is wrong with them, before anything runs."""

from __future__ import annotations

import os
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any

from espdl_quantize.contract import QuantConfig
from espdl_quantize.core import Engine, Strategy, UsageError
from espdl_quantize.setting import nearest
from espdl_quantize.targets.ops import supported_version, version_text
from espdl_quantize.tuning import default_outputs

ESP_DL_VERSION = "esp_dl_version"
_SEEDS = 1 << 32


def folder_of(outputs: object, contract: object, target: str | None) -> Path:
    """Return the output folder; of objects the chip is no second one.

    Raises:
        UsageError: it is no path.
    """
    if outputs is None:
        outputs = default_outputs(None if contract is None else target)
    return _path("outputs", outputs, "the path of a folder").absolute()


def contract_path(contract: object) -> Path:
    """Return the path of a contract file.

    Raises:
        UsageError: it is none; a network is given in its place, for one.
    """
    return _path("contract", contract, "the path of a contract file", "pass a network as model=")


def _path(name: str, value: object, expected: str, hint: str = "") -> Path:
    if not isinstance(value, (str, os.PathLike)):
        raise UsageError(
            f"{name} is a {type(value).__name__}, expected {expected}", hint or "give a string"
        )
    return Path(value)


def count_of(iterations: object) -> int | None:
    """Return how many iterations may run.

    Raises:
        UsageError: it is no whole number.
    """
    if iterations is not None and (isinstance(iterations, bool) or not isinstance(iterations, int)):
        raise UsageError(
            f"iterations is {iterations!r} ({type(iterations).__name__})",
            "give a whole number from 1 on, or leave it out",
        )
    return iterations


def seed_of(seed: object) -> int:
    """Return the seed of the generators.

    Raises:
        UsageError: numpy and torch take none such.
    """
    if isinstance(seed, bool) or not isinstance(seed, int) or not 0 <= seed < _SEEDS:
        raise UsageError(
            f"seed is {seed!r} ({type(seed).__name__})",
            f"give a whole number from 0 to {_SEEDS - 1}",
        )
    return seed


def strategy_of(name: str) -> Strategy:
    """Return the strategy of that name.

    Raises:
        UsageError: there is none.
    """
    return Strategy(_known("strategy", name, tuple(Strategy)))


def engine_of(name: str) -> Engine:
    """Return the engine of that name.

    Raises:
        UsageError: there is none.
    """
    return Engine(_known("engine", name, tuple(Engine)))


def _known(kind: str, name: object, names: tuple[str, ...]) -> str:
    if not isinstance(name, str) or name not in names:
        raise UsageError(f"there is no {kind} {name!r}", f"choose one of {', '.join(names)}")
    return name


def version_of(more: Mapping[str, Any]) -> str | None:
    """Return the version of ESP-DL that stands in for that of a contract file.

    Raises:
        UsageError: it is no string.
        ContractError: it is no version.
    """
    version = more.get(ESP_DL_VERSION)
    if version is None:
        return None
    if not isinstance(version, str):
        raise UsageError(
            f"{ESP_DL_VERSION} is {version!r} ({type(version).__name__})",
            'give a string such as "3.3.9"',
        )
    return version_text(supported_version(version))


def refuse_unknown(ignored: Iterable[str], own: Iterable[str]) -> None:
    """Refuse arguments that mean nothing: what they were to change would silently not change.

    Args:
        ignored: their names.
        own: the names of the arguments of the call, besides the keys of QUANT_CONFIG.

    Raises:
        UsageError: there is one.
    """
    names = list(ignored)
    if not names:
        return
    valid = [*own, *QuantConfig.model_fields]
    close = [(name, nearest(name, valid)) for name in names]
    meant = [f"{like} for {name}" for name, like in close if like is not None]
    raise UsageError(
        f"{', '.join(names)} {'is no argument' if len(names) == 1 else 'are no arguments'} of the "
        "call, and no key of QUANT_CONFIG",
        f"did you mean {', '.join(meant)}?" if meant else "leave it out",
    )
