"""Keeps the process state that a contract's code changes apart from that of everything else.

The working directory, the import path, the loaded modules and torch's defaults belong to the whole
process. A contract that calls ``os.chdir`` or changes ``sys.path`` must not move the paths of the
program that called it, nor change what another contract imports; and it must find its own changes
again at its next call.
"""

from __future__ import annotations

import contextlib
import importlib.machinery
import os
import sys
import threading
from collections.abc import Iterator, Sequence
from pathlib import Path
from types import ModuleType
from typing import Any

_one_at_a_time = threading.RLock()
"""What is swapped belongs to the process, so two threads cannot be inside contracts at once."""

_last: list[Surroundings] = []
"""The surroundings that were entered last, whose neighbours are in ``sys.modules``."""


class Surroundings:
    """The working directory, import path and neighbouring modules that a contract's code sees.

    To the contract it is as if nothing else ran in the process: its import finds the directory of
    the caller, and each later call finds the directory and the path that the call before left. The
    caller finds its own again after each. A call that raises leaves the contract's as they were.

    Args:
        folder: the contract's, which is importable.
    """

    def __init__(self, folder: Path) -> None:
        self._folder = str(folder)
        self._directory: str | None = None
        self._directory_of_import: str | None = None
        self._path: list[str] | None = None
        self._callers_path: list[str] = []
        self._neighbours: dict[str, ModuleType] = {}
        self._defaults: _Defaults | None = None
        self._is_entered = False

    @contextlib.contextmanager
    def entered(self) -> Iterator[None]:
        """Let the contract's own state hold in the block, and the caller's after it."""
        with _one_at_a_time:
            if self._is_entered:
                # Its own code called back: what it has changed meanwhile still holds.
                yield
                return
            self._is_entered = True
            try:
                with _directory_kept(), _path_kept() as outer, _defaults_kept(self._defaults):
                    self._go_in(outer)
                    loaded = dict(sys.modules)
                    try:
                        yield
                        self._directory = current_directory() or self._directory
                        self._path, self._callers_path = [*sys.path], outer
                        self._defaults = _torch_defaults()
                    finally:
                        self._note_neighbours(loaded, outer)
            finally:
                self._is_entered = False

    def _go_in(self, outer: Sequence[str]) -> None:
        if self._path is None:
            self._directory_of_import = self._directory = current_directory()
            sys.path.insert(0, self._folder)
            if self._directory is None:
                self._enter_directory()
        else:
            self._enter_directory()
            # What the caller adds later, as the next cell of a notebook may, holds here as well.
            added = [entry for entry in outer if entry not in {*self._callers_path, *self._path}]
            removed = {*self._callers_path} - {*outer, self._folder}
            sys.path[:] = [*(entry for entry in self._path if entry not in removed), *added]
            if self._folder not in sys.path:
                sys.path.insert(0, self._folder)
        self._bring_neighbours(outer)

    def _enter_directory(self) -> None:
        """Enter the contract's directory; where it is gone, that of the import, or its folder.

        A temporary folder that one call entered and removed must not fail the next.
        """
        for directory in (self._directory, self._directory_of_import, self._folder):
            if directory is not None:
                with contextlib.suppress(OSError):
                    os.chdir(directory)
                    return

    def _bring_neighbours(self, outer: Sequence[str]) -> None:
        """Put this contract's neighbours in the place of those of the contract before it."""
        before = _last[0] if _last else None
        if before is self:
            return
        if before is not None:
            own = _folders([self._folder, *(entry for entry in sys.path if entry not in outer)])
            for name, module in before._neighbours.items():
                if sys.modules.get(name) is not module:
                    continue
                if _depth_below(module, own):
                    # The same file would be found again: a registry must not see it twice.
                    self._neighbours.setdefault(name, module)
                else:
                    del sys.modules[name]
        sys.modules.update(self._neighbours)
        _last[:] = [self]

    def _note_neighbours(self, loaded: dict[str, ModuleType], outer: Sequence[str]) -> None:
        """Note what the block imported from a place where only this contract looks."""
        # Most calls import nothing; each iteration makes dozens, among thousands of modules.
        get = loaded.get
        new = [(name, module) for name, module in [*sys.modules.items()] if get(name) is not module]
        if not new:
            return
        own = _folders([self._folder, *(entry for entry in sys.path if entry not in outer)])
        others = _folders(outer)
        for name, module in new:
            if not isinstance(module, ModuleType):
                continue
            # An installed package may lie below the contract's folder, in an environment.
            depth = _depth_below(module, own)
            if depth and depth >= _depth_below(module, others) and not _is_for_all(module):
                self._neighbours[name] = module


def current_directory() -> str | None:
    """Return the working directory; None where it was deleted."""
    try:
        return str(Path.cwd())
    except OSError:
        return None


@contextlib.contextmanager
def _directory_kept() -> Iterator[None]:
    """Return to the working directory at the end of the block, even if it was deleted or moved."""
    before, handle = current_directory(), None
    if hasattr(os, "fchdir"):
        # A folder that may be entered need not be readable.
        with contextlib.suppress(OSError):
            handle = os.open(".", os.O_RDONLY)
    try:
        yield
    finally:
        if handle is not None:
            os.fchdir(handle)
            os.close(handle)
        elif before is not None:
            with contextlib.suppress(OSError):
                os.chdir(before)


@contextlib.contextmanager
def _path_kept() -> Iterator[list[str]]:
    """Yield a copy of the import path, which holds again at the end of the block."""
    held, outer = sys.path, [*sys.path]
    _forget_relative_entries()
    try:
        yield outer
    finally:
        # Setuptools and its like add their own folders when they are first imported, for everybody.
        installed = [entry for entry in sys.path if entry not in outer and _is_installed(entry)]
        # A contract may have bound another list to the name.
        held[:] = [*outer, *installed]
        sys.path = held
        _forget_relative_entries()


_Defaults = tuple[Any, Any]
"""What torch makes tensors of where nobody says: their type, and their device."""


def _torch_defaults() -> _Defaults | None:
    """Return torch's defaults; None while nobody has loaded it."""
    torch = sys.modules.get("torch")
    return None if torch is None else (torch.get_default_dtype(), torch.get_default_device())


def _set_torch_defaults(wanted: _Defaults) -> None:
    import torch

    dtype, device = wanted
    if torch.get_default_dtype() != dtype:
        torch.set_default_dtype(dtype)
    if torch.get_default_device() != device:
        torch.set_default_device(None if device.type == "cpu" else device)


@contextlib.contextmanager
def _defaults_kept(own: _Defaults | None) -> Iterator[None]:
    """Let a contract's own defaults of torch hold in the block, and the caller's after it."""
    before = _torch_defaults()
    if own is not None:
        _set_torch_defaults(own)
    try:
        yield
    finally:
        if before is not None:
            _set_torch_defaults(before)
        elif (torch := sys.modules.get("torch")) is not None:
            # It was loaded in the block: nobody had other defaults than torch's own.
            _set_torch_defaults((torch.float32, torch.device("cpu")))


def _forget_relative_entries() -> None:
    """Forget what relative entries of the import path led to: it was in another directory."""
    for entry in [*sys.path_importer_cache]:
        if not os.path.isabs(entry):  # noqa: PTH117, a Path takes far longer for hundreds of them
            sys.path_importer_cache.pop(entry, None)


def _folders(entries: Sequence[object]) -> list[str]:
    return [os.path.realpath(entry) for entry in entries if isinstance(entry, str)]


def _depth_below(module: ModuleType, folders: Sequence[str]) -> int:
    """Return the length of the longest folder that a module's file is below; 0 where none is."""
    file = getattr(module, "__file__", None)
    if file is None:
        file = next(iter(getattr(module, "__path__", ())), None)
    if not isinstance(file, str):
        return 0
    place = os.path.realpath(file)
    lengths = [len(folder) for folder in folders if place.startswith(folder + os.sep)]
    return max(lengths, default=0)


def _is_installed(place: object) -> bool:
    return bool({"site-packages", "dist-packages"} & {*Path(str(place)).parts})


def _is_for_all(module: ModuleType) -> bool:
    """Return whether a module is shared by the process: installed, this package, or in C."""
    file = str(getattr(module, "__file__", None) or "")
    return (
        module.__name__.partition(".")[0] == __name__.partition(".")[0]
        or _is_installed(file)
        # A module in C can be loaded once in a process.
        or file.endswith(tuple(importlib.machinery.EXTENSION_SUFFIXES))
    )
