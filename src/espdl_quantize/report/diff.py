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
    load_evidence,
    read_history,
)
from espdl_quantize.report._blocks import (
    Block,
    Bullets,
    Cell,
    Column,
    Table,
    TableRow,
)
from espdl_quantize.report._certainty import tell
from espdl_quantize.report._escape import number, plain
from espdl_quantize.report._html import Page, PageSection, render_page
from espdl_quantize.report.diff_facts import (
    Fact,
    Histories,
    facts_of,
    write_change,
    write_ratio,
    write_score,
)
from espdl_quantize.search import describe_setting
from espdl_quantize.setting import setting_key

_LAYERS = 12
_SHOWN = 200


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
                    (
                        Cell(plain(layer.op)),
                        Cell(write_ratio(layer.first)),
                        Cell(write_ratio(layer.second)),
                    )
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
                        Cell(write_score(shared.first)),
                        Cell(write_score(shared.second)),
                        Cell(write_change(shared.first, shared.second)),
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
    return FolderDiff(
        (Path(first), Path(second)),
        tuple(facts_of(histories)),
        _verdict(histories),
        tuple(_notes(histories)),
        tuple(_shared(histories)),
        tuple(_layer_pairs(evidence[0], evidence[1])),
    )


def _verdict(histories: Histories) -> str:
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


def _notes(histories: Histories) -> Iterator[str]:
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


def _shared(histories: Histories) -> Iterator[SharedSetting]:
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
