"""Reads the serial log of a board.

Three programs are understood: the project of ``espdl-quantize deploy`` (lines that begin with
``espdlq``), whatever calls ESP-DL's own ``test()`` and ``profile()``, and the latency program of
ESP-DL's AutoQuant (``run:<ms> ms``). A log comes over a wire, through a monitor and out of a model:
lines are cut, coloured and torn, and names are anything.
"""

from __future__ import annotations

import codecs
import re
import zlib
from collections.abc import Iterator
from pathlib import Path

from espdl_quantize.core import Command, EspdlQuantizeError, Hint, OutputFolderError
from espdl_quantize.record.device import (
    LONGEST_NAME,
    MOST_LAYERS,
    MOST_OUTPUTS,
    MOST_RUNS,
    LayerTime,
    Measurement,
    Outcome,
    OutputDifference,
    clean,
    number,
    whole,
)

_MIB = 1 << 20
_LARGEST = 16 * _MIB
"""Bytes of a log that is read: a hundred thousand layers, or a day of a chatty program."""
_GZIP, _PIECE = b"\x1f\x8b", 1 << 14
_LONGEST = 4096
"""Characters of a line that are looked at."""

_COLOUR = re.compile(r"\x1b\[[0-9;?]{0,16}[A-Za-z]")
_PREFIX = re.compile(r"^[EWIDV] \([0-9:. -]{1,24}\) [^:]{1,64}(?:::[^:]{1,64})?: ?")
"""What ESP-IDF puts before a line: its level, the time and a tag."""
_OURS = re.compile(r"espdlq (\w+) ?(.*)$")
_PAIR = re.compile(r"(\w+)=(\S+)")
_FORMAT = "1"
_REAL = re.compile(r"[+-]?[0-9]{1,20}(?:\.[0-9]{1,20})?(?:[eE][+-]?[0-9]{1,3})?")
_LATENCY = re.compile(r"([0-9]{1,12})us")
_SIZE = re.compile(r"(?:-- ?)?([0-9]{1,9}(?:\.[0-9]{1,6})?) ?KB")
_RUN = re.compile(r"run: ?([0-9]{1,9}(?:\.[0-9]{1,6})?) ?ms")
_CHIP = re.compile(r"ESP-ROM:(esp32[a-z0-9]{0,4})")
_SHA = re.compile(r"[0-9a-f]{64}")
_UNSUPPORTED = re.compile(r"Do not support (\S.{0,80}?), please implement")
_UNLIKE = re.compile(r"Inconsistent values, ground truth: ?(\S+), infer: ?([^\s,]+)")
_FAILED = re.compile(r"Test output (.{1,300}?) does not match")
_IN_FLASH = {"psram": False, "flash": True}
_CRASHES = ("Guru Meditation Error", "abort() was called", "assert failed", "Stack overflow")


def read_log(file: Path) -> Measurement:
    """Read what a board measured; of several starts in one log, the last that ended well.

    Raises:
        OutputFolderError: the file cannot be read, or is too large for a log.
        EspdlQuantizeError: no line of it is known.
    """
    try:
        if file.exists() and not file.is_file():
            raise OutputFolderError(f"{file} is no regular file", "give the file of a serial log")
        with file.open("rb") as stream:
            content = stream.read(_LARGEST + 1)
    except OSError as error:
        raise OutputFolderError(f"{file} cannot be read: {error.strerror or error}") from error
    content = _unpacked(content, file)
    if len(content) > _LARGEST:
        raise OutputFolderError(
            f"{file} has more than {_LARGEST // _MIB} MiB", "keep the part of one run of the board"
        )
    return parse_log(_decoded(content), str(file))


def _unpacked(content: bytes, file: Path) -> bytes:
    """Return what a log that was compressed by gzip holds, as far as it is whole."""
    if not content.startswith(_GZIP):
        return content
    stream, unpacked = zlib.decompressobj(wbits=31), b""
    try:
        # By pieces, so that what lies before a damaged place is kept.
        for start in range(0, len(content), _PIECE):
            piece = content[start : start + _PIECE]
            unpacked += stream.decompress(piece, _LARGEST + 1 - len(unpacked))
            if len(unpacked) > _LARGEST:
                break
    except zlib.error as error:
        if not unpacked:
            raise OutputFolderError(
                f"{file} is compressed by gzip and cannot be unpacked: {error}",
                "give the log as the board printed it",
            ) from error
    return unpacked


def _decoded(content: bytes) -> str:
    """Return the text; a redirection in Windows PowerShell writes UTF-16."""
    is_wide = content.startswith((codecs.BOM_UTF16_LE, codecs.BOM_UTF16_BE))
    return content.decode("utf-16" if is_wide else "utf-8", "replace")


def parse_log(text: str, name: str = "the log") -> Measurement:
    """Parse the text of a log.

    Args:
        text: all of it.
        name: what to call it in an error.

    Raises:
        EspdlQuantizeError: no line of it is known.
    """
    starts: list[_Start] = [_Start()]
    for line in _lines(text):
        ours = _OURS.search(line)
        if ours is not None and ours[1] == "begin":
            _check_format(ours[2], name)
            starts.append(_Start(starts[-1].chip))
        starts[-1].read(line, ours)
    results = [start.result() for start in starts]
    known = [result for result in results if _says_something(result)]
    if not known:
        raise EspdlQuantizeError(
            f"{name} has no line that this program knows",
            Hint(
                "give the serial log of the project that ",
                Command.DEPLOY,
                " writes, or of a program that calls ESP-DL's model->profile()",
            ),
        )
    return next((result for result in reversed(known) if result.complete), known[-1])


def _check_format(rest: str, name: str) -> None:
    """Refuse the lines of a later project: what its words mean is not known."""
    stated = dict(_PAIR.findall(rest)).get("format", _FORMAT)
    if stated != _FORMAT:
        raise EspdlQuantizeError(
            f"{name} is of format {clean(stated)[:24]!r}, and this program reads format {_FORMAT}",
            Hint("write the project anew by ", Command.DEPLOY, " of this version, and run that"),
        )


def _says_something(measurement: Measurement) -> bool:
    return bool(
        measurement.layers
        or measurement.runs_us
        or measurement.test
        or measurement.outputs
        or measurement.problem
    ) or (measurement.loaded is not None or measurement.complete is not None)


def _lines(text: str) -> Iterator[str]:
    for line in text.replace("\r", "\n").split("\n"):
        if line:
            yield _COLOUR.sub("", line[:_LONGEST])


class _Start:
    """One start of a board's program."""

    def __init__(self, chip: str | None = None) -> None:
        self.chip = chip
        self._said: dict[str, str] = {}
        self._begun = False
        self._loaded: bool | None = None
        self._test: Outcome | None = None
        self._problem = ""
        self._position = ""
        self._outputs: list[OutputDifference] = []
        self._runs: list[float] = []
        self._coarse: list[float] = []
        self._layers: list[LayerTime] = []
        self._memory: dict[str, int] = {}
        self._ended: bool | None = None

    def read(self, line: str, ours: re.Match[str] | None) -> None:
        """Take in one line."""
        if ours is not None:
            self._read_ours(ours[1], ours[2])
            return
        rest = _PREFIX.sub("", line)
        if rest.lstrip().startswith("|"):
            self._read_table(rest.strip())
            return
        chip, run = _CHIP.search(line), _RUN.search(line)
        if chip is not None:
            self.chip = chip[1]
        elif run is not None and len(self._coarse) < MOST_RUNS:
            self._coarse.append(float(run[1]) * 1000.0)
        else:
            self._read_words(line)

    def _read_words(self, line: str) -> None:
        if "Test Pass!" in line:
            self._test = self._test or "passed"
        elif (failed := _FAILED.search(line)) is not None:
            self._test = "failed"
            why = self._problem or "does not match"
            self._problem = f"output {clean(failed[1])!r}: {why}"
        elif (unlike := _UNLIKE.search(line)) is not None:
            self._problem = f"it should be {clean(unlike[1])[:24]} and is {clean(unlike[2])[:24]}"
        elif " not equal: " in line:
            self._problem = clean(_PREFIX.sub("", line))
        elif "The position is:" in line:
            position = clean(line.partition("The position is:")[2])[:60]
            self._problem += f" at {position}" if self._problem else ""
        elif (unsupported := _UNSUPPORTED.search(line)) is not None:
            self._loaded = False
            self._problem = f"ESP-DL has no op {clean(unsupported[1])!r}"
        elif any(crash in line for crash in _CRASHES):
            self._problem = self._problem or f"the program crashed: {clean(line)}"
            if self._ended is not True:
                self._ended = False

    def _read_ours(self, word: str, rest: str) -> None:
        # A name is last, since it may hold anything.
        values, _, name = rest.partition("name=")
        said = dict(_PAIR.findall(values))
        if word == "begin":
            self._said, self._begun, self._ended = said, True, False
        elif word == "end":
            self._ended = True
        elif word == "load" and rest.strip() in ("passed", "failed"):
            self._loaded = rest.strip() == "passed"
        elif word == "test" and rest.strip() == "passed":
            # What failed once in a start has not passed.
            self._test = self._test or "passed"
        elif word == "test" and rest.strip() == "failed":
            self._test = "failed"
        elif word == "run" and len(self._runs) < MOST_RUNS:
            us = _real(said.get("us"))
            self._runs += [us] if us else []
        elif word == "memory":
            for key in ("internal", "psram", "flash"):
                size = _whole(said.get(key))
                if size is not None:
                    self._memory[key] = size
        elif word == "output" and len(self._outputs) < MOST_OUTPUTS:
            count, differing = _whole(said.get("count")), _whole(said.get("differing"))
            if count is not None and differing is not None and differing <= count:
                self._outputs.append(
                    OutputDifference(
                        clean(name),
                        count,
                        differing,
                        _real(said.get("largest")) or 0.0,
                        _whole(said.get("first")),
                        _real(said.get("expected"), signed=True),
                        _real(said.get("found"), signed=True),
                    )
                )
        elif word == "unlike":
            self._problem = self._problem or (
                f"output {clean(name)!r} has another type or size than the recorded one"
            )

    def _read_table(self, row: str) -> None:
        """Read a row of ESP-DL's tables: | name | type | 12us |, or | total | 1.00KB | | |."""
        cells = [cell.strip() for cell in row.strip("|").rsplit("|", 2)]
        latency = _LATENCY.fullmatch(cells[-1])
        if len(cells) == 3 and latency is not None:
            # The last row is their sum, and has no type.
            if (cells[0] != "total" or cells[1]) and len(self._layers) < MOST_LAYERS:
                layer = LayerTime(clean(cells[0]), clean(cells[1]), float(latency[1]))
                self._layers.append(layer)
            return
        cells = [cell.strip() for cell in row.strip("|").split("|")]
        if len(cells) == 4 and cells[0] == "total":
            for key, cell in zip(("internal", "psram", "flash"), cells[1:], strict=True):
                size = _SIZE.fullmatch(cell)
                # Its own lines are exact, the table has hundredths of a KiB.
                if size is not None:
                    self._memory.setdefault(key, round(float(size[1]) * 1024))

    def result(self) -> Measurement:
        """Return what it came to."""
        said = self._said
        # Of a line that was torn within it, or before it, it is not known which model ran.
        digest = said.get("sha256", "").lower() if self._begun else None
        return Measurement(
            chip=clean(said["chip"]) if "chip" in said else self.chip,
            esp_dl=clean(said["esp_dl"]) if "esp_dl" in said else None,
            iteration=_whole(said.get("iteration")),
            model_sha256="" if digest is not None and not _SHA.fullmatch(digest) else digest,
            loaded=self._loaded,
            test=self._test,
            problem=self._problem[: 2 * LONGEST_NAME],
            outputs=tuple(self._outputs),
            runs_us=tuple(self._runs or self._coarse),
            layers=tuple(self._layers),
            internal_bytes=self._memory.get("internal"),
            psram_bytes=self._memory.get("psram"),
            flash_bytes=self._memory.get("flash"),
            weights_in_flash=_IN_FLASH.get(said.get("weights", "")),
            complete=self._ended,
        )


def _real(text: str | None, *, signed: bool = False) -> float | None:
    if text is None or _REAL.fullmatch(text) is None:
        return None
    return number(float(text), signed=signed)


def _whole(text: str | None) -> int | None:
    if text is None or not text.isascii() or not text.isdigit() or len(text) > 15:
        return None
    return whole(int(text))
