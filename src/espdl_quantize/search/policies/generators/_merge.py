"""Puts the changes of one step onto another setting."""

from __future__ import annotations

from espdl_quantize.setting import Setting, canonical


def changed_fields(before: Setting, after: Setting) -> frozenset[str]:
    """Return the top-level fields that differ in meaning."""
    old, new = canonical(before), canonical(after)
    return frozenset(name for name in {*old, *new} if old.get(name) != new.get(name))


def transplant(before: Setting, after: Setting, onto: Setting) -> Setting:
    """Return ``onto`` with the fields that differ between ``before`` and ``after`` as there."""
    fields = sorted(changed_fields(before, after))
    return onto.model_copy(update={name: getattr(after, name) for name in fields})
