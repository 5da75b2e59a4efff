"""The rules between passes and targets: what of a setting really runs, and what to warn of."""

from __future__ import annotations

import difflib
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Any

from espdl_quantize.core import SettingError
from espdl_quantize.setting._cost import int16_ops
from espdl_quantize.setting._model import OpWidth, Setting, activation_bits, width_of
from espdl_quantize.setting._one_exponent import unequal_exponents
from espdl_quantize.setting.passes import PASSES, TRAINING_PASSES, enabled_passes
from espdl_quantize.targets import TargetFacts
from espdl_quantize.targets.ops import Version, is_looked_at, op_table, version_text


@dataclass(frozen=True)
class ResolvedSetting:
    """A setting as it is applied, and one warning per place where that differs or may surprise."""

    setting: Setting
    warnings: tuple[str, ...]


def resolve(
    setting: Setting,
    target: TargetFacts,
    device: str = "cpu",
    *,
    esp_dl: Version | None = None,
) -> ResolvedSetting:
    """Apply the rules between passes and the target's facts.

    Args:
        setting: as the user or the search asked for; it is not changed.
        target: what the chip's quantizer does.
        device: "cpu" or "cuda", where the quantizer runs.
        esp_dl: the version of ESP-DL that the model is for; None where it is not known.

    Raises:
        SettingError: passes that exclude each other, a weight split without layers, a
            calibration whose scales the target cannot have, or a width that ESP-DL lacks.
    """
    _reject_exclusive_passes(setting)
    _reject_width(setting, esp_dl)
    for field, algorithm in _calibrations(setting):
        _reject_calibration(field, algorithm, target)
    warnings: list[str] = list(_width_warnings(setting, target))
    if esp_dl is not None and not is_looked_at(esp_dl):
        warnings.append(
            f"ESP-DL {version_text(esp_dl)} is newer than {version_text(op_table().version)}, the "
            "newest that was looked at: what it adds is not known, so that nothing is held back"
        )
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


def _calibrations(setting: Setting) -> Iterator[tuple[str, str]]:
    """Yield every calibration that a setting names, with the field that does."""
    for field in ("calib_algorithm", "weight_calib_algorithm"):
        algorithm = getattr(setting, field)
        if algorithm is not None:
            yield field, algorithm
        for op, of_op in (getattr(setting, f"{field}_per_layer") or {}).items():
            yield f"{field}_per_layer[{op!r}]", of_op


def _reject_calibration(field: str, algorithm: str, target: TargetFacts) -> None:
    if algorithm == "isotone" and target.power_of_two:
        raise SettingError(
            f"{field} is 'isotone', whose scales in esp-ppq are no powers of two; "
            f"{target.name} has no others, and the export would cut their exponents off",
            "use kl, mse, percentile or minmax",
        )
    if field.startswith("weight") and target.per_channel_weights and algorithm != "minmax":
        raise SettingError(
            f"{field} is {algorithm!r}; {target.name} has a scale per channel of its weights, "
            "which esp-ppq can find by minmax alone",
            "leave it out",
        )


def _widths(setting: Setting) -> Iterator[tuple[str, OpWidth]]:
    """Yield every width that a setting names, with the field that does."""
    if setting.width is not None:
        yield "width", setting.width
    for entry in setting.dispatching_table or []:
        yield f"dispatching_table[{entry.op!r}]", entry.bits


def _reject_width(setting: Setting, esp_dl: Version | None) -> None:
    named = [field for field, bits in _widths(setting) if bits == "w8a16"]
    if named and esp_dl is not None and is_looked_at(esp_dl):
        raise SettingError(
            f"{named[0]} is 'w8a16', and ESP-DL {version_text(esp_dl)} has no kernel for 16-bit "
            "activations with 8-bit weights",
            "take 16, or 8; or a later ESP-DL that has such kernels, and name its version",
        )


def _width_warnings(setting: Setting, target: TargetFacts) -> Iterator[str]:
    """Warn of what the fields of widths and calibrations may not do as expected."""
    algorithms = [algorithm for field, algorithm in _calibrations(setting) if field[0] == "c"]
    if setting.percentile is not None and "percentile" not in algorithms:
        yield "percentile is given, and no activation is calibrated by percentile: it does nothing"
    if any(bits == "w8a16" for _, bits in _widths(setting)):
        newest = version_text(op_table().version)
        yield (
            f"w8a16: ESP-DL {newest} has no kernel for 16-bit activations with 8-bit weights; it "
            "is the newest that was looked at, and the model needs a later version that has one"
        )
    is_wide = activation_bits(width_of(setting, target.num_of_bits)) == 16
    if setting.int16_tables and not is_wide and not int16_ops(setting):
        yield "int16_tables is true, and no op has 16 bits: it does nothing"
    if setting.streaming is not None:
        yield (
            "streaming: what is scored is the whole graph; the exported file keeps frames between "
            "calls, and its integers are not compared with the graph's"
        )


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
    named += [("tensor_bits", entry.op) for entry in setting.tensor_bits or []]
    for field in ("calib_algorithm_per_layer", "weight_calib_algorithm_per_layer"):
        named += [(field, op) for op in getattr(setting, field) or {}]
    if setting.streaming is not None:
        caches = setting.streaming.caches or []
        named += [("streaming.caches", cache.op) for cache in caches if cache.op is not None]
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
