"""The four kinds of move in open exploration."""

from __future__ import annotations

from espdl_quantize.record import History
from espdl_quantize.search.phase5._stack import calibration, passes_on
from espdl_quantize.setting import Setting, int16_ops, split_layers

PATTERNS = ("5alpha", "5beta", "5gamma", "5delta")
"""5alpha: a pass or int16 turned on. 5beta: another calibration. 5gamma: a pass or int16 turned
off. 5delta: another choice of int16 or split ops, with some on both sides."""


def classify(before: Setting, after: Setting) -> frozenset[str]:
    """Return the patterns of one step; none where nothing of these changed."""
    old, new = set(passes_on(before)), set(passes_on(after))
    choices = []
    for name, ops in (("int16", int16_ops), ("split", split_layers)):
        left, right = set(ops(before)), set(ops(after))
        old |= {name} if left else set()
        new |= {name} if right else set()
        choices.append(bool(left and right and left != right))
    found = set()
    if new - old:
        found.add("5alpha")
    if calibration(before) != calibration(after):
        found.add("5beta")
    if old - new:
        found.add("5gamma")
    if any(choices):
        found.add("5delta")
    return frozenset(found)


def patterns_by_iteration(history: History, after_id: int) -> dict[int, frozenset[str]]:
    """Classify every iteration beyond ``after_id`` against the best before it."""
    found = {}
    for row in history.iterations:
        prior = history.prior_best[row.id]
        if row.id <= after_id or row.setting is None or prior is None or prior.setting is None:
            continue
        found[row.id] = classify(prior.setting, row.setting)
    return found
