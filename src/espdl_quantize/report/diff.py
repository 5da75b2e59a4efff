"""Two output folders side by side: two chips, two models, or a model of two dates."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import asdict, dataclass, replace
from pathlib import Path

from espdl_quantize.core import Direction, Json
from espdl_quantize.record import (
    Evidence,
    History,
    Iteration,
    Noise,
    OnChip,
    load_evidence,
    read_history,
)
from espdl_quantize.record.cost import KIB
from espdl_quantize.report._blocks import (
    Block,
    Bullets,
    Cell,
    Column,
    Table,
    TableRow,
)
from espdl_quantize.report._certainty import show_interval, tell
from espdl_quantize.report._comparison import cost_of
from espdl_quantize.report._escape import duration, number, plain
from espdl_quantize.report._html import Page, PageSection, render_page
from espdl_quantize.search import describe_changes, describe_setting, int16_ops
from espdl_quantize.setting import setting_key

_LAYERS = 12
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


@dataclass(frozen=True)
class SharedSetting:
    """A setting that both folders ran, with both scores; None for one that failed."""

    setting: str
    first_iteration: int
    second_iteration: int
    first: float | None
    second: float | None


@dataclass(frozen=True)
class LayerPair:
    """A layer's noise:signal ratio in both bests; None where one has no such layer."""

    op: str
    first: float | None
    second: float | None


@dataclass(frozen=True)
class FolderDiff:
    """What differs between two output folders.

    Attributes:
        folders: the two.
        facts: origin, scores, cost and search, line by line.
        verdict: the main thing in a sentence.
        notes: what speaks against comparing them, and what is known beyond the lines.
        settings: settings that both ran.
        layers: the worst layers of either best.
    """

    folders: tuple[Path, Path]
    facts: tuple[Fact, ...]
    verdict: str
    notes: tuple[str, ...] = ()
    settings: tuple[SharedSetting, ...] = ()
    layers: tuple[LayerPair, ...] = ()

    def to_json(self) -> Json:
        """Return plain data."""
        return {
            "ok": True,
            "folders": [str(folder.resolve()) for folder in self.folders],
            "verdict": self.verdict,
            "facts": [{**asdict(fact), "differs": fact.is_different} for fact in self.facts],
            "notes": list(self.notes),
            "settings": [asdict(shared) for shared in self.settings],
            "layers": [asdict(layer) for layer in self.layers],
        }

    def html(self) -> str:
        """Write the comparison as one page that opens without a network."""
        names = folder_names(self.folders)
        sections = [
            PageSection("facts", "Side by side", [self._facts(names)]),
            PageSection("layers", "The worst layers", [self._layers(names)] if self.layers else []),
            PageSection(
                "settings", "The same settings", [self._settings(names)] if self.settings else []
            ),
            PageSection("notes", "Notes", [Bullets(self.notes)] if self.notes else []),
        ]
        page = Page(
            kicker="Comparison of two searches",
            title=names[0],
            subtitle=f"against {names[1]}",
            verdict=self.verdict,
            sections=[section for section in sections if section.blocks],
        )
        return render_page(page)

    def _facts(self, names: tuple[str, str]) -> Block:
        return Table(
            "facts",
            "From the first folder to the second. What differs is marked.",
            (Column(""), *(Column(name, "any", is_name=True) for name in names), Column("change")),
            tuple(
                TableRow(
                    (
                        Cell(fact.name),
                        Cell(fact.first),
                        Cell(fact.second),
                        Cell(fact.change or ("differs" if fact.is_different else "")),
                    ),
                    is_best=False,
                )
                for fact in self.facts
            ),
        )

    def _layers(self, names: tuple[str, str]) -> Block:
        return Table(
            "layers",
            "Noise:signal power ratio with only this layer quantized, in the best of each folder.",
            (
                Column("Layer", "op"),
                *(Column(name, is_number=True, is_name=True) for name in names),
            ),
            tuple(
                TableRow(
                    (Cell(plain(layer.op)), Cell(_ratio(layer.first)), Cell(_ratio(layer.second)))
                )
                for layer in self.layers
            ),
        )

    def _settings(self, names: tuple[str, str]) -> Block:
        return Table(
            "shared",
            "Settings that both searches ran, with the score in each.",
            (
                Column("Setting", "any"),
                *(Column(name, is_number=True, is_name=True) for name in names),
                Column("change", is_number=True),
            ),
            tuple(
                TableRow(
                    (
                        Cell(shared.setting),
                        Cell(_score(shared.first)),
                        Cell(_score(shared.second)),
                        Cell(_change(shared.first, shared.second)),
                    )
                )
                for shared in self.settings
            ),
        )


def folder_names(folders: tuple[Path, Path]) -> tuple[str, str]:
    """Return the shortest ends of both paths that tell them apart."""
    parts = [folder.absolute().parts for folder in folders]
    for count in range(1, max(map(len, parts)) + 1):
        first, second = ("/".join(each[-count:]) for each in parts)
        if first != second:
            return plain(first), plain(second)
    return plain(folders[0]), plain(folders[1])


def diff_folders(first: Path, second: Path) -> FolderDiff:
    """Compare two output folders; nothing is written.

    Raises:
        OutputFolderError: one of them cannot be read.
    """
    histories = read_history(Path(first)), read_history(Path(second))
    bests = histories[0].best, histories[1].best
    evidence = tuple(Evidence() if best is None else load_evidence(best) for best in bests)
    facts = (
        *_origin(histories),
        *_scores(histories),
        *_outputs(bests),
        *_chip(histories),
        *_search(histories),
    )
    return FolderDiff(
        (Path(first), Path(second)),
        tuple(facts),
        _verdict(histories),
        tuple(_notes(histories)),
        tuple(_shared(histories)),
        tuple(_layer_pairs(evidence[0], evidence[1])),
    )


_Histories = tuple[History, History]


def _pair(name: str, values: tuple[object, object], change: str = "") -> Fact:
    first, second = ("-" if value in (None, "") else plain(value) for value in values)
    return Fact(name, first, second, change)


def _numbers(name: str, values: tuple[float | None, float | None]) -> Fact:
    return Fact(name, _score(values[0]), _score(values[1]), _change(*values))


def _origin(histories: _Histories) -> Iterator[Fact]:
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


def _scores(histories: _Histories) -> Iterator[Fact]:
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
    yield Fact("noise:signal at the outputs", _ratio(noise[0]), _ratio(noise[1]))
    if agreement != [None, None]:
        yield _pair("agrees with float", (_percent_of(agreement[0]), _percent_of(agreement[1])))


def _percent_of(share: float | None) -> str:
    return "-" if share is None else f"{share:.1%}"


def _chip(histories: _Histories) -> Iterator[Fact]:
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


def _search(histories: _Histories) -> Iterator[Fact]:
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


def _verdict(histories: _Histories) -> str:
    bests = histories[0].best, histories[1].best
    if bests[0] is None or bests[1] is None or bests[0].value is None or bests[1].value is None:
        missing = [
            name
            for name, best in zip(("first", "second"), bests, strict=True)
            if best is None or best.value is None
        ]
        return f"No iteration of the {' and the '.join(missing)} folder has a score."
    if histories[0].metric != histories[1].metric:
        return (
            f"The scores do not compare: the first is {plain(histories[0].metric)}, the second "
            f"{plain(histories[1].metric)}."
        )
    metric = plain(histories[0].metric or "metric")
    values = f"{metric} {number(bests[0].value)} -> {number(bests[1].value)}"
    comparison = _compare_bests(bests[0], bests[1], histories[0])
    if comparison is not None:
        return f"{values}: the second is {comparison}."
    gap = bests[1].value - bests[0].value
    if gap == 0:
        return f"{values}: the same."
    better = gap > 0 if histories[0].direction == Direction.MAX else gap < 0
    return f"{values}: the second is {'better' if better else 'worse'}, noise unknown."


def _compare_bests(first: Iteration, second: Iteration, history: History) -> str | None:
    # A noise knows iterations by their number, and both may have the same.
    apart = replace(second, id=-1 - second.id)
    comparison = Noise().compare(apart, first, history.direction)
    return None if comparison is None else tell(comparison)


def _notes(histories: _Histories) -> Iterator[str]:
    bests = histories[0].best, histories[1].best
    if histories[0].direction != histories[1].direction and all(bests):
        yield "One metric is better high, the other low: the scores do not compare."
    if bests[0] is not None and bests[1] is not None:
        counts = bests[0].sample_count, bests[1].sample_count
        if all(counts) and counts[0] != counts[1]:
            yield f"They were scored on {counts[0]} and {counts[1]} samples."
        keys = bests[0].contract_key, bests[1].contract_key
        if all(keys) and keys[0] != keys[1]:
            yield "The contracts, or their data, are not the same."
    for folder, history in zip(("first", "second"), histories, strict=True):
        for record in history.failed[:6]:
            yield f"{record.name} of the {folder} failed: {plain(record.failure or 'no score')}"
        for warning in history.warnings[:6]:
            yield f"{folder}: {plain(warning)}"


def _shared(histories: _Histories) -> Iterator[SharedSetting]:
    first: dict[str, Iteration] = {}
    for record in histories[0].iterations:
        if record.setting is not None:
            first.setdefault(setting_key(record.setting), record)
    seen: set[str] = set()
    for record in histories[1].iterations:
        key = None if record.setting is None else setting_key(record.setting)
        if key is None or key in seen or key not in first or record.setting is None:
            continue
        seen.add(key)
        mine = first[key]
        yield SharedSetting(
            plain(describe_setting(record.setting)), mine.id, record.id, mine.value, record.value
        )


def _layer_pairs(first: Evidence, second: Evidence) -> list[LayerPair]:
    errors = [{row.op: row.snr for row in side.layerwise} for side in (first, second)]
    ops = dict.fromkeys((*errors[0], *errors[1]))
    pairs = [LayerPair(op, errors[0].get(op), errors[1].get(op)) for op in ops]
    known = [pair for pair in pairs if _worse(pair) > 0]
    return sorted(known, key=lambda pair: (-_worse(pair), pair.op))[:_LAYERS]


def _worse(pair: LayerPair) -> float:
    return max(pair.first or 0.0, pair.second or 0.0)


def _score(value: float | None) -> str:
    return number(value)


def _change(first: float | None, second: float | None) -> str:
    if first is None or second is None or first == second:
        return ""
    return number(second - first, sign=True)


def _ratio(value: float | None) -> str:
    return "-" if value is None else f"{value:.3g}"
