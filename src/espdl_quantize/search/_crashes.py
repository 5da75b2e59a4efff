"""Passes of esp-ppq that crashed: what is left out of the next settings for it, and why.

A crash lies in esp-ppq and the network, not in the numbers of a setting, so that other numbers do
not help. Once a pass has crashed in a layer, it is proposed without that layer. Once it has crashed
twice alike, it is not proposed any more.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import Any

from espdl_quantize.record import Failure, History, Iteration
from espdl_quantize.setting import BLOCK_PASSES, PASSES, TRAINING_PASSES, Setting, canonical

CRASH_LIMIT = 2
"""A pass that crashed so often alike is not proposed any more."""

_SHOWN_CAUSE = 300


@dataclass(frozen=True)
class Crash:
    """One crash of a pass that a setting can do without.

    Attributes:
        iteration: that failed.
        what: the pass's field in the setting, or the calibration with its name.
        failure: why, and where.
    """

    iteration: Iteration
    what: str
    failure: Failure

    @property
    def layers(self) -> frozenset[str]:
        """Return the ops of the block that it crashed in; empty where that is not known."""
        where = self.failure.failed_pass
        return frozenset(() if where is None else where.layers)

    @property
    def place(self) -> str:
        """Return the block in words."""
        where = self.failure.failed_pass
        return "" if where is None else where.layer


@dataclass(frozen=True)
class CrashedPass:
    """What follows from the crashes of one pass.

    Attributes:
        what: as in :class:`Crash`.
        crashes: all of them.
        consequence: what follows, with the iterations that say so.
        cause: of the last of those crashes.
        is_retired: whether the pass is not proposed any more.
    """

    what: str
    crashes: tuple[Crash, ...]
    consequence: str
    cause: str
    is_retired: bool

    @property
    def reason(self) -> str:
        """Return the consequence and its cause."""
        return f"{self.consequence}: {self.cause}"


class Crashes:
    """The crashes of a history.

    Args:
        history: the iterations. What failed once and was repaired does not count.
    """

    def __init__(self, history: History) -> None:
        self.all = tuple(_crashes(history.failed))
        self._history = history

    @cached_property
    def _scored_with(self) -> frozenset[str]:
        settings = (iteration.setting for iteration in self._history.scored)
        return frozenset(name for setting in settings if setting for name in canonical(setting))

    @cached_property
    def passes(self) -> tuple[CrashedPass, ...]:
        """The passes that crashed, in the order of their first crash."""
        passes = []
        for what in dict.fromkeys(crash.what for crash in self.all):
            crashes = tuple(crash for crash in self.all if crash.what == what)
            alike = self._alike(what)
            if alike is not None:
                consequence = (
                    f"{what} crashed alike in {_names(alike)} and is not proposed any more"
                )
            else:
                layers = [crash.place for crash in crashes if crash.layers]
                without = " and ".join(dict.fromkeys(layers))
                consequence = f"{what} crashed in {_names(crashes)}"
                can_leave_out = what in BLOCK_PASSES and without
                consequence += f" and is proposed without {without}" if can_leave_out else ""
            cause = (alike or crashes)[-1].failure.cause[:_SHOWN_CAUSE]
            passes.append(CrashedPass(what, crashes, consequence, cause, alike is not None))
        return tuple(passes)

    def bars(self, setting: Setting) -> str | None:
        """Say why a setting is not to be proposed, for a pass in it that crashed; else None."""
        if not self.all:
            return None
        retired = {crashed.what: crashed.reason for crashed in self.passes if crashed.is_retired}
        for what in _parts(setting):
            if what in retired:
                return retired[what]
            reason = self._bars_untried_training(what)
            if reason is not None:
                return reason
        for name in BLOCK_PASSES:
            section = getattr(setting, name)
            if section is not None and section.enabled and section.interested_layers == []:
                return f"{name} crashed in {_names(self.all)}, and no layer is left without it"
        return None

    def without_crashed_layers(self, setting: Setting, base: Setting | None = None) -> Setting:
        """Return a setting whose passes leave out the layers that one of them crashed in.

        Args:
            setting: what is to be proposed.
            base: best's setting. Its passes have run on the layers that they are on now.
        """
        crashed = frozenset[str]().union(
            *(crash.layers for crash in self.all if crash.what in BLOCK_PASSES)
        )
        if not crashed:
            return setting
        every = dict.fromkeys(
            name
            for crash in self.all
            if crash.what in BLOCK_PASSES and crash.failure.failed_pass is not None
            for name in crash.failure.failed_pass.other_layers
        )
        changes: dict[str, Any] = {}
        for name in BLOCK_PASSES:
            section = getattr(setting, name)
            known = getattr(base, name, None)
            if section is None or not section.enabled or (known is not None and known.enabled):
                continue
            chosen = section.interested_layers
            kept = [op for op in (chosen or every) if op not in crashed]
            if chosen != kept:
                changes[name] = section.model_copy(update={"interested_layers": kept})
        return setting.model_copy(update=changes) if changes else setting

    def _alike(self, what: str) -> tuple[Crash, ...] | None:
        """Return the first crashes of a pass that are as many as the limit and alike."""
        return _first_alike([crash for crash in self.all if crash.what == what])

    def _bars_untried_training(self, what: str) -> str | None:
        """Say why a training that never came to its end is not begun for a cause that is known."""
        if what not in TRAINING_PASSES or what in self._scored_with:
            return None
        alike = _first_alike([crash for crash in self.all if crash.what in TRAINING_PASSES])
        if alike is None:
            return None
        names = " and ".join(dict.fromkeys(crash.what for crash in alike))
        return (
            f"{what} trains the blocks that {names} crashed in alike, in {_names(alike)}: "
            f"{alike[-1].failure.cause[:_SHOWN_CAUSE]}"
        )


def leaves_out_crashed_layers(setting: Setting, history: History) -> bool:
    """Tell whether the layers that a setting's TQT is restricted to leave out a crash on record.

    A crash stays on record where its iteration was repeated since and went well.
    """
    section = setting.tqt_optimization
    if section is None or not section.interested_layers:
        return False
    failures = (
        failure
        for iteration in history.iterations
        for failure in (iteration.failure, *(attempt.failure for attempt in iteration.attempts))
        if failure is not None and failure.failed_pass is not None
    )
    chosen = frozenset(section.interested_layers)
    return any(
        where.field in BLOCK_PASSES and where.layers and chosen.isdisjoint(where.layers)
        for failure in failures
        if (where := failure.failed_pass) is not None
    )


def _crashes(failed: Sequence[Iteration]) -> Iterator[Crash]:
    for iteration in failed:
        for failure in (*(attempt.failure for attempt in iteration.attempts), iteration.failure):
            what = _what(iteration, failure)
            if what is not None and failure is not None:
                yield Crash(iteration, what, failure)


def _what(iteration: Iteration, failure: Failure | None) -> str | None:
    """Name the part of the setting that a failure lies in; None where there is none to leave."""
    where = failure.failed_pass if failure is not None else None
    if where is None or iteration.setting is None:
        return None
    if where.field == "calib_algorithm":
        return _calibration(iteration.setting)
    return where.field if where.field in _parts(iteration.setting) else None


def _parts(setting: Setting) -> tuple[str, ...]:
    form = canonical(setting)
    on = [name for name in (*PASSES, "fusion_alignment") if name in form]
    return (_calibration(setting), *on)


def _calibration(setting: Setting) -> str:
    return f"{canonical(setting)['calib_algorithm']} calibration"


def _first_alike(crashes: Sequence[Crash]) -> tuple[Crash, ...] | None:
    groups: dict[str, list[Crash]] = {}
    for crash in crashes:
        group = groups.setdefault(crash.failure.kind_of_cause, [])
        group.append(crash)
        if len(group) >= CRASH_LIMIT:
            return tuple(group)
    return None


def _names(crashes: Sequence[Crash]) -> str:
    return " and ".join(dict.fromkeys(crash.iteration.name for crash in crashes))
