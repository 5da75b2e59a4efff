"""What of a setting is changed for the ops of one model, so that ESP-DL can run it."""

from __future__ import annotations

from collections.abc import Mapping

from espdl_quantize.setting._model import Dispatch, Setting, activation_bits, width_of
from espdl_quantize.setting._resolve import ResolvedSetting
from espdl_quantize.targets import TargetFacts
from espdl_quantize.targets.ops import Version, is_looked_at, lacks_16_bits, version_text

_FUSION = "espdl_attention_fusion"
"""esp-ppq's ``QuantizationSetting`` has it on."""


def fit_to_model(
    resolved: ResolvedSetting,
    ops: Mapping[str, str],
    target: TargetFacts,
    *,
    esp_dl: Version | None = None,
) -> ResolvedSetting:
    """Change what of a resolved setting would leave the model with ops that ESP-DL lacks.

    Args:
        resolved: as :func:`resolve` returned it.
        ops: the types of the ops of the simplified graph, by name.
        target: what the chip's quantizer does.
        esp_dl: the version of ESP-DL that the model is for; None where it is not known.

    Returns:
        The setting, with a warning more for each change.
    """
    setting, warnings = resolved.setting, list(resolved.warnings)
    narrow = _narrowed(setting, ops, target)
    if narrow:
        table = [*(setting.dispatching_table or []), *(Dispatch(op=op, bits=8) for op in narrow)]
        setting = setting.model_copy(update={"dispatching_table": table})
        named = ", ".join(f"{op} ({ops[op]})" for op in narrow)
        warnings.append(
            f"dispatching_table gives 8 bits to {named}: ESP-DL has no 16-bit kernel of "
            + ("that type" if len({ops[op] for op in narrow}) == 1 else "these types")
        )
    if esp_dl is not None and is_looked_at(esp_dl) and _may_fuse(setting, ops):
        extra = {**(setting.extra or {}), _FUSION: False}
        setting = setting.model_copy(update={"extra": extra})
        warnings.append(
            f"extra.{_FUSION} is set to false: ESP-DL {version_text(esp_dl)} has no Attention, "
            "which esp-ppq makes of MatMul, Softmax and MatMul; these stay"
        )
    return ResolvedSetting(setting, tuple(warnings))


def _narrowed(setting: Setting, ops: Mapping[str, str], target: TargetFacts) -> list[str]:
    """Return the ops that would have 16 bits because all have, and that ESP-DL has at 8 alone."""
    if activation_bits(width_of(setting, target.num_of_bits)) != 16:
        return []
    named = {entry.op for entry in setting.dispatching_table or []}
    return [op for op, kind in ops.items() if kind in lacks_16_bits() and op not in named]


def _may_fuse(setting: Setting, ops: Mapping[str, str]) -> bool:
    kinds = list(ops.values())
    is_off = (setting.extra or {}).get(_FUSION) is False
    return not is_off and "Softmax" in kinds and kinds.count("MatMul") > 1
