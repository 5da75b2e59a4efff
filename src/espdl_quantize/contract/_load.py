"""Loads the user's contract module by its path and gives it a typed face."""

from __future__ import annotations

import contextlib
import hashlib
import importlib.machinery
import importlib.util
import inspect
import sys
import traceback
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from types import CodeType, ModuleType
from typing import Any

from espdl_quantize.contract._config import (
    QuantConfig,
    UnlabelledMetric,
    parse_config,
    unknown_keys,
)
from espdl_quantize.contract._faults import ContractFaultsError, Fault
from espdl_quantize.contract.fingerprint import fingerprint
from espdl_quantize.contract.surroundings import Surroundings
from espdl_quantize.core import Command, ContractError, Hint


@dataclass(frozen=True, kw_only=True)
class Overrides:
    """What the caller says in place of QUANT_CONFIG's own; None where that one holds.

    Attributes:
        target: the chip.
        esp_dl_version: the version of ESP-DL on it.
    """

    target: str | None = None
    esp_dl_version: str | None = None

    def over(self, config: Mapping[str, Any]) -> dict[str, Any]:
        """Return a QUANT_CONFIG as it is with them."""
        given = {key: value for key, value in vars(self).items() if value is not None}
        return {**config, **given}

    def change_chip(self, config: object) -> bool:
        """Tell whether the chip is another one than that of a QUANT_CONFIG."""
        if self.target is None or not isinstance(config, Mapping):
            return False
        stated = config.get("target")
        return not isinstance(stated, str) or stated.lower() != self.target.lower()


NO_OVERRIDES = Overrides()


@dataclass(frozen=True)
class Contract:
    """A validated contract: its configuration and the user's functions.

    The functions run in the contract's own surroundings: with its folder importable, and with the
    working directory and the import path that its code left, the import first. So a lazy ``import
    my_model`` inside a function finds its neighbour, and a relative path what it named before. The
    caller's own directory and path hold again after each call.

    Attributes:
        path: the module's file.
        config: its QUANT_CONFIG, validated.
        ignored_keys: keys of QUANT_CONFIG that mean nothing here.
        module: what was loaded.
        fingerprint: changes with whatever in the file its scores depend on. It is of the file as
            it was loaded: an edit during a long search must not count for what runs already.
        surroundings: what holds while the contract's code runs.
        is_file: whether ``path`` is a file that a command can load it from; one that was made of
            objects has none.
        target_given: whether the chip is another than QUANT_CONFIG's, because the caller said so.
    """

    path: Path
    config: QuantConfig
    ignored_keys: tuple[str, ...]
    module: ModuleType
    fingerprint: str = ""
    surroundings: Surroundings = field(kw_only=True, compare=False, repr=False)
    is_file: bool = field(default=True, kw_only=True)
    target_given: bool = field(default=False, kw_only=True)

    @property
    def model_name(self) -> str:
        """The name for reports: as given, else of the ONNX file, the contract's file or folder."""
        if self.config.model_name:
            return self.config.model_name
        if self.config.model_type == "onnx":
            return self.onnx_path.stem
        # What every contract is called says nothing of the model; its folder may.
        is_usual = self.path.stem == "user_quant"
        return (self.path.parent.name if is_usual else self.path.stem) or self.path.stem

    @property
    def onnx_path(self) -> Path:
        """The ONNX file; a relative path is taken from the contract's folder."""
        return (self.path.parent / (self.config.onnx_path or "")).resolve()

    @property
    def command_path(self) -> str | None:
        """What a command is given to load it; None where it was made of objects."""
        return str(self.path) if self.is_file else None

    @property
    def has_evaluate(self) -> bool:
        """Whether the contract scores; else agreement with the float model is the score."""
        # One that was forgotten is no choice: the metric tells.
        return callable(
            getattr(self.module, "evaluate", None)
        ) or self.config.primary_metric not in set(UnlabelledMetric)

    @property
    def has_score_loader(self) -> bool:
        """Whether the contract brings held-out samples for a score without labels."""
        return callable(getattr(self.module, "create_score_dataloader", None))

    @property
    def has_evaluate_fast(self) -> bool:
        """Whether the contract brings a faster evaluation for use while searching."""
        return callable(getattr(self.module, "evaluate_fast", None))

    @property
    def has_evaluate_final(self) -> bool:
        """Whether the contract brings an evaluation on images that the search never scores."""
        return callable(getattr(self.module, "evaluate_final", None))

    @property
    def has_aggregate(self) -> bool:
        """Whether the contract makes its metric of records, one per sample."""
        return callable(getattr(self.module, "aggregate", None))

    @property
    def has_collate_fn(self) -> bool:
        """Whether the contract takes the inputs out of what its loader yields."""
        return hasattr(self.module, "collate_fn")

    def call(self, name: str, *args: Any) -> Any:
        """Call one of the user's functions; its own exceptions pass through."""
        with self.entered():
            try:
                return getattr(self.module, name)(*args)
            except SystemExit as error:
                # It would end the command, and without a word.
                raise RuntimeError(f"{name}() called sys.exit({error.code!r})") from error

    def entered(self) -> contextlib.AbstractContextManager[None]:
        """Return a block for code of the contract that runs outside its functions.

        The batches of its loader come from such code, and so do the outputs of its torch model.
        """
        return self.surroundings.entered()

    def collate(self, batch: Any) -> Any:
        """Apply the user's collate_fn, or pass the batch on where there is none."""
        return self.call("collate_fn", batch) if self.has_collate_fn else batch


def load_contract(
    path: Path, known_targets: Sequence[str], overrides: Overrides = NO_OVERRIDES
) -> Contract:
    """Load a contract and validate everything that can be checked without running the model.

    Args:
        path: the contract module.
        known_targets: chip names that the installed esp-ppq accepts.
        overrides: what holds in place of QUANT_CONFIG's own.

    Raises:
        ContractError: the file is missing or does not load.
        ContractFaultsError: it loads, and breaks the contract; every fault is listed.
    """
    path = require_file(path)
    surroundings = Surroundings(path.parent)
    module = _load_module(path, surroundings)
    stated = getattr(module, "QUANT_CONFIG", None)
    if overrides != NO_OVERRIDES and isinstance(stated, Mapping):
        # Its functions may read it, too.
        vars(module)["QUANT_CONFIG"] = overrides.over(stated)
    try:
        contract = contract_of(module, path, known_targets, surroundings=surroundings)
    except ContractFaultsError as error:
        raise _as_given(error, overrides) from None
    return replace(
        contract,
        fingerprint=fingerprint(path, contract.config),
        target_given=overrides.change_chip(stated),
    )


def _as_given(error: ContractFaultsError, overrides: Overrides) -> ContractFaultsError:
    """Say of a fault that it is not in the file, but was given by the caller."""
    given = {name for name, value in vars(overrides).items() if value is not None}
    faults = [
        replace(fault, found=f"{fault.found} (given in place of the contract's own)")
        if fault.name in given
        else fault
        for fault in error.faults
    ]
    return ContractFaultsError(error.path, faults, error.rest)


def contract_of(
    module: ModuleType,
    path: Path,
    known_targets: Sequence[str],
    *,
    surroundings: Surroundings,
    is_file: bool = True,
) -> Contract:
    """Validate a module that is loaded already.

    Args:
        module: has QUANT_CONFIG and the functions of a contract.
        path: of its file; the names of files in it are relative to that one's folder.
        known_targets: chip names that the installed esp-ppq accepts.
        surroundings: what holds while its code runs.
        is_file: whether a command can load it from ``path``.

    Returns:
        The contract, without a fingerprint.

    Raises:
        ContractFaultsError: it breaks the contract; every fault is listed.
    """
    payload = getattr(module, "QUANT_CONFIG", None)
    has_evaluate = not _scores_without_labels(module, payload)
    config, faults = parse_config(payload, known_targets, has_evaluate=has_evaluate)
    model_type = payload.get("model_type") if isinstance(payload, Mapping) else None
    faults += _function_faults(module, model_type, has_evaluate=has_evaluate)
    if config is not None and config.model_type == "onnx":
        contract = Contract(path, config, (), module, surroundings=surroundings)
        if not contract.onnx_path.is_file():
            faults.append(
                Fault(
                    'QUANT_CONFIG["onnx_path"]',
                    f"{config.onnx_path!r}, which is no file ({contract.onnx_path})",
                    "the path of an ONNX file, relative to the contract's folder",
                    '"model.onnx"',
                )
            )
    if config is None or faults:
        rest = None
        if isinstance(payload, Mapping) and {fault.name for fault in faults} <= _SPARED:
            named = {fault.name for fault in faults}
            kept = {key: value for key, value in payload.items() if key not in named}
            config, _ = parse_config(_stand_ins(known_targets) | kept, known_targets)
            if config is not None:
                rest = Contract(path, config, (), module, surroundings=surroundings)
        raise ContractFaultsError(str(path) if is_file else module.__name__, faults, rest)
    assert isinstance(payload, Mapping)
    ignored = tuple(unknown_keys(payload))
    return Contract(path, config, ignored, module, surroundings=surroundings, is_file=is_file)


def _stand_ins(known_targets: Sequence[str]) -> dict[str, Any]:
    """Return values for keys that data, model and their reading do not depend on."""
    return {
        "target": known_targets[0] if known_targets else "",
        "num_of_bits": 8,
        "device": "cpu",
        "calib_steps": 2,
        "primary_metric": "metric",
        "metric_direction": "max",
    }


_SPARED = frozenset(
    {
        *_stand_ins(()),
        *("metric_unit", "target_metric", "analyse_steps", "top_k_layers", "non_computing_top_k"),
        *("graphwise_intervening_excess_threshold", "deploy_runtime_priority", "model_name"),
        *("evaluate", "evaluate_fast", "evaluate_final"),
    }
)
"""What may be faulty while the rest can be examined."""


def _scores_without_labels(module: ModuleType, payload: object) -> bool:
    """Tell whether a contract leaves out its evaluation, and does not merely lack it.

    A primary_metric that only an evaluation can return, or another function that scores, says that
    one was meant.
    """
    if any(hasattr(module, name) for name in ("evaluate", "evaluate_fast", "evaluate_final")):
        return False
    metric = payload.get("primary_metric") if isinstance(payload, Mapping) else None
    return metric is None or metric in set(UnlabelledMetric)


def require_file(path: Path) -> Path:
    """Return the whole path of a contract, which must be there.

    Raises:
        ContractError: it is no file.
    """
    path = Path(path).resolve()
    if not path.is_file():
        raise ContractError(
            f"contract {path} is no file", Hint(Command.INIT, " writes a starter contract")
        )
    return path


class _FreshLoader(importlib.machinery.SourceFileLoader):
    """Compiles what the file holds now.

    Python tells whether a compiled copy is of this file by its size and the second of its time: a
    contract that is edited and run again within a second would run as it was.
    """

    def get_code(self, fullname: str) -> CodeType:
        """Return the code of the contract."""
        code: CodeType = self.source_to_code(self.get_data(self.path), self.path)
        return code


def _load_module(path: Path, surroundings: Surroundings) -> ModuleType:
    # A name of its own: two contracts that are both called user_quant.py must not be mixed up.
    name = f"espdl_contract_{hashlib.sha256(str(path).encode()).hexdigest()[:12]}"
    spec = importlib.util.spec_from_file_location(name, path)
    if spec is None or spec.loader is None:
        raise ContractError(f"contract {path} is no Python file", "give the path of a .py file")
    if isinstance(spec.loader, importlib.machinery.SourceFileLoader):
        spec.loader = _FreshLoader(name, str(path))
    module = importlib.util.module_from_spec(spec)
    try:
        with surroundings.entered():
            # Worker processes of a DataLoader look the module up by name.
            sys.modules[name] = module
            spec.loader.exec_module(module)
    except (Exception, SystemExit) as error:
        sys.modules.pop(name, None)
        raise ContractError(
            f"contract {path} does not load ({_where(error, path)}): "
            f"{type(error).__name__}: {error}",
            "fix that line; the module must import without doing heavy work",
        ) from error
    return module


def _where(error: BaseException, path: Path) -> str:
    if isinstance(error, SyntaxError):
        return f"line {error.lineno}"
    lines = [
        frame.lineno
        for frame in traceback.extract_tb(error.__traceback__)
        if frame.filename == str(path)
    ]
    return f"line {lines[-1]}" if lines else "in an import"


_FUNCTIONS = {
    "create_calib_dataloader": (0, "def create_calib_dataloader(): return DataLoader(...)"),
    "create_score_dataloader": (0, "def create_score_dataloader(): return DataLoader(...)"),
    "evaluate": (1, 'def evaluate(quant_graph): return {"top1": 71.2}'),
    "get_torch_model": (0, "def get_torch_model(): return MyNet().eval()"),
    "collate_fn": (1, "def collate_fn(batch): return batch[0]"),
    "evaluate_fast": (1, 'def evaluate_fast(quant_graph): return {"top1": 71.2}'),
    "evaluate_final": (1, 'def evaluate_final(quant_graph): return {"top1": 71.2}'),
    "aggregate": (1, "def aggregate(records): return sum(records) / len(records)"),
}


def _function_faults(module: ModuleType, model_type: object, *, has_evaluate: bool) -> list[Fault]:
    required = {"create_calib_dataloader"}
    required |= {"evaluate"} if has_evaluate else set()
    required |= {"get_torch_model"} if model_type == "torch" else set()
    faults = []
    for name, (arguments, example) in _FUNCTIONS.items():
        expected = f"a function of {arguments} argument{'' if arguments == 1 else 's'}"
        function = getattr(module, name, None)
        if name == "evaluate" and function is None:
            expected += (
                "; or, to score by the float model's own outputs and no label, neither it nor "
                "primary_metric"
            )
        if function is None:
            if name in required:
                faults.append(Fault(f"{name}()", "nothing", expected, example))
        elif not callable(function):
            faults.append(Fault(f"{name}()", f"a {type(function).__name__}", expected, example))
        elif not _takes(function, arguments):
            stated = f"{name}{inspect.signature(function)}"
            faults.append(Fault(f"{name}()", stated, expected, example))
    return faults


def _takes(function: Callable[..., Any], arguments: int) -> bool:
    try:
        inspect.signature(function).bind(*range(arguments))
    except TypeError:
        return False
    except ValueError:  # a builtin without a signature
        return True
    return True
