"""Lets plain esp-ppq do what the fast engine fails at, from the state before it.

Every hook of the fast engine is guarded by one :class:`Fallback`, which belongs to one iteration
and keeps the record of what plain esp-ppq had to do.
"""

from __future__ import annotations

import contextlib
import functools
import sys
import traceback
from collections import Counter
from collections.abc import Callable, Iterator
from dataclasses import asdict, dataclass
from typing import Any, TypeVar

from espdl_quantize.core import (
    EspdlQuantizeError,
    Hint,
    IterationError,
    Option,
    is_full_disk,
    is_out_of_memory,
)

ResultT = TypeVar("ResultT")
Restore = Callable[[], None]
"""Puts back the state that was there when it was made."""

_BY_ESP_PPQ = "_failed_in_plain_esp_ppq"
"""Attribute of an exception that plain esp-ppq raised: to run it once more is of no use."""

_LONGEST_REASON = 300


@dataclass(frozen=True)
class Part:
    """A part of the fast engine.

    Attributes:
        name: in a warning.
        tries: failures after which an iteration does not try it any more. A part that runs
            thousands of times is not worth a second try; a block or a pass runs once, and the next
            one may well be of another kind.
    """

    name: str
    tries: int = 1


SELF_TEST = Part("its comparison with plain esp-ppq")
ENGINE = Part("the start of the engine")
PASS = Part("a pass", tries=3)
COLLECTING = Part("collecting the data of a block")
TRAINING = Part("the training of a block", tries=3)
REUSE = Part("the reuse of earlier results")
OBSERVER = Part("an observer")
FAKE_QUANTIZATION = Part("fake quantization")
FORWARD = Part("a forward of the graph")
ANALYSIS = Part("the error analyses")
EXPORT = Part("the export")
INFO = Part("the text of the .info file")
CHIP_CHECK = Part("the chip check")


@dataclass(frozen=True)
class FallbackRecord:
    """Something that plain esp-ppq did because the fast engine failed at it.

    Attributes:
        part: what it was.
        layer: the op, block, pass or tensor at which the fast engine failed; empty where unknown.
        reason: the exception.
    """

    part: str
    layer: str
    reason: str

    def as_json(self) -> dict[str, str]:
        """Return it as plain data."""
        return asdict(self)

    def __str__(self) -> str:
        where = f" ({self.layer})" if self.layer else ""
        return (
            f"the fast engine failed in {self.part}{where}, and plain esp-ppq did it instead, "
            f"which takes longer: {self.reason}"
        )


class Fallback:
    """Runs parts of the fast engine, and plain esp-ppq's where these fail.

    Attributes:
        records: what plain esp-ppq did instead, in order.
        graph: the graph that is being quantized, once there is one: it has the names of layers.
    """

    def __init__(self) -> None:
        self.records: list[FallbackRecord] = []
        self.graph: Any = None
        self._failures: Counter[str] = Counter()
        self._depth = 0
        self._is_given_up = False

    @property
    def is_plain(self) -> bool:
        """Whether plain esp-ppq is at work, so that every hook has to leave the work to it."""
        return self._depth > 0 or self._is_given_up

    def give_up(self, record: FallbackRecord | None = None) -> None:
        """Leave everything from now on to plain esp-ppq.

        Args:
            record: why, where the user should know.
        """
        self._is_given_up = True
        if record is not None:
            self.records.append(record)

    @property
    def warnings(self) -> list[str]:
        """What the user should know, a line per record."""
        return [str(record) for record in self.records]

    def attempt(
        self,
        part: Part,
        fast: Callable[[], ResultT],
        plain: Callable[[], ResultT],
        layer: Callable[[], str] | None = None,
        snapshot: Callable[[], Restore] | None = None,
    ) -> ResultT:
        """Return what ``fast`` returns; where it fails, what ``plain`` does from the state before.

        Interrupts, a full disk, too little memory and errors that name their own remedy are passed
        on: plain esp-ppq would meet them, too. So is what plain esp-ppq itself raised, further in.

        Args:
            part: what is run.
            fast: the fast engine's function. Without a snapshot it must change nothing unless it
                comes to its end.
            plain: esp-ppq's own. Every hook inside it leaves the work to esp-ppq.
            layer: names the layer; asked only after a failure. The op that failed is known where an
                exception names one.
            snapshot: called before; returns what puts the state back.

        Raises:
            IterationError: the state before could not be put back.
            Exception: as above, or what ``plain`` raises: the fault is esp-ppq's own then.
        """
        if self.is_plain:
            return plain()
        if self._failures[part.name] >= part.tries:
            with self._plainly():
                return plain()
        restore: Restore | None = None
        try:
            if snapshot is not None:
                restore = snapshot()
            return fast()
        except Exception as error:
            if _is_no_fault_of_ours(error):
                raise
            # Not the exception itself: its frames hold on to what was being computed.
            record = FallbackRecord(part.name, _layer(error, layer), _reason(error))
            print(f"{record}\n{traceback.format_exc()}", file=sys.stderr)
        return self._run_again(part, record, plain, restore)

    def guarded(
        self,
        part: Part,
        fast: Callable[..., ResultT],
        plain: Callable[..., ResultT],
        layer: Callable[..., str] | None = None,
        snapshot: Callable[..., Restore] | None = None,
    ) -> Callable[..., ResultT]:
        """Return a function that makes an :meth:`attempt`; all functions take its arguments."""

        def run(*args: Any, **kwargs: Any) -> ResultT:
            with_arguments = functools.partial
            return self.attempt(
                part,
                with_arguments(fast, *args, **kwargs),
                with_arguments(plain, *args, **kwargs),
                None if layer is None else with_arguments(layer, *args, **kwargs),
                None if snapshot is None else with_arguments(snapshot, *args, **kwargs),
            )

        return run

    def layer_of(self, config: Any) -> str:
        """Return the name of the op that a tensor's configuration belongs to; empty if unknown."""
        operations = getattr(self.graph, "operations", {})
        for op in operations.values():
            for owned, _ in getattr(op, "config_with_variable", ()):
                if owned is config:
                    return str(op.name)
        return ""

    def _run_again(
        self,
        part: Part,
        record: FallbackRecord,
        plain: Callable[[], ResultT],
        restore: Restore | None,
    ) -> ResultT:
        if restore is not None:
            try:
                restore()
            except Exception as error:
                raise IterationError(
                    f"{record.reason} in the fast engine's {record.part}, and the state before it "
                    f"cannot be put back ({_reason(error)})",
                    Hint(
                        "this is a fault of espdl-quantize: ",
                        Option.ENGINE.of("reference"),
                        " works without that part",
                    ),
                ) from error
        with self._plainly():
            result = plain()
        # Where plain esp-ppq fails, too, the fault is not the engine's: nothing is on record then.
        self._failures[part.name] += 1
        self.records.append(record)
        return result

    @contextlib.contextmanager
    def _plainly(self) -> Iterator[None]:
        self._depth += 1
        try:
            yield
        except Exception as error:
            setattr(error, _BY_ESP_PPQ, True)
            raise
        finally:
            self._depth -= 1


def keep_graph(graph: Any) -> Restore:
    """Keep the whole state of a graph; return what puts it back."""
    from espdl_quantize.ppq._snapshot import state_of_graph

    return state_of_graph(graph).restore


def _is_no_fault_of_ours(error: BaseException) -> bool:
    return any(
        getattr(one, _BY_ESP_PPQ, False)
        or isinstance(one, (EspdlQuantizeError, ConnectionError))
        or is_full_disk(one)
        or is_out_of_memory(one)
        for one in _chain(error)
    )


def _chain(error: BaseException) -> Iterator[BaseException]:
    cause: BaseException | None = error
    while cause is not None:
        yield cause
        cause = cause.__cause__ or cause.__context__


def _layer(error: BaseException, layer: Callable[[], str] | None) -> str:
    ops = [str(one.op_name) for one in _chain(error) if hasattr(one, "op_name")]
    given = ""
    if layer is not None:
        # A name is not worth an iteration.
        with contextlib.suppress(Exception):
            given = layer()
    if ops and given and ops[0] not in given:
        return f"{given}, at {ops[0]}"
    return given or (ops[0] if ops else "")


def _reason(error: BaseException) -> str:
    root = error
    while root.__cause__ is not None:
        root = root.__cause__
    # The first line of numba's errors says only in which step it failed.
    lines = [line.strip() for line in str(root).splitlines() if line.strip()]
    said = " ".join(lines[:2]) or "no message"
    return f"{type(root).__name__}: {said}"[:_LONGEST_REASON]
