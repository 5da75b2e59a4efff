"""The composition discipline, checked on a setting before it runs."""

from __future__ import annotations

import re
from collections.abc import Iterator
from dataclasses import dataclass
from typing import TYPE_CHECKING

from espdl_quantize.record import GraphOp, History, Iteration
from espdl_quantize.search._decisions import Proposal
from espdl_quantize.search._describe import describe_change, describe_changes
from espdl_quantize.search._sweep import DEFAULT_TQT, bars_sweep, sweep_point
from espdl_quantize.search.levers import LEVERS
from espdl_quantize.search.phase5 import calibration
from espdl_quantize.setting import (
    ONE_EXPONENT_OPS,
    PASSES,
    Change,
    Setting,
    canonical,
    diff,
    enabled_passes,
    int16_ops,
    split_layers,
    unequal_exponents,
    with_calibration,
)
from espdl_quantize.targets.ops import lacks_16_bits

if TYPE_CHECKING:
    from espdl_quantize.search._state import SearchState

_CITATION = re.compile(r"\biter[\s_-]*(\d{1,9})\b", re.IGNORECASE)
_NUMERIC = frozenset(
    f"{name}.{knob.field}"
    for name, spec in PASSES.items()
    for knob in spec.knobs
    if not knob.is_choice
)
_SPLIT = PASSES["weight_split"].layers_field


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


def lint_setting(setting: Setting, state: SearchState) -> list[Violation]:
    """Check a hand-written setting against the history that it would be added to.

    Args:
        setting: the next setting.
        state: what the next step is decided on.
    """
    history = state.ranking
    setting = with_calibration(setting, state.options.width)
    violations = _one_exponent(setting, state) + _no_kernel(setting, state) + _off(setting)
    point = sweep_point(setting, history)
    if point is not None and point == _next_point(state):
        return []
    if _is_next_of_swift(setting, state):
        return violations
    is_open = state.opened_after >= 0
    violations += _stacked(setting, state, is_open=is_open)
    violations += _crashed(setting, state)
    violations += _calibration_alone(setting, state)
    violations += _further_steps(setting, history)
    if not is_open:
        violations += _phase3_limits(setting, state)
    return violations


def _is_next_of_swift(setting: Setting, state: SearchState) -> bool:
    """Tell whether the strategy "swift", which judges without training, asks for just this."""
    if not state.is_swift or not isinstance(state.ruling, Proposal):
        return False
    return canonical(setting) == canonical(state.ruling.setting)


def _next_point(state: SearchState) -> str | None:
    """Return the point of the sweep that the rules propose now."""
    return state.ruling.calibration if isinstance(state.ruling, Proposal) else None


def _one_exponent(setting: Setting, state: SearchState) -> list[Violation]:
    """Find what leaves an Add or Sub with exponents that the chip does not read."""
    misaligned = unequal_exponents(setting)
    if misaligned is None:
        return []
    newest_first = reversed(state.history.iterations)
    # All iterations of a folder are of one model.
    known = next((ops for iteration in newest_first if (ops := _ops(state, iteration))), ())
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


def _no_kernel(setting: Setting, state: SearchState) -> list[Violation]:
    """Find ops that are given 16 bits, and that ESP-DL has at 8 bits alone."""
    newest_first = reversed(state.history.iterations)
    known = next((ops for iteration in newest_first if (ops := _ops(state, iteration))), ())
    types = {op.name: op.op_type for op in known}
    return [
        Violation(
            "no-kernel",
            None,
            f"{op!r} is given 16 bits, and ESP-DL has no 16-bit kernel of {types[op]}",
            f"take {op!r} out of dispatching_table",
        )
        for op in int16_ops(setting)
        if types.get(op) in lacks_16_bits()
    ]


def _off(setting: Setting) -> list[Violation]:
    """Find passes that are switched off before they run: ESP-DL's scales are powers of two."""
    return [
        Violation(
            "pass-off",
            None,
            f"{spec.field} is switched off on ESP-DL's chips, whose scales are powers of two: "
            f"{spec.why_off.partition('; ')[0]}",
            spec.why_off.partition("; ")[2] or f"leave {spec.field} out",
        )
        for spec, _ in enabled_passes(setting)
        if spec.on_power_of_two == "off"
    ]


def _ops(state: SearchState, iteration: Iteration) -> tuple[GraphOp, ...]:
    evidence = state.evidence.get(iteration.id)
    return () if evidence is None else evidence.ops


def cited_iterations(rationale: str) -> set[int]:
    """Return the ids that a rationale names as ``iter_<N>``."""
    return {int(match) for match in _CITATION.findall(rationale)}


def _stacked(setting: Setting, state: SearchState, *, is_open: bool) -> list[Violation]:
    history, best = state.ranking, state.best
    base_name = best.name if best is not None else "the baseline"
    base_id = best.id if best is not None else None
    moves = _moves(state.base, setting)
    if len(moves) <= 1 or (_next_point(state) is not None and _is_calibration_with_tqt(moves)):
        return []
    changes = "; ".join(describe_change(change) for change in moves)
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
                f"{len(moves)} changes to {base_name}: {changes}",
                "keep one of them; the others go into iterations of their own",
            )
        ]
    known = {iteration.id for iteration in history.iterations}
    if cited & known:
        return []
    unknown = f", only the unknown {sorted(cited)}" if cited else ""
    return [
        Violation(
            "cite-evidence",
            base_id,
            f"{len(moves)} changes to {base_name} ({changes}) and the rationale names no iteration"
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
    paths = {change.path for change in changes}
    if "dispatching_table" in paths and _is_promotion(base, setting):
        # Lever 3i's calibration and tables are of the ops that it promotes.
        companions = {"calib_algorithm_per_layer", "int16_tables"}
        changes = [change for change in changes if change.path not in companions]
    section = setting.equalization
    spelled_out = section is not None and LEVERS["3d"].marks(setting)
    equalization = [change for change in changes if change.path.startswith("equalization.")]
    if spelled_out and len(equalization) > 1:
        changes = [change for change in changes if change not in equalization[1:]]
    return changes


def _is_promotion(base: Setting, setting: Setting) -> bool:
    """Tell whether the ops whose calibration differs are those whose width does, by minmax."""
    old, new = (each.calib_algorithm_per_layer or {} for each in (base, setting))
    differing = {op for op in {*old, *new} if old.get(op) != new.get(op)}
    moved = set(int16_ops(base)) ^ set(int16_ops(setting))
    return differing <= moved and {old.get(op) or new.get(op) for op in differing} <= {"minmax"}


def _is_calibration_with_tqt(moves: list[Change]) -> bool:
    default = DEFAULT_TQT.model_dump(exclude={"enabled", "collecting_device"})
    return [move.path for move in moves] == ["calib_algorithm", "tqt_optimization"] and (
        moves[1].after == default
    )


def _nearer(setting: Setting, history: History, moves: int) -> Iteration | None:
    """Return the iteration that ``setting`` is one step or none away from, though best is not."""
    distances = [
        (len(_moves(iteration.setting, setting)), iteration.id, iteration)
        for iteration in history.iterations
        if iteration.setting is not None and iteration is not history.best
    ]
    nearest = min(distances, key=lambda item: item[:2], default=None)
    if nearest is None or nearest[0] > 1 or nearest[0] >= moves:
        return None
    return nearest[2]


def _crashed(setting: Setting, state: SearchState) -> list[Violation]:
    barred = state.crashes.bars(setting)
    if barred is None:
        return []
    return [
        Violation(
            "crashed-pass",
            state.crashes.all[-1].iteration.id,
            barred,
            "leave it out; where its cause is repaired, run the failed iteration again first",
        )
    ]


def _calibration_alone(setting: Setting, state: SearchState) -> list[Violation]:
    name = calibration(setting)
    best = state.best
    if best is None or best.setting is None or calibration(best.setting) == name:
        return []
    if state.is_swift:
        return []
    if _trains(setting) or bars_sweep(state.crashes, "kl") is not None:
        return []
    settings = [
        iteration.setting for iteration in state.history.iterations if iteration.setting is not None
    ]
    if any(calibration(known) == name and _trains(known) for known in settings):
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


def _phase3_limits(setting: Setting, state: SearchState) -> list[Violation]:
    tqt, limits = setting.tqt_optimization, state.options.thresholds
    if tqt is None or not tqt.enabled:
        return []
    exceeded = []
    if tqt.lr >= limits.training_lr_limit:
        exceeded.append((f"lr {tqt.lr:g}", f"stay below {limits.training_lr_limit:g}"))
    if tqt.steps >= limits.training_steps_limit:
        exceeded.append((f"steps {tqt.steps}", f"stay below {limits.training_steps_limit}"))
    if not limits.training_block_min <= tqt.block_size < limits.training_block_limit:
        allowed = f"{limits.training_block_min} to {limits.training_block_limit - 1}"
        exceeded.append((f"block_size {tqt.block_size}", f"choose {allowed}"))
    best_id = state.best.id if state.best is not None else None
    return [
        Violation("tqt-limits", best_id, f"tqt_optimization.{value}", hint)
        for value, hint in exceeded
    ]


def _further_steps(setting: Setting, history: History) -> Iterator[Violation]:
    """Find the axes on which ``setting`` goes further than a step that lost.

    Only steps that changed one thing count: of several, none can be blamed.
    """
    best = history.best
    if best is None or best.setting is None:
        return
    for iteration in history.iterations:
        prior, gain = history.prior_best[iteration.id], history.gain(iteration)
        if prior is None or prior.setting is None or iteration.setting is None:
            continue
        if gain is None or gain >= 0:
            continue
        axis = _single_step(prior.setting, iteration.setting)
        if axis is None:
            continue
        step = _beyond(axis, prior.setting, iteration.setting, best.setting, setting)
        if step:
            yield Violation(
                "no-further-step",
                iteration.id,
                f"{step}, though {iteration.name} went that way and lost {-gain:.4g}",
                f"leave {axis} as {best.name} has it and change something else",
            )


def _single_step(before: Setting, after: Setting) -> str | None:
    """Return the axis of a step along just one."""
    paths = {change.path for change in diff(before, after)}
    if paths == {"dispatching_table"} and _grew(set(int16_ops(before)), set(int16_ops(after))):
        return "dispatching_table"
    if paths == {_SPLIT}:
        return _SPLIT
    return paths.pop() if len(paths) == 1 and paths <= _NUMERIC else None


def _beyond(axis: str, before: Setting, worse: Setting, best: Setting, new: Setting) -> str:
    """Say how far ``new`` goes beyond the step that lost; empty where it does not."""
    if axis in ("dispatching_table", _SPLIT):
        members = int16_ops if axis == "dispatching_table" else split_layers
        if _grew(set(members(worse)), set(members(new))) and not set(members(best)) >= set(
            members(worse)
        ):
            return f"{axis} grows to {len(members(new))} ops"
        return ""
    values = [_value(axis, setting) for setting in (before, worse, best, new)]
    if any(value is None for value in values):
        return ""
    start, bad, now, then = (float(value) for value in values if value is not None)
    sign = 1 if bad > start else -1
    if sign * then > sign * bad > sign * now:
        return f"{axis} {now:g} -> {then:g}"
    return ""


def _value(axis: str, setting: Setting) -> float | None:
    name, field = axis.split(".")
    section = getattr(setting, name)
    return getattr(section, field) if section is not None and section.enabled else None


def _grew(before: set[str], after: set[str]) -> bool:
    return bool(before) and before < after
