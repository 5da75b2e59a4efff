"""3i and 3j: 16 bits for groups of ops through which an activation keeps its width, and back.

Both go by what best's iteration measured of each group (``int16_groups.json``) and by what the
groups cost in the exported file. Neither is in the linear order: the strategy swift takes up
3i, open exploration both.
"""

from __future__ import annotations

from collections.abc import Collection, Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

from espdl_quantize.record import OpGroup
from espdl_quantize.search._describe import ratio
from espdl_quantize.search.levers._base import Judgement, Lever
from espdl_quantize.search.levers.int16 import may_have_16_bits
from espdl_quantize.setting import Dispatch, Setting, int16_ops

if TYPE_CHECKING:
    from espdl_quantize.search._state import SearchState


@dataclass(frozen=True)
class ChosenGroup:
    """A group as it was chosen.

    Attributes:
        ops: the ops that the groups chosen before it do not have.
        win: the share of the outputs' noise that it takes away.
        time: what it adds to the model's time.
    """

    ops: tuple[str, ...]
    win: float
    time: float


class PromoteGroups(Lever):
    """Gives groups of ops 16 bits, with minmax calibration and tables, by what they win per time.

    A knapsack: of all groups, the one that takes most noise away per millisecond comes first, then
    the next of what is left, as long as they fit into the contract's milliseconds, or into a share
    of the model's time.
    """

    id = "3i"
    name = "16 bits for groups of ops"
    tier = "B"
    cost = "+"
    title = "int16 on groups of ops, with minmax and tables"

    def marks(self, setting: Setting) -> bool:
        """Recognised by ops with 16 bits whose functions are tables."""
        return bool(setting.int16_tables and int16_ops(setting))

    def applies(self, state: SearchState) -> Judgement:
        """Needs the measured groups, and what each op takes on the chip."""
        widths = state.best_evidence.widths
        if widths is None or not widths.promotions:
            return Judgement(False, f"{state.base_name} has no measured groups of 8-bit ops")
        if Price.of(state) is None:
            return Judgement(False, f"what the ops of {state.base_name} take is not known")
        chosen = choose_groups(state)
        if not chosen:
            return Judgement(False, f"no group of {state.base_name} pays within {_limit(state)}")
        return Judgement(True, describe_groups(state, chosen))

    def change(self, state: SearchState) -> Setting:
        """Add the chosen groups to best's table."""
        return promote(state.base, [op for group in choose_groups(state) for op in group.ops])


class DemoteIdle(Lever):
    """Gives ops with 16 bits that no longer pay their 8 bits back."""

    id = "3j"
    name = "8 bits again where 16 win nothing"
    tier = "A"
    title = "8 bits again for ops whose 16 bits win nothing"

    def marks(self, setting: Setting) -> bool:
        """Never recognised: it leaves nothing in a setting."""
        return False

    def applies(self, state: SearchState) -> Judgement:
        """Needs ops with 16 bits of which it was measured what they win."""
        widths = state.best_evidence.widths
        if widths is None or not widths.demotions:
            return Judgement(False, f"{state.base_name} has no ops with 16 bits")
        chosen = choose_demotions(state)
        if not chosen:
            limit = state.options.thresholds.demotion_noise
            return Judgement(
                False, f"each 16-bit op of {state.base_name} takes over {limit:.0%} of the noise"
            )
        worse = sum(max(group.noise - widths.noise, 0.0) for group in chosen)
        named = "; ".join(_named(group.ops) for group in chosen)
        return Judgement(
            True,
            f"with 8 bits on {named} the noise at the outputs grows by {ratio(worse)} "
            f"from {ratio(widths.noise)}",
        )

    def change(self, state: SearchState) -> Setting:
        """Take the chosen ops out of best's table."""
        return demote(state.base, [op for group in choose_demotions(state) for op in group.ops])


def choose_groups(state: SearchState) -> tuple[ChosenGroup, ...]:
    """Fill the knapsack: the most noise taken away per time first, of what still fits.

    What groups share is paid once, and so is a conversion between two widths, which a further
    group may save. Of a group that overlaps with those chosen, the part of what it wins counts that
    its other ops are of it, or what it wins beyond a group that it contains.
    """
    widths, price = state.best_evidence.widths, Price.of(state)
    if widths is None or price is None or widths.noise <= 0:
        return ()
    allowed, least = _allowed(state), state.options.thresholds.group_min_win
    wins = {
        frozenset(group.ops): 1.0 - group.noise / widths.noise
        for group in widths.promotions
        if group.noise < widths.noise
        and all(may_have_16_bits(op, state.best_evidence) for op in group.ops)
    }
    order = {frozenset(group.ops): group.ops for group in widths.promotions}
    chosen: list[ChosenGroup] = []
    taken: frozenset[str] = frozenset()
    total = paid = 0.0
    while total < 1 - least:
        best: tuple[float, ChosenGroup, frozenset[str]] | None = None
        for ops, win in wins.items():
            new = ops - taken
            more = _more(ops, win, taken, wins)
            if not new or more < least / 2:
                continue
            time = price.of_ops(taken | ops) - paid
            if paid + time > allowed:
                continue
            worth = more / max(time, 1e-9 * price.whole)
            if best is None or worth > best[0]:
                names = tuple(op for op in order[ops] if op in new)
                best = (worth, ChosenGroup(names, more, time), ops)
        if best is None:
            break
        chosen.append(best[1])
        taken, paid, total = taken | best[2], paid + best[1].time, total + best[1].win
    singles = (ChosenGroup(order[ops], win, price.of_ops(ops)) for ops, win in wins.items())
    for single in singles:
        # Greed can miss it: a group that wins as much for less, or far more than all that fits.
        fits = single.time <= allowed
        if fits and ((single.win >= total and single.time < paid) or single.win > total + least):
            chosen, total, paid = [single], single.win, single.time
    return tuple(chosen) if total >= least else ()


@dataclass(frozen=True)
class Price:
    """What 16 bits on ops of best add to its model's time.

    Attributes:
        whole: the model's time.
        ops: by op, what 16 bits add to its own time; less than nothing where its channels fill the
            chip's vectors with 16 bits and not with 8. An op that the exported file does not have,
            such as a Relu that was merged into its Conv, adds nothing.
        edges: writer and reader of each activation, and what it takes to bring that from one width
            to the other.
        wide: the ops that have 16 bits already.
    """

    whole: float
    ops: Mapping[str, float]
    edges: tuple[tuple[str, str, float], ...]
    wide: frozenset[str]

    @classmethod
    def of(cls, state: SearchState) -> Price | None:
        """Read it off best's artifacts; None where what its ops take is not known."""
        cost, evidence = None if state.best is None else state.best.cost, state.best_evidence
        if cost is None or not cost.time or evidence.widths is None:
            return None
        ops = {
            layer.name: layer.time_at_16_bits - layer.time
            for layer in cost.layers
            if layer.time is not None and layer.time_at_16_bits is not None
        }
        writers = {name: op.name for op in evidence.ops for name in op.outputs}
        times = evidence.widths.conversions
        edges = tuple(
            (writers[name], op.name, times[name])
            for op in evidence.ops
            for name in op.inputs
            if name in writers and name in times
        )
        return cls(cost.time, ops, edges, frozenset(cost.wide_ops) | {*int16_ops(state.base)})

    def of_ops(self, ops: Collection[str]) -> float:
        """Return what it adds to give these ops 16 bits, conversions included."""
        own = sum(self.ops.get(op, 0.0) for op in ops)
        return own + self._conversions({*self.wide, *ops}) - self._conversions(self.wide)

    def _conversions(self, wide: Collection[str]) -> float:
        return sum(
            time for writer, reader, time in self.edges if (writer in wide) != (reader in wide)
        )


def promote(setting: Setting, ops: Sequence[str]) -> Setting:
    """Return a setting in which these ops have 16 bits, minmax calibration and tables."""
    table = [entry for entry in setting.dispatching_table or [] if entry.op not in ops]
    calibrations = dict(setting.calib_algorithm_per_layer or {})
    if setting.calib_algorithm != "minmax":
        calibrations.update(dict.fromkeys(ops, "minmax"))
    return setting.model_copy(
        update={
            "dispatching_table": [*table, *(Dispatch(op=op, bits=16) for op in ops)],
            "calib_algorithm_per_layer": calibrations or None,
            "int16_tables": True,
        }
    )


def demote(setting: Setting, ops: Sequence[str]) -> Setting:
    """Return a setting in which these ops have 8 bits."""
    table = [entry for entry in setting.dispatching_table or [] if entry.op not in ops]
    if setting.width not in (None, 8):
        table += [Dispatch(op=op, bits=8) for op in ops]
    calibrations = {
        op: algorithm
        for op, algorithm in (setting.calib_algorithm_per_layer or {}).items()
        if op not in ops or algorithm != "minmax"
    }
    changed = setting.model_copy(
        update={
            "dispatching_table": table or None,
            "calib_algorithm_per_layer": calibrations or None,
        }
    )
    if int16_ops(changed) or changed.width not in (None, 8):
        return changed
    return changed.model_copy(update={"int16_tables": None})


def choose_demotions(state: SearchState) -> tuple[OpGroup, ...]:
    """Choose the groups whose 8 bits cost least noise, as long as all of them cost little."""
    widths, base = state.best_evidence.widths, state.base
    if widths is None:
        return ()
    stated = set(int16_ops(base))
    is_wide = base.width not in (None, 8)
    left = state.options.thresholds.demotion_noise * widths.noise
    chosen: list[OpGroup] = []
    taken: set[str] = set()
    for group in sorted(widths.demotions, key=lambda item: (item.noise, -len(item.ops), item.ops)):
        known = is_wide or stated >= set(group.ops)
        worse = max(group.noise - widths.noise, 0.0)
        if known and worse <= left and not taken & set(group.ops):
            chosen.append(group)
            taken.update(group.ops)
            left -= worse
    return tuple(chosen)


def describe_groups(state: SearchState, chosen: Sequence[ChosenGroup]) -> str:
    """Say what each group is, what it wins and what it takes, and what it comes to in all."""
    widths = state.best_evidence.widths
    assert widths is not None
    kind = "held-out" if widths.held_out else "calibration"
    each = "; ".join(
        f"{_named(group.ops)}: {group.win:.0%} of the noise for {_time(state, group.time)}"
        for group in chosen
    )
    win, time = sum(group.win for group in chosen), sum(group.time for group in chosen)
    return (
        f"{each}; in all about {min(win, 1.0):.0%} of the outputs' noise {ratio(widths.noise)} "
        f"(int16_groups.json of {state.best_evidence.owner or state.base_name}, {widths.samples} "
        f"{kind} samples) for "
        f"{_time(state, time)}, within {_limit(state)}"
    )


def _more(
    ops: frozenset[str],
    win: float,
    taken: frozenset[str],
    wins: Mapping[frozenset[str], float],
) -> float:
    if not ops & taken:
        return win
    within = max((known for other, known in wins.items() if other <= ops & taken), default=0.0)
    share = win * len(ops - taken) / len(ops)
    return min(win - within, share) if within else share


def _allowed(state: SearchState) -> float:
    """Return the time that may be added, in the unit of the cost."""
    cost = None if state.best is None else state.best.cost
    if cost is None or not cost.time:
        return 0.0
    budgets = state.options.budgets
    most = None if budgets is None else budgets.max_latency_ms
    if most is not None and cost.ms:
        return max(most - cost.ms, 0.0) * cost.time / cost.ms
    plain = state.history.baseline.cost if state.history.baseline is not None else None
    whole = plain.time if plain is not None and plain.time else cost.time
    return max(whole * (1 + state.options.thresholds.group_time_share) - cost.time, 0.0)


def _limit(state: SearchState) -> str:
    budgets = state.options.budgets
    if budgets is not None and budgets.max_latency_ms is not None:
        return f"max_latency_ms {budgets.max_latency_ms:g}"
    return f"{state.options.thresholds.group_time_share:.0%} more time than the plain model"


def _time(state: SearchState, time: float) -> str:
    cost = None if state.best is None else state.best.cost
    assert cost is not None
    assert cost.time
    if cost.ms:
        return f"{time * cost.ms / cost.time:+.3g} ms of {cost.ms:.3g}"
    return f"{time / cost.time:+.1%} time"


def _named(ops: Iterable[str]) -> str:
    names = list(ops)
    if len(names) < 3:
        return " and ".join(names)
    return f"{names[0]} to {names[-1]} ({len(names)} ops)"
