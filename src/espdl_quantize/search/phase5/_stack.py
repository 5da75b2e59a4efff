"""The stack of levers that a setting has on, calibration and parameters aside."""

from __future__ import annotations

from espdl_quantize.setting import PASSES, Setting, canonical, int16_ops, split_layers

Stack = frozenset[str]

_ALIGNMENT = "fusion_alignment"


def passes_on(setting: Setting) -> frozenset[str]:
    """Return the passes that run, fusion alignment among them."""
    return frozenset(canonical(setting)) & {*PASSES, _ALIGNMENT}


def lever_stack(setting: Setting) -> Stack:
    """Return the passes that run and the ops with 16 bits or a split, each as one member.

    Stacks are compared as sets: one is deeper than another only where it holds all of it.
    """
    ops = {f"int16 {op}" for op in int16_ops(setting)}
    layers = {f"split {layer}" for layer in split_layers(setting)}
    return passes_on(setting) | ops | layers


def calibration(setting: Setting) -> str:
    """Return the calibration that runs."""
    return str(canonical(setting)["calib_algorithm"])
