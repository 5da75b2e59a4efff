"""The composition discipline, checked on a setting before it runs."""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass

from espdl_quantize.record import Evidence, GraphOp, History, Iteration
from espdl_quantize.search._axes import escalations
from espdl_quantize.search._crashes import Crashes
from espdl_quantize.search._decide import settle
from espdl_quantize.search._decision import SearchOptions
from espdl_quantize.search._describe import describe_change, describe_changes
from espdl_quantize.search._legs import DEFAULT_TQT, bars_leg, leg_of
from espdl_quantize.search._rules import Situation, first_outcome, phase5_cutoff
from espdl_quantize.search.levers import LEVERS
from espdl_quantize.search.phase5 import calibration
from espdl_quantize.setting import (
    ONE_EXPONENT_OPS,
    Change,
    Setting,
    baseline,
    diff,
    unequal_exponents,
    with_calibration,
)

_CITATION = re.compile(r"\biter[\s_-]*(\d{1,9})\b", re.IGNORECASE)


@dataclass(frozen=True)
class Violation:
    """A rule that a setting breaks.

    Attributes:
        rule: a fixed name.
        iteration_id: the iteration it clashes with, if one.
        found: what was found.
        hint: what to do about it.
    """

    rule: str
    iteration_id: int | None
    found: str
    hint: str

    def __str__(self) -> str:
        return f"{self.rule}: {self.found} -> {self.hint}"


def lint_setting(
    setting: Setting,
    history: History,
    evidence: Mapping[int, Evidence] | None = None,
    options: SearchOptions | None = None,
) -> list[Violation]:
    """Check a hand-written setting against the history it would be added to.

    Args:
        setting: the next setting.
        history: the iterations so far.
        evidence: artifacts by iteration id, to know the phase.
        options: as for :func:`decide`.
    """
    situation = settle(history, evidence, options)
    setting = with_calibration(setting, situation.options.width)
    illegal = _one_exponent(setting, situation)
    this_leg = leg_of(setting, history)
    if this_leg is not None and first_outcome(situation).leg == this_leg:
        return []
    is_open = phase5_cutoff(situation) >= 0
    found = illegal + _stacked(setting, situation, is_open)
    found += _crashed(setting, history)
    found += _calibration_alone(setting, history)
    found += [
        Violation("no-further-step", row.id, told, hint)
        for row, told, hint in escalations(setting, history)
    ]
    if not is_open:
        found += _phase3_limits(setting, situation)
    return found


def _one_exponent(setting: Setting, situation: Situation) -> list[Violation]:
    """Find what leaves an Add or Sub with exponents that the chip does not read."""
    misaligned = unequal_exponents(setting)
    if misaligned is None:
        return []
    rows = reversed(situation.history.iterations)
    # All iterations of a folder are of one model.
    known = next((ops for row in rows if (ops := _ops(situation, row))), ())
    named = [op.name for op in known if op.op_type in ONE_EXPONENT_OPS]
    if known and not named:
        return []
    example = f", such as {named[0]!r}" if named else ""
    return [
        Violation(
            "one-exponent",
            None,
            f"{misaligned}: the chip adds raw integers, and the inputs and the output of an Add or "
            f"Sub{example} would have several exponents",
            "leave it out: esp-ppq's default aligns the inputs to the output",
        )
    ]


def _ops(situation: Situation, row: Iteration) -> tuple[GraphOp, ...]:
    found = situation.evidence.get(row.id)
    return () if found is None else found.ops


def cited_iterations(rationale: str) -> set[int]:
    """Return the ids that a rationale names as ``iter_<N>``."""
    return {int(match) for match in _CITATION.findall(rationale)}


def _stacked(setting: Setting, situation: Situation, is_open: bool) -> list[Violation]:
    history = situation.history
    best = history.best
    plain = baseline(num_of_bits=situation.options.width)
    base = best.setting if best is not None and best.setting is not None else plain
    base_name = best.name if best is not None else "the baseline"
    base_id = best.id if best is not None else None
    moves = _moves(base, setting)
    in_sweep = first_outcome(situation).leg is not None
    if len(moves) <= 1 or (in_sweep and _is_calibration_with_tqt(moves)):
        return []
    told = "; ".join(describe_change(change) for change in moves)
    nearer = _nearer(setting, history, len(moves))
    cited = cited_iterations(setting.rationale)
    if nearer is not None and (not is_open or base_id not in cited):
        return [
            Violation(
                "mutate-from-best",
                nearer.id,
                f"the setting continues {nearer.name}, which is not best ({base_name}): "
                f"{describe_changes(nearer.setting, setting)}",
                f"start from the setting of {base_name} and make the one change there",
            )
        ]
    if not is_open:
        return [
            Violation(
                "one-change",
                base_id,
                f"{len(moves)} changes to {base_name}: {told}",
                "keep one of them; the others go into iterations of their own",
            )
        ]
    known = {row.id for row in history.iterations}
    if cited & known:
        return []
    unknown = f", only the unknown {sorted(cited)}" if cited else ""
    return [
        Violation(
            "cite-evidence",
            base_id,
            f"{len(moves)} changes to {base_name} ({told}) and the rationale names no iteration"
            f"{unknown}",
            "name in the rationale, as iter_<N>, the iterations whose data speaks for each change",
        )
    ]


def _moves(base: Setting, setting: Setting) -> list[Change]:
    """Return the changes, with the two of lever 3a-2's schedule taken as one."""
    changes = diff(base, setting)
    schedule = [
        change
        for change in changes
        if change.path in ("tqt_optimization.lr", "tqt_optimization.steps")
    ]
    if len(schedule) == 2 and any(LEVERS[name].marks(setting) for name in ("3a-1", "3a-2")):
        changes.remove(schedule[0])
    section = setting.equalization
    spelled_out = section is not None and LEVERS["3d"].marks(setting)
    equalization = [change for change in changes if change.path.startswith("equalization.")]
    if spelled_out and len(equalization) > 1:
        changes = [change for change in changes if change not in equalization[1:]]
    return changes


def _is_calibration_with_tqt(moves: list[Change]) -> bool:
    default = DEFAULT_TQT.model_dump(exclude={"enabled", "collecting_device"})
    return [move.path for move in moves] == ["calib_algorithm", "tqt_optimization"] and (
        moves[1].after == default
    )


def _nearer(setting: Setting, history: History, moves: int) -> Iteration | None:
    """Return the iteration that ``setting`` is one step or none away from, though best is not."""
    distances = [
        (len(_moves(row.setting, setting)), row.id, row)
        for row in history.iterations
        if row.setting is not None and row is not history.best
    ]
    nearest = min(distances, key=lambda item: item[:2], default=None)
    if nearest is None or nearest[0] > 1 or nearest[0] >= moves:
        return None
    return nearest[2]


def _crashed(setting: Setting, history: History) -> list[Violation]:
    crashes = Crashes(history)
    barred = crashes.bars(setting)
    if barred is None:
        return []
    return [
        Violation(
            "crashed-pass",
            crashes.all[-1].row.id,
            barred,
            "leave it out; where its cause is repaired, run the failed iteration again first",
        )
    ]


def _calibration_alone(setting: Setting, history: History) -> list[Violation]:
    name = calibration(setting)
    best = history.best
    if best is None or best.setting is None or calibration(best.setting) == name:
        return []
    if _trains(setting) or bars_leg(Crashes(history), "kl") is not None:
        return []
    if any(
        row.setting is not None and calibration(row.setting) == name and _trains(row.setting)
        for row in history.iterations
    ):
        return []
    return [
        Violation(
            "calibration-with-tqt",
            best.id,
            f"{name} calibration would be judged without TQT, and no iteration has it with TQT",
            "enable tqt_optimization with the default schedule: a calibration that loses alone "
            "may win when trained",
        )
    ]


def _trains(setting: Setting) -> bool:
    return setting.tqt_optimization is not None and setting.tqt_optimization.enabled


def _phase3_limits(setting: Setting, situation: Situation) -> list[Violation]:
    tqt, limits = setting.tqt_optimization, situation.options.thresholds
    if tqt is None or not tqt.enabled:
        return []
    best = situation.history.best
    found = []
    if tqt.lr >= limits.training_lr_limit:
        found.append((f"lr {tqt.lr:g}", f"stay below {limits.training_lr_limit:g}"))
    if tqt.steps >= limits.training_steps_limit:
        found.append((f"steps {tqt.steps}", f"stay below {limits.training_steps_limit}"))
    if not limits.training_block_min <= tqt.block_size < limits.training_block_limit:
        allowed = f"{limits.training_block_min} to {limits.training_block_limit - 1}"
        found.append((f"block_size {tqt.block_size}", f"choose {allowed}"))
    return [
        Violation("tqt-limits", best.id if best else None, f"tqt_optimization.{told}", hint)
        for told, hint in found
    ]
