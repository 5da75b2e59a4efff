"""What stands for a quantized graph, and for the setting that makes it."""

from __future__ import annotations

import json
from typing import Any

from espdl_quantize.ppq._quantize import to_esp_ppq
from espdl_quantize.setting import PASSES, Setting, enabled_passes

_NO_SAY = frozenset({"iteration_id", "rationale"})
_IN_ESP_PPQ = frozenset(
    {*PASSES, "calib_algorithm", "fusion_alignment", "dispatching_table", "extra"}
)
"""Fields whose whole meaning is in esp-ppq's QuantizationSetting, or in the graph."""


def setting_digest(setting: Setting, target: str, num_of_bits: int, *others: object) -> str:
    """Return a SHA-256 of the esp-ppq setting that a setting comes to, and of other values.

    Args:
        setting: resolved.
        target: a chip name that esp-ppq accepts.
        num_of_bits: the contract's default width.
        others: what else decides on the quantized graph: text and numbers.
    """
    from espdl_quantize.ppq.reuse import Digest

    plain, _ = to_esp_ppq(setting, target, num_of_bits)
    digest = Digest()
    digest.add(json.dumps(json.loads(plain.to_json()), sort_keys=True), target, num_of_bits)
    own = [spec.field for spec, _ in enabled_passes(setting) if spec.own]
    passes = setting.model_dump(mode="json", include=set(own))
    digest.add(_beyond_esp_ppq(setting), passes, *others)
    return digest.hex()


def _beyond_esp_ppq(setting: Setting) -> Any:
    return setting.model_dump(
        mode="json", exclude=set(_NO_SAY | _IN_ESP_PPQ), exclude_none=True, exclude_defaults=True
    )


def graph_digest(graph: Any, setting: Setting) -> str | None:
    """Return a SHA-256 of what is computed in a quantized graph; None where it has none.

    It is of the ops, of every exponent and width, and of the weights as they are after rounding to
    integers: graphs with equal ones export to equal models and score alike. What a setting says
    beyond esp-ppq's own counts, too: it may be of the export.
    """
    from esp_ppq.core import QuantizationStates
    from esp_ppq.IR import QuantableOperation

    from espdl_quantize.ppq.reuse import Digest

    digest = Digest()
    try:
        digest.add(_beyond_esp_ppq(setting))
        for op in graph.topological_sort():
            digest.add(op.name, op.type, str(op.platform), op.attributes)
            digest.add([variable.name for variable in (*op.inputs, *op.outputs)])
            is_quantable = isinstance(op, QuantableOperation)
            configs = op.config.input_quantization_config if is_quantable else [None] * 99
            for variable, config in zip(op.inputs, configs, strict=False):
                if variable.is_parameter:
                    digest.add(_rounded(variable.value, config))
            for config, _ in op.config_with_variable if is_quantable else ():
                active = QuantizationStates.is_activated(config.state)
                digest.add(active, config.state.name, int(config.policy._policy))
                if active:
                    digest.add(config.num_of_bits, config.quant_min, config.quant_max)
                    digest.add(config.rounding, config.scale, config.offset)
    except TypeError:
        # An attribute whose equality is not known: the graph is taken for one of its own.
        return None
    return digest.hex()


def _rounded(value: Any, config: Any) -> Any:
    import torch
    from esp_ppq.core import QuantizationStates
    from esp_ppq.quantization.qfunction import PPQuantFunction

    if not isinstance(value, torch.Tensor):
        return value
    if config is not None and QuantizationStates.is_activated(config.state):
        value = PPQuantFunction(value, config)
    # Of two zeros one may be negative.
    return value.detach().contiguous() + 0 if value.is_floating_point() else value.contiguous()
