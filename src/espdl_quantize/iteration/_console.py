"""Sends everything that is printed, by Python or by C++, into a log file for a while."""

from __future__ import annotations

import contextlib
import functools
import io
import os
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import TextIO


class _Switch(io.TextIOBase):
    """A stream that forwards to another one, which can be changed.

    esp-ppq's loggers keep the ``sys.stdout`` that they find when they are imported, for ever. They
    must not keep a log file that is closed later, so they are given a switch.
    """

    def __init__(self, name: str) -> None:
        self._name = name
        self.target: TextIO | None = None

    def _stream(self) -> TextIO:
        stream: TextIO | None = self.target or getattr(sys, f"__{self._name}__")
        # There is none where the process was started with it closed.
        return _nowhere() if stream is None else stream

    def write(self, text: str) -> int:
        return self._stream().write(text)

    def flush(self) -> None:
        self._stream().flush()

    def writable(self) -> bool:
        return True

    def fileno(self) -> int:
        return self._stream().fileno()


_STDOUT, _STDERR = _Switch("stdout"), _Switch("stderr")


@functools.cache
def _nowhere() -> TextIO:
    return Path(os.devnull).open("w", encoding="utf-8")


def _fill_descriptors() -> None:
    """Let a closed standard output or error lead nowhere: else the next open file becomes it."""
    for descriptor in (1, 2):
        try:
            os.fstat(descriptor)
        except OSError:
            opened = os.open(os.devnull, os.O_WRONLY)
            if opened != descriptor:
                os.dup2(opened, descriptor)
                os.close(opened)


def _opened(log: Path | None) -> TextIO:
    if log is None:
        return os.fdopen(os.dup(2), "a", encoding="utf-8", buffering=1)
    return log.open("a", encoding="utf-8", buffering=1)


@contextlib.contextmanager
def captured(log: Path | None) -> Iterator[None]:
    """Append all output of the block to ``log``, and none to the terminal; None is for stderr.

    Both the file descriptors and the Python streams are redirected: onnxsim prints from C++, and
    in a notebook ``sys.stdout`` is no file descriptor. Write to a duplicate of the terminal's
    descriptor, made before, to reach the terminal meanwhile.
    """
    _fill_descriptors()
    streams = sys.stdout, sys.stderr
    shown = [stream for stream in streams if stream is not None]
    for stream in shown:
        stream.flush()
    saved = os.dup(1), os.dup(2)
    with _opened(log) as file:
        os.dup2(file.fileno(), 1)
        os.dup2(file.fileno(), 2)
        _STDOUT.target = _STDERR.target = file
        sys.stdout, sys.stderr = _STDOUT, _STDERR
        try:
            yield
        finally:
            for stream in (*shown, file):
                # A full disk must not hide the error that it caused.
                with contextlib.suppress(OSError):
                    stream.flush()
            sys.stdout, sys.stderr = streams
            _STDOUT.target = _STDERR.target = None
            for descriptor, copy in zip((1, 2), saved, strict=True):
                os.dup2(copy, descriptor)
                os.close(copy)
