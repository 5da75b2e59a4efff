"""The rules between passes and targets: what of a setting really runs, and what to warn of."""

from __future__ import annotations

import difflib
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from espdl_quantize.core import SettingError
from espdl_quantize.setting._model import Setting
from espdl_quantize.setting._one_exponent import unequal_exponents
from espdl_quantize.setting.passes import PASSES, TRAINING_PASSES, enabled_passes
from espdl_quantize.targets import TargetFacts


@dataclass(frozen=True)
class ResolvedSetting:
    """A setting as it is applied, and one warning per place where that differs or may surprise."""

    setting: Setting
    warnings: tuple[str, ...]


def resolve(setting: Setting, target: TargetFacts, device: str = "cpu") -> ResolvedSetting:
    """Apply the rules between passes and the target's facts.

    Args:
        setting: as the user or the search asked for; it is not changed.
        target: what the chip's quantizer does.
        device: "cpu" or "cuda", where the quantizer runs.

    Raises:
        SettingError: passes that exclude each other, a weight split without layers, or a
            calibration whose scales the target cannot have.
    """
    _reject_exclusive_passes(setting)
    if setting.calib_algorithm == "isotone" and target.power_of_two:
        raise SettingError(
            f"calib_algorithm is 'isotone', whose scales in esp-ppq are no powers of two; "
            f"{target.name} has no others, and the export would cut their exponents off",
            "use kl, mse, percentile or minmax",
        )
    warnings: list[str] = []
    changes: dict[str, Any] = {}

    for name in PASSES:
        section = getattr(setting, name)
        if section is not None and not section.enabled and section.model_fields_set - {"enabled"}:
            warnings.append(f"{name} has parameters but 'enabled' is not true: it does not run")
    for spec, section in enabled_passes(setting):
        if spec.on_power_of_two == "off" and target.power_of_two:
            warnings.append(
                f"{spec.field} is disabled: {target.name} has power-of-two scales, under which "
                f"{spec.why_off}"
            )
            changes[spec.field] = section.model_copy(update={"enabled": False})
        trains_scales = getattr(section, "is_scale_trainable", False)
        if spec.on_power_of_two == "frozen scales" and trains_scales and target.power_of_two:
            warnings.append(
                f"{spec.field}.is_scale_trainable is set to false: trained scales would "
                f"leave the powers of two that {target.name} needs"
            )
            changes[spec.field] = section.model_copy(update={"is_scale_trainable": False})

    misaligned = unequal_exponents(setting)
    if misaligned is not None:
        warnings.append(
            f"{misaligned}: ESP-DL adds raw integers, so that a model with an Add or Sub is "
            "illegal on the chip unless their inputs and output have one exponent by chance"
        )

    for spec, section in enabled_passes(setting):
        if spec.surprises is not None:
            warnings += spec.surprises(section, target)
    for name in TRAINING_PASSES:
        section = changes.get(name, getattr(setting, name))
        if section is None or not section.enabled:
            continue
        collecting = section.collecting_device or device
        if collecting == "cuda" and device == "cpu":
            warnings.append(f"{name}.collecting_device is 'cpu': the contract's device is 'cpu'")
            collecting = "cpu"
        changes[name] = section.model_copy(update={"collecting_device": collecting})
    return ResolvedSetting(setting.model_copy(update=changes), tuple(warnings))


@dataclass(frozen=True)
class UnknownOp:
    """An op that a setting names and the simplified graph does not have.

    Attributes:
        field: where the setting names it.
        op: the name.
        nearest: names of the graph that look like it.
    """

    field: str
    op: str
    nearest: tuple[str, ...]


def unknown_ops(setting: Setting, op_names: Sequence[str]) -> list[UnknownOp]:
    """Return every op that a setting names and that is not among ``op_names``."""
    known = set(op_names)
    return [
        UnknownOp(field, op, tuple(difflib.get_close_matches(op, op_names, n=3, cutoff=0.3)))
        for field, op in _named_ops(setting)
        if op not in known
    ]


def unknown_op_warnings(setting: Setting, op_names: Sequence[str]) -> list[str]:
    """Warn of every op that a setting names and the simplified graph does not have."""
    warnings = []
    for unknown in unknown_ops(setting, op_names):
        hint = "see simplified_ops.json for all names"
        if unknown.nearest:
            hint = f"nearest: {', '.join(unknown.nearest)}"
        warnings.append(
            f"{unknown.field} names op {unknown.op!r}, which the simplified graph does not have; "
            f"{hint}"
        )
    return warnings


def _named_ops(setting: Setting) -> list[tuple[str, str]]:
    named = [("dispatching_table", entry.op) for entry in setting.dispatching_table or []]
    for spec, section in enabled_passes(setting):
        named += [(spec.layers_field, op) for op in section.layers]
    return named


def _reject_exclusive_passes(setting: Setting) -> None:
    enabled = {spec.field: section for spec, section in enabled_passes(setting)}
    for name, section in enabled.items():
        spec = PASSES[name]
        for other in spec.excludes:
            if other in enabled:
                raise SettingError(
                    f"{name} and {other} are both enabled",
                    f"disable {name}: both train the same weights",
                )
        if spec.needs_layers and not section.layers:
            raise SettingError(
                f"{spec.layers_field} is {list(section.layers)}",
                f"name the layers to split: each costs the chip {spec.adds_to_chip}, so there is "
                "no 'all'",
            )
