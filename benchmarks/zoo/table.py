"""The table of the zoo: what every strategy found, how soon, and who beats whom."""

from __future__ import annotations

import itertools
import statistics
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from benchmarks.zoo.networks import NETWORKS
from benchmarks.zoo.results import NOTHING, Incumbent, Result, Score, best_of

BASELINE = "baseline"
HEAD = (
    *("network", "metric", "float", "strategy", "search samples", "held-out samples"),
    *("models", "min to best known", "ms"),
)


@dataclass(frozen=True)
class Row:
    """One strategy on one network, or the baseline.

    Attributes:
        network: its name.
        chip: the target.
        metric: its name.
        higher: whether more is better.
        float_search: the float model's score on the search's samples.
        float_final: on the held-out ones.
        strategy: its name, or "baseline".
        budget: wall time in seconds.
        best: what it found.
        models: how many were scored; None for the baseline.
        minutes: until its best was within noise of the best known, for good; None for never.
        ended: why it ended.
        error: why it found nothing.
    """

    network: str
    chip: str
    metric: str
    higher: bool
    float_search: float | None
    float_final: float | None
    strategy: str
    budget: float
    best: Incumbent | None
    models: int | None
    minutes: float | None
    ended: str = ""
    error: str = ""

    def to_json(self) -> dict[str, Any]:
        """Return plain data, without the resamples."""
        best = self.best
        return {
            **{name: getattr(self, name) for name in _PLAIN},
            "found": None
            if best is None
            else {
                "setting": best.setting,
                "seconds": best.seconds,
                "search": _score_json(best.search),
                "final": None if best.final is None else _score_json(best.final),
                "ms": best.ms,
            },
        }


_PLAIN = (
    *("network", "chip", "metric", "higher", "float_search", "float_final", "strategy"),
    *("budget", "models", "minutes", "ended", "error"),
)


@dataclass(frozen=True)
class Duel:
    """One strategy against another over the networks that both have run.

    Attributes:
        strategy: the one.
        other: the other.
        better: on how many networks the one's best is better beyond noise, held out.
        alike: on how many nothing but noise is between them.
        worse: on how many it is worse.
        ratios: by network, the one's seconds to within noise of the other's best, over the
            other's; infinite where it never came there.
        shares: the same seconds, over the time that the other was given.
    """

    strategy: str
    other: str
    better: tuple[str, ...]
    alike: tuple[str, ...]
    worse: tuple[str, ...]
    ratios: dict[str, float]
    shares: dict[str, float]

    @property
    def median(self) -> float | None:
        """The median of the ratios; None without any."""
        return statistics.median(self.ratios.values()) if self.ratios else None

    @property
    def median_share(self) -> float | None:
        """The median of the shares; None without any."""
        return statistics.median(self.shares.values()) if self.shares else None

    def to_json(self) -> dict[str, Any]:
        """Return plain data; None stands for an infinite ratio."""
        ratios = {name: _finite(ratio) for name, ratio in self.ratios.items()}
        shares = {name: _finite(share) for name, share in self.shares.items()}
        return {
            "strategy": self.strategy,
            "other": self.other,
            "better": list(self.better),
            "alike": list(self.alike),
            "worse": list(self.worse),
            "ratios": ratios,
            "median_ratio": None if self.median is None else _finite(self.median),
            "shares": shares,
            "median_share": None if self.median_share is None else _finite(self.median_share),
        }


def rows_of(results: Sequence[Result]) -> list[Row]:
    """Return a row for each network's baseline, and for each strategy on it."""
    rows: list[Row] = []
    for _, group in itertools.groupby(_in_order(results), key=lambda each: each.network):
        members = list(group)
        known = best_of(members)
        goal = None if known is None or known.best is None else known.best.score
        facts = next((each for each in members if each.float_search is not None), members[0])
        first = next((each for each in members if each.baseline is not None), None)
        if first is not None and first.baseline is not None:
            reached = goal is not None and not first.baseline.score.is_worse(
                goal, higher=first.higher
            )
            minutes = first.baseline.seconds / 60 if reached else None
            rows.append(_row(first, facts, BASELINE, first.baseline, None, minutes))
        for each in members:
            seconds = None if goal is None else each.seconds_to(goal)
            minutes = None if seconds is None else seconds / 60
            rows.append(_row(each, facts, each.strategy, each.best, each.iterations, minutes))
    return rows


def duel(results: Sequence[Result], strategy: str, other: str) -> Duel:
    """Hold a strategy against another, network by network.

    A network on which the other found nothing counts for the one, where that found something.
    """
    better, alike, worse, ratios, shares = [], [], [], {}, {}
    by_key = {(each.network, each.strategy): each for each in results}
    for network in dict.fromkeys(each.network for each in _in_order(results)):
        one, two = by_key.get((network, strategy)), by_key.get((network, other))
        if one is None or two is None or (one.best is None and two.best is None):
            continue
        if two.best is None:
            better.append(network)
            continue
        if one.best is None:
            worse.append(network)
            ratios[network] = shares[network] = float("inf")
            continue
        mine, theirs, higher = one.best.score, two.best.score, one.higher
        if mine.is_worse(theirs, higher=higher):
            worse.append(network)
        elif theirs.is_worse(mine, higher=higher):
            better.append(network)
        else:
            alike.append(network)
        seconds, reference = one.seconds_to(theirs), two.seconds_to(theirs)
        seconds = float("inf") if seconds is None else seconds
        shares[network] = seconds / two.budget
        if reference:
            ratios[network] = seconds / reference
    return Duel(strategy, other, tuple(better), tuple(alike), tuple(worse), ratios, shares)


def duels(results: Sequence[Result]) -> list[Duel]:
    """Return those that answer the questions of the benchmark, as far as both sides have run."""
    pairs = (("swift", "seed"), ("swift", "autoquant"), ("seed", "autoquant"))
    made = [duel(results, *pair) for pair in pairs]
    return [each for each in made if each.better or each.alike or each.worse]


def markdown(results: Sequence[Result]) -> str:
    """Return the table, who beats whom, and what it ran on."""
    rows = rows_of(results)
    lines = ["| " + " | ".join(HEAD) + " |", "|" + "---|" * len(HEAD)]
    before = ""
    for row in rows:
        cells = _cells(row)
        if row.network == before:
            cells[:3] = ["", "", ""]
        before = row.network
        lines.append("| " + " | ".join(cells) + " |")
    for each in duels(results):
        lines += ["", _sentence(each)]
    notes = [_note(row) for row in rows if row.error or "failed" in row.ended]
    lines += ["", *notes] if notes else []
    lines += ["", *_machines(results)]
    return "\n".join(lines) + "\n"


def front(results: Sequence[Result]) -> str:
    """Return a table of a row per network: the held-out score of every strategy's best.

    The best of a row, and what is within its noise, is set in bold; the float model is apart.
    """
    order = ("autoquant", "seed", "swift")
    columns = [name for name in order if any(each.strategy == name for each in results)]
    titles = {"autoquant": "AutoQuant", "seed": "`--strategy seed`", "swift": "`--strategy swift`"}
    head = ["network", "metric", "float", "esp-ppq's default", *(titles[each] for each in columns)]
    lines = ["| " + " | ".join(head) + " |", "|" + "---|" * len(head)]
    for _, group in itertools.groupby(rows_of(results), key=lambda row: row.network):
        rows = list(group)
        by_strategy = {row.strategy: row.best for row in rows}
        found = [best.score for best in by_strategy.values() if best is not None]
        sign = 1 if rows[0].higher else -1
        top = max(found, key=lambda score: sign * score.value, default=None)
        cells = _cells(rows[0])[:2]
        reference = rows[0].float_final if rows[0].float_final is not None else rows[0].float_search
        cells.append("-" if reference is None else _number(reference))
        for name in (BASELINE, *columns):
            best = by_strategy.get(name)
            if best is None or top is None:
                ran = next((row for row in rows if row.strategy == name), None)
                late = ran is not None and ran.error.startswith(NOTHING)
                cells.append("-" if ran is None else "none in time" if late else "fails")
                continue
            value = _number(best.score.value)
            is_top = not best.score.is_worse(top, higher=rows[0].higher)
            cells.append(f"**{value}**" if is_top else value)
        lines.append("| " + " | ".join(cells) + " |")
    return "\n".join(lines) + "\n"


def to_json(results: Sequence[Result]) -> dict[str, Any]:
    """Return the same as plain data."""
    return {
        "rows": [row.to_json() for row in rows_of(results)],
        "duels": [each.to_json() for each in duels(results)],
        "machines": _machines(results),
    }


def _in_order(results: Sequence[Result]) -> list[Result]:
    """Sort by network as the zoo lists them; the strategies keep their order."""
    names = list(NETWORKS)
    return sorted(
        results,
        key=lambda each: names.index(each.network) if each.network in names else len(names),
    )


def _row(
    result: Result,
    facts: Result,
    strategy: str,
    best: Incumbent | None,
    models: int | None,
    minutes: float | None,
) -> Row:
    return Row(
        result.network,
        result.chip or facts.chip,
        result.metric or facts.metric,
        result.higher,
        facts.float_search,
        facts.float_final,
        strategy,
        result.budget,
        best,
        models,
        minutes,
        result.ended if models is not None else "",
        result.error if models is not None else "",
    )


def _cells(row: Row) -> list[str]:
    network = NETWORKS.get(row.network)
    title = network.title if network else row.network
    chip = row.chip.replace("esp32", "").upper()
    arrow = "" if row.higher else ", less is better"
    reference = ", against float" if network and network.reference else ""
    floats = [_number(value) for value in (row.float_search, row.float_final) if value is not None]
    best = row.best
    minutes = "-" if row.minutes is None else f"{row.minutes:.1f} of {row.budget / 60:.3g}"
    return [
        f"{title}{f', {chip}' if chip else ''}",
        f"{row.metric}{reference}{arrow}",
        " / ".join(floats) or "-",
        row.strategy,
        _score(best.search) if best else "none",
        _score(best.final) if best and best.final else "-",
        "" if row.models is None else str(row.models),
        minutes,
        f"{best.ms:.3g}" if best and best.ms is not None else "-",
    ]


def _sentence(each: Duel) -> str:
    total = len(each.better) + len(each.alike) + len(each.worse)
    parts = [
        f"{each.strategy} against {each.other}, held out, on {total} networks: better on "
        f"{_count(each.better)}, within noise on {len(each.alike)}, worse on {_count(each.worse)}"
    ]
    if each.median is not None and each.median_share is not None:
        parts.append(
            f"; to the other's final quality it took {_share(each.median_share)} of the time that "
            f"the other was given, and {_share(each.median)} of what the other itself took to it: "
            f"the medians of {len(each.shares)}"
        )
    return "".join(parts) + "."


def _share(value: float) -> str:
    return f"{value:.2f}" if value < float("inf") else "more than all"


def _count(names: Sequence[str]) -> str:
    return f"{len(names)} ({', '.join(names)})" if names else "0"


def _note(row: Row) -> str:
    said = row.error or row.ended
    return f"- {row.network}, {row.strategy}: {said}"


def _machines(results: Sequence[Result]) -> list[str]:
    lines = []
    for result in results:
        facts = result.machine
        if not facts:
            continue
        line = (
            f"{facts.get('cpus')} CPUs ({facts.get('processor')}), {facts.get('threads')} "
            f"thread{'s' if facts.get('threads') != 1 else ''}, Python {facts.get('python')}, "
            f"torch {facts.get('torch')}, esp-ppq {facts.get('esp_ppq')}"
        )
        if line not in lines:
            lines.append(line)
    loads = [load for result in results for load in result.machine.get("load", ())]
    if loads:
        lines.append(
            f"load of the machine, 1 minute: median {statistics.median(loads):.1f}, "
            f"{min(loads):.1f} to {max(loads):.1f}"
        )
    return lines


def _finite(value: float) -> float | None:
    return value if value < float("inf") else None


def _score(score: Score) -> str:
    interval = score.interval()
    if interval is None:
        return _number(score.value)
    return f"{_number(score.value)} ({_number(interval.low)} to {_number(interval.high)})"


def _score_json(score: Score) -> dict[str, Any]:
    interval = score.interval()
    return {
        "value": score.value,
        "samples": score.samples,
        "low": None if interval is None else interval.low,
        "high": None if interval is None else interval.high,
    }


def _number(value: float) -> str:
    if abs(value) < 5e-5:
        return "0"
    return f"{value:.4f}" if abs(value) < 1 else f"{value:.2f}"
