"""An iteration's place on a node of Ray: a scratch folder, and a process in which it runs.

It mirrors what an iteration reads of the output folder, which only the head writes: the records of
the iterations that have ended, the float model's scores and outputs, and the results of long
passes. An iteration is run there as ``tune`` runs it on one machine, and handed over as the bytes
of its files. Where a node sees the head's file system, the results of long passes are shared there.
"""

from __future__ import annotations

import contextlib
import os
import shutil
import tempfile
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path

from espdl_quantize.contract import Overrides
from espdl_quantize.core import (
    EspdlQuantizeError,
    InstallationError,
    IterationError,
    Json,
    beside_of,
)
from espdl_quantize.core.digests import sha256_of
from espdl_quantize.iteration import RunOptions
from espdl_quantize.record.files import (
    CHIP_COST,
    DEVICE,
    FLOAT_REFERENCE,
    INDEX,
    METRICS,
    REUSE,
    SETTING,
    float_outputs,
    iteration_number,
)
from espdl_quantize.setting import parse_setting
from espdl_quantize.tuning._backend import BackendFacts
from espdl_quantize.tuning._isolated import IsolatedBackend

Files = Mapping[str, bytes]
"""Contents by path relative to the output folder."""

OF_ITERATION = (INDEX, SETTING, METRICS, CHIP_COST, DEVICE)
"""What one iteration reads of another."""

LARGEST_REUSE = 256 << 20
"""Bytes of results of long passes that one iteration hands over, or is given, at most."""

TOKEN = "token"
"""The name of the head's file that only a worker on the same file system can read."""

_THREADS = ("OMP_NUM_THREADS", "MKL_NUM_THREADS", "OPENBLAS_NUM_THREADS", "NUMBA_NUM_THREADS")
"""Variables of the libraries that an iteration computes with; each is read when it is loaded."""


@dataclass(frozen=True)
class Outfit:
    """What a worker is made with.

    Attributes:
        contract: where the contract lies on the head, and, where it is the same file, on the node.
        options: of every iteration.
        limit: seconds that one may take; None for what was measured before.
        overrides: what holds in place of the contract's own.
        environment: the head's own numbers of threads.
        scratch: the head's folder for what is needed only now.
        token: the content of :data:`TOKEN` in ``scratch``, by which a worker knows that it sees the
            head's file system; empty where it is not to use it.
        version: of this package on the head.
        digest: of the contract's content.
        threads: that an iteration computes on; None for as many as on the head.
    """

    contract: str
    options: Json
    limit: float | None
    overrides: Json
    environment: Mapping[str, str]
    scratch: str
    token: str
    version: str
    digest: str = ""
    threads: int | None = None


@dataclass(frozen=True)
class Handover:
    """An iteration as it came to its end on a node.

    Attributes:
        files: of its folder, by path relative to it; none where nothing came of it.
        shared: what else the output folder has to keep.
        error: why it failed, as JSON.
        peak: as of :attr:`espdl_quantize.worker.Runner.peak`.
    """

    files: Files
    shared: Files
    error: Json | None
    peak: Json


class RayWorker:
    """Runs one iteration at a time; Ray makes an actor of it.

    ``state`` and ``close`` are called beside ``run``.
    """

    def __init__(self, outfit: Outfit) -> None:
        self._outfit = outfit
        parent = outfit.scratch if self._sees_the_head() else None
        self._scratch = Path(tempfile.mkdtemp(prefix="espdl-quantize-", dir=parent))
        self._mirror = self._scratch / "outputs"
        self._mirror.mkdir()
        self._backend: IsolatedBackend | None = None
        self._seen = _Seen()

    def open(self) -> tuple[BackendFacts | None, Json | None]:
        """Load the contract; return what it says, or the error."""
        try:
            return self._ready().facts, None
        except EspdlQuantizeError as error:
            return None, error.to_json()

    def run(self, outputs: str, place: str, setting: Json, files: Files, changed: Json) -> Handover:
        """Run an iteration.

        Args:
            outputs: the output folder, as the head sees it.
            place: of its folder, relative to the output folder.
            setting: as JSON.
            files: what the output folder has got since the last call.
            changed: options that are other than those of every iteration.
        """
        self._seen = _Seen()
        try:
            return self._run(Path(outputs), self._mirror / place, setting, files, changed)
        except OSError as error:
            failure = IterationError(
                f"the node {os.uname().nodename} cannot keep {place}: {error.strerror or error} "
                f"({error.filename})",
                "free some space there, or set TMPDIR on it before `ray start`",
            )
            return Handover({}, {}, failure.to_json(), {})

    def _run(
        self, outputs: Path, folder: Path, setting: Json, files: Files, changed: Json
    ) -> Handover:
        write_whole(self._mirror, files)
        self._share_reuse(outputs)
        carries_reuse = not (self._mirror / REUSE).is_symlink()
        before = stamps_of(self._mirror, reuse=carries_reuse, only=folder)
        error: Json | None = None
        is_auxiliary = folder.parent != self._mirror
        try:
            backend, setting_ = self._ready(), parse_setting(setting)
            if is_auxiliary:
                folder.parent.mkdir(parents=True, exist_ok=True)
                changed = {**changed, "home": str(self._mirror)}
                backend.run_auxiliary(setting_, folder, self._seen, **changed)
            else:
                backend.run(setting_, folder, self._seen, **changed)
        except EspdlQuantizeError as raised:
            error = raised.to_json()
        peak = self._backend.peak if self._backend is not None else {}
        made = dict(_contents(folder))
        after = stamps_of(self._mirror, reuse=carries_reuse, only=folder)
        inside = f"{folder.relative_to(self._mirror).as_posix()}/"
        shared = {
            name: (self._mirror / name).read_bytes()
            for name, stamp in after.items()
            if before.get(name) != stamp and not name.startswith(inside)
        }
        self._trim(folder)
        return Handover(made, shared, error, peak)

    def state(self) -> tuple[str, float | None]:
        """Return where the iteration is, and how much of that is done."""
        return self._seen.place, self._seen.fraction

    def close(self) -> None:
        """End the process of the iteration, and remove the scratch folder."""
        if self._backend is not None:
            self._backend.__exit__(KeyboardInterrupt)
        shutil.rmtree(self._scratch, ignore_errors=True)

    def _sees_the_head(self) -> bool:
        file = Path(self._outfit.scratch) / TOKEN
        with contextlib.suppress(OSError):
            return bool(self._outfit.token) and file.read_text("ascii") == self._outfit.token
        return False

    def _ready(self) -> IsolatedBackend:
        if self._backend is None:
            _check_version(self._outfit.version)
            _set_threads(self._outfit)
            self._backend = IsolatedBackend(
                find_contract(self._outfit.contract, self._outfit.digest),
                RunOptions(**self._outfit.options),
                self._outfit.limit,
                overrides=Overrides(**self._outfit.overrides),
            )
        return self._backend

    def _share_reuse(self, outputs: Path) -> None:
        """Use the head's results of long passes, where this node sees its file system."""
        reuse = self._mirror / REUSE
        if self._sees_the_head() and not reuse.exists():
            (outputs / REUSE).mkdir(exist_ok=True)
            reuse.symlink_to(outputs / REUSE, target_is_directory=True)

    def _trim(self, folder: Path) -> None:
        """Keep of an iteration what others read of it."""
        if folder.parent != self._mirror:
            shutil.rmtree(folder, ignore_errors=True)
            return
        for entry in folder.iterdir() if folder.is_dir() else ():
            if entry.name not in OF_ITERATION:
                shutil.rmtree(entry) if entry.is_dir() else entry.unlink()


class _Seen:
    """Keeps where the iteration is, for whoever asks."""

    def __init__(self) -> None:
        self._names: list[str] = []
        self.fraction: float | None = None

    @property
    def place(self) -> str:
        return ": ".join(self._names)

    @contextlib.contextmanager
    def stage(self, name: str) -> Iterator[None]:
        self._names.append(name)
        self.fraction = None
        try:
            yield
        finally:
            self._names.pop()
            self.fraction = None

    def update(self, done: float, total: float | None, detail: str = "") -> None:
        self.fraction = None if not total else min(done / total, 1.0)


def find_contract(path: str, digest: str) -> Path:
    """Return the contract on this node: at its path, or in the folder that Ray has unpacked.

    Raises:
        InstallationError: it is in neither.
    """
    for file in (Path(path), Path.cwd() / Path(path).name):
        with contextlib.suppress(OSError):
            if sha256_of(file) == digest:
                return file
    raise InstallationError(
        f"the node {os.uname().nodename} has no {path} with the content that it has on the head",
        "put the contract's folder at the same path on every node",
    )


def stamps_of(
    outputs: Path, *, reuse: bool, only: Path | None = None
) -> dict[str, tuple[int, int]]:
    """Return size and time of what an iteration reads of an output folder, by relative path.

    Args:
        outputs: the folder.
        reuse: the results of long passes among it, as far as they have room.
        only: of the iterations, this one alone.
    """
    files = [outputs / FLOAT_REFERENCE, *outputs.glob(float_outputs(outputs, "*").name)]
    entries = outputs.iterdir() if only is None else (only,)
    folders = [entry for entry in entries if iteration_number(entry) is not None]
    files += [folder / name for folder in folders for name in OF_ITERATION]
    if reuse and (outputs / REUSE).is_dir():
        files += (outputs / REUSE).glob("*.npz")
    stamps, room = {}, LARGEST_REUSE
    for file in sorted(files):
        with contextlib.suppress(OSError):
            stat = file.stat()
            if file.parent.name == REUSE:
                room -= stat.st_size
            if room >= 0:
                stamps[file.relative_to(outputs).as_posix()] = (stat.st_size, stat.st_mtime_ns)
    return stamps


def write_whole(folder: Path, files: Files) -> None:
    """Write files, each of which appears only when it is whole.

    Raises:
        OSError: one cannot be written.
    """
    for name, content in files.items():
        file = folder / name
        file.parent.mkdir(parents=True, exist_ok=True)
        beside = beside_of(file)
        beside.write_bytes(content)
        beside.replace(file)


def _contents(folder: Path) -> Iterator[tuple[str, bytes]]:
    if folder.is_dir():
        for file in sorted(folder.rglob("*")):
            if file.is_file():
                yield file.relative_to(folder).as_posix(), file.read_bytes()


def _set_threads(outfit: Outfit) -> None:
    """Let the processes that this one starts compute on so many threads."""
    for name in _THREADS:
        os.environ.pop(name, None)
        if outfit.threads is not None:
            os.environ[name] = str(outfit.threads)
        elif name in outfit.environment:
            os.environ[name] = outfit.environment[name]


def threads_here() -> dict[str, str]:
    """Return this process's own numbers of threads, as far as they are set."""
    return {name: os.environ[name] for name in _THREADS if name in os.environ}


def _check_version(version: str) -> None:
    from espdl_quantize import __version__

    if version != __version__:
        raise InstallationError(
            f"the node {os.uname().nodename} has espdl-quantize {__version__}, the head {version}",
            f"pip install espdl-quantize=={version} on every node",
        )
