"""The lines of a comparison of two output folders: where they are from, scores, cost, search."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

from espdl_quantize.record import History, Iteration, OnChip
from espdl_quantize.record.cost import KIB
from espdl_quantize.report._certainty import show_interval
from espdl_quantize.report._comparison import cost_of
from espdl_quantize.report._escape import duration, number, plain
from espdl_quantize.search import describe_changes, describe_setting, int16_ops

_SHOWN = 200


@dataclass(frozen=True)
class Fact:
    """One line of the comparison.

    Attributes:
        name: what is compared.
        first: of the first folder, as text; "-" where it is not known.
        second: of the second.
        change: from the first to the second; empty where there is none to tell.
    """

    name: str
    first: str
    second: str
    change: str = ""

    @property
    def is_different(self) -> bool:
        """Whether the two differ."""
        return self.first != self.second


Histories = tuple[History, History]


def facts_of(histories: Histories) -> Iterator[Fact]:
    """Yield the facts of both folders, line by line."""
    yield from _origin(histories)
    yield from _scores(histories)
    yield from _outputs((histories[0].best, histories[1].best))
    yield from _chip(histories)
    yield from _search(histories)


def _pair(name: str, values: tuple[object, object], change: str = "") -> Fact:
    first, second = ("-" if value in (None, "") else plain(value) for value in values)
    return Fact(name, first, second, change)


def _numbers(name: str, values: tuple[float | None, float | None]) -> Fact:
    return Fact(name, write_score(values[0]), write_score(values[1]), write_change(*values))


def _origin(histories: Histories) -> Iterator[Fact]:
    for name, field in (
        ("model", "model_name"),
        ("chip", "target_chip"),
        ("bits", "num_of_bits"),
        ("esp-ppq", "esp_ppq_version"),
        ("ESP-DL", "esp_dl_version"),
        ("engine", "engine"),
    ):
        values = _stated(histories[0], field), _stated(histories[1], field)
        if values != (None, None):
            yield _pair(name, values)
    yield _pair("metric", (histories[0].metric, histories[1].metric))


def _stated(history: History, field: str) -> object:
    records = ([history.best] if history.best else []) + list(history.iterations)
    return next((value for record in records if (value := getattr(record, field))), None)


def _scores(histories: Histories) -> Iterator[Fact]:
    def values(of: str) -> tuple[float | None, float | None]:
        first, second = (_score_of(history, of) for history in histories)
        return first, second

    yield _numbers("float model", values("float"))
    yield _numbers("baseline", values("baseline"))
    yield _numbers("best", values("best"))
    intervals = [
        None if history.best is None else history.noise.interval(history.best)
        for history in histories
    ]
    yield Fact("95 % interval", show_interval(intervals[0]), show_interval(intervals[1]))
    if values("final") != (None, None):
        yield _numbers("held-out score of best", values("final"))
    yield _numbers("lost to float by best", values("lost"))
    shares = [history.gap_closed for history in histories]
    yield _pair(
        "share of the drop that came back",
        (_percent(shares[0]), _percent(shares[1])),
    )


def _percent(share: float | None) -> str:
    return "-" if share is None else f"{share:.0%}"


def _score_of(history: History, of: str) -> float | None:
    best, first = history.best, history.baseline
    if best is None or best.value is None:
        return None
    reference = history.float_value(best)
    if of == "float":
        return reference
    if of == "best":
        return best.value
    if of == "baseline":
        return None if first is None else first.value
    if of == "final":
        final = history.finals.get(best.id)
        return None if final is None else final.score.value
    return None if reference is None else history.gap_to(best, reference)


def _outputs(bests: tuple[Iteration | None, Iteration | None]) -> Iterator[Fact]:
    signals = [None if best is None else best.signals for best in bests]
    if signals == [None, None]:
        return
    noise = [None if each is None else each.noise_signal for each in signals]
    agreement = [None if each is None else each.agreement for each in signals]
    yield Fact("noise:signal at the outputs", write_ratio(noise[0]), write_ratio(noise[1]))
    if agreement != [None, None]:
        yield _pair("agrees with float", (_percent_of(agreement[0]), _percent_of(agreement[1])))


def _percent_of(share: float | None) -> str:
    return "-" if share is None else f"{share:.1%}"


def _chip(histories: Histories) -> Iterator[Fact]:
    bests = [history.best for history in histories]
    costs = [None if best is None else best.cost for best in bests]
    if costs != [None, None]:
        for name, values, unit in (
            ("predicted time", [None if cost is None else cost.ms for cost in costs], "ms"),
            ("RAM", [None if cost is None else _kib(cost.ram_bytes) for cost in costs], "KiB"),
            ("flash", [None if cost is None else _kib(cost.flash_bytes) for cost in costs], "KiB"),
        ):
            shown = ["-" if value is None else f"{value:,.4g} {unit}" for value in values]
            change = ""
            if values[0] and values[1] is not None:
                change = f"{values[1] / values[0] - 1:+.1%}"
            yield Fact(name, shown[0], shown[1], change)
    yield _pair(
        "slower than plain 8 bits",
        (
            None if bests[0] is None else cost_of(histories[0], bests[0]),
            None if bests[1] is None else cost_of(histories[1], bests[1]),
        ),
    )
    checks = [OnChip() if best is None else best.on_chip or OnChip() for best in bests]
    if any(check.legal is not None for check in checks):
        words = {True: "yes", False: "no", None: "-"}
        yield _pair("obeys the chip's rules", (words[checks[0].legal], words[checks[1].legal]))
    wide = [
        0 if best is None or best.setting is None else len(int16_ops(best.setting))
        for best in bests
    ]
    yield _pair("ops set to int16", (str(wide[0]), str(wide[1])))


def _kib(size: int | None) -> float | None:
    return None if size is None else size / KIB


def _search(histories: Histories) -> Iterator[Fact]:
    yield _pair("iterations", (_count(histories[0]), _count(histories[1])))
    seconds = [
        sum(record.elapsed_seconds or 0.0 for record in history.iterations) or None
        for history in histories
    ]
    yield _pair("time on the PC", (duration(seconds[0]), duration(seconds[1])))
    names = [None if history.best is None else history.best.name for history in histories]
    yield _pair("best iteration", (names[0], names[1]))
    settings = [None if history.best is None else history.best.setting for history in histories]
    words = [None if setting is None else describe_setting(setting) for setting in settings]
    change = ""
    if settings[0] is not None and settings[1] is not None:
        change = plain(describe_changes(settings[0], settings[1]), _SHOWN)
    yield _pair("setting of best", (words[0], words[1]), "" if change == "no change" else change)


def _count(history: History) -> str:
    failed = f", {len(history.failed)} failed" if history.failed else ""
    return f"{len(history.iterations)}{failed}"


def write_score(value: float | None) -> str:
    """Write a score."""
    return number(value)


def write_change(first: float | None, second: float | None) -> str:
    """Write a difference; empty where there is none."""
    if first is None or second is None or first == second:
        return ""
    return number(second - first, sign=True)


def write_ratio(value: float | None) -> str:
    """Write a noise:signal ratio."""
    return "-" if value is None else f"{value:.3g}"
