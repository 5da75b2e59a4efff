"""Lowers weights' exponents where a vector unit would have to shift a sum to the left.

A sum of products has the exponent of the input plus that of the weights, and is shifted right by
what the output's exponent is above that: ``output - input - weights``. Where this is negative,
ESP-DL's vector kernels make garbage. A lower exponent of the weights makes the shift zero, with
finer weights and a finer bias; it costs something only where a number no longer fits its width.
Such a channel is one whose large weights meet inputs that are zero, as behind a ReLU that never
opens, so that what is cut off may not matter: the calibration data say.
"""

from __future__ import annotations

import contextlib
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from espdl_quantize.contract import Batch
from espdl_quantize.ppq._graph import run_graph
from espdl_quantize.ppq.engines import QuantizationEngine

if TYPE_CHECKING:
    from torch import Tensor

_SHOWN = 5


def lower_exponents(
    graph: Any, batches: Sequence[Batch], device: str, engine: QuantizationEngine
) -> list[str]:
    """Take left shifts away by lower exponents of weights, where that loses nothing.

    A channel is changed where all its weights and its bias still fit, or where what is cut off
    changes none of its outputs on the calibration data. Any other stays as it is, for the chip
    check to refuse.

    Args:
        graph: the quantized ``BaseGraph``; the exponents of weights and biases change in place.
        batches: calibration batches.
        device: where the graph runs.
        engine: runs single ops.

    Returns:
        What was changed and what was not, by op and channel.
    """
    shifted = [each for op in graph.operations.values() for each in _left_shifted(op)]
    doubtful = [each for each in shifted if any(each.cut_off())]
    counts = dict.fromkeys((each.op.name for each in shifted), 0)
    changed: dict[str, Tensor] = {}
    names = list(dict.fromkeys(each.op.inputs[0].name for each in doubtful))
    for batch in batches if doubtful else ():
        values = dict(zip(names, run_graph(graph, batch, device, names), strict=True))
        for each in doubtful:
            different, count = each.compare(graph, values, device, engine)
            name = each.op.name
            changed[name] = changed[name] + different if name in changed else different
            counts[name] += count
    return [
        message
        for each in shifted
        for message in each.resolve(changed.get(each.op.name), counts[each.op.name])
    ]


@dataclass
class _LeftShifted:
    """An op with channels that would be shifted to the left.

    Attributes:
        op: of the graph.
        bits: by how many each channel would be shifted; zeros where it is not.
    """

    op: Any
    bits: Tensor

    def __post_init__(self) -> None:
        self._weight, *rest = self.op.config.input_quantization_config[1:3]
        self._bias = rest[0] if rest and self.op.inputs[2].value is not None else None
        self._old: list[Any] = [self._weight.scale]
        self._old += [] if self._bias is None else [self._bias.scale]

    def cut_off(self) -> list[int]:
        """Return how many numbers of each channel no longer fit."""
        import torch

        factor = 2.0 ** -self.bits.to(self._old[0].device)
        weights = _by_channel(self.op.inputs[1].value, self._weight, len(self.bits))
        lost = _beyond(weights, self._old[0].reshape(-1, 1) * factor.reshape(-1, 1), self._weight)
        if self._bias is not None:
            bias = self.op.inputs[2].value.reshape(len(self.bits), -1)
            lost += _beyond(bias, self._old[1].reshape(-1, 1) * factor.reshape(-1, 1), self._bias)
        return [int(count) for count in torch.where(self.bits > 0, lost.cpu(), 0)]

    def compare(
        self, graph: Any, values: dict[str, Any], device: str, engine: QuantizationEngine
    ) -> tuple[Tensor, int]:
        """Return how many outputs of each channel what is cut off changes, and how many it has."""
        inputs = {name: values[name] for name in [self.op.inputs[0].name]}

        def stored() -> Tensor:
            return self._integers(engine.run_op(graph, self.op, inputs, device)[0])

        self._set(self.bits)
        try:
            with self._unlimited():
                whole = stored()
            cut = stored()
        finally:
            self._set(self.bits * 0)
        different = (whole != cut).transpose(0, 1).flatten(1).cpu()
        count = different.shape[1]
        if len(self.bits) == 1:
            return different.sum().reshape(1), different.numel()
        return different.sum(dim=1), count

    def resolve(self, changed: Tensor | None, count: int) -> Iterator[str]:
        """Lower what loses nothing, and say so; say what is left."""
        cut = self.cut_off()
        low = [channel for channel, bits in enumerate(self.bits.tolist()) if bits > 0]
        # Without calibration data nothing says that what is cut off does not matter.
        lost = {each: 1 if changed is None else int(changed[each]) for each in low if cut[each]}
        kept = [channel for channel in low if not lost.get(channel)]
        lowered = self.bits * 0
        lowered[kept] = self.bits[kept]
        self._set(lowered)
        per_channel = self.op.inputs[1].value.numel() // len(self.bits)
        exact = [channel for channel in kept if not cut[channel]]
        if exact:
            yield (
                f"op {self.op.name!r}: the weights of {self._named(exact)} have a lower exponent "
                "than they were calibrated to, so that their sums need no left shift; every number "
                "fits, and is finer"
            )
        for channel in [channel for channel in kept if cut[channel]][:_SHOWN]:
            yield (
                f"op {self.op.name!r}: the weights of {self._named([channel])} have an exponent "
                f"lower by {int(self.bits[channel])}, so that their sums need no left shift; "
                f"{cut[channel]} of {per_channel} weights and biases are cut off, which changes "
                f"none of the channel's {count} outputs on the calibration data"
            )
        for channel in [channel for channel in low if lost.get(channel)][:_SHOWN]:
            yield (
                f"op {self.op.name!r}: the sums of {self._named([channel])} need a left shift by "
                f"{int(self.bits[channel])}; a lower exponent of the weights would cut off "
                f"{cut[channel]} of {per_channel}, and change {lost[channel]} of the {count} "
                "outputs on the calibration data: they stay as they are"
            )

    def _named(self, channels: list[int]) -> str:
        if len(self.bits) == 1:
            return "all channels"
        more = f" and {len(channels) - _SHOWN} more" if len(channels) > _SHOWN else ""
        several = "s" if len(channels) > 1 else ""
        return f"channel{several} {', '.join(map(str, channels[:_SHOWN]))}{more}"

    def _set(self, bits: Tensor) -> None:
        """Put the exponents lower by as many; the scales' own tensors stay as they were."""
        for config, old in zip((self._weight, self._bias), self._old, strict=False):
            factor = (2.0**-bits).to(old)
            # esp-ppq refuses it in the states that follow calibration.
            config._scale = old * (factor if len(bits) > 1 else factor.reshape(old.shape))

    @contextlib.contextmanager
    def _unlimited(self) -> Iterator[None]:
        """Let weights and biases have as many bits more as they are lowered by."""
        configs = [each for each in (self._weight, self._bias) if each is not None]
        limits = [(config.quant_min, config.quant_max) for config in configs]
        more = int(self.bits.max())
        try:
            for config, (low, high) in zip(configs, limits, strict=True):
                config.quant_min, config.quant_max = low << more, (high + 1 << more) - 1
            yield
        finally:
            for config, (low, high) in zip(configs, limits, strict=True):
                config.quant_min, config.quant_max = low, high

    def _integers(self, output: Tensor) -> Tensor:
        """Return what the chip stores of an output, with the ReLU that the exporter fuses."""
        from esp_ppq.utils.round import ppq_tensor_round

        config = self.op.config.output_quantization_config[0]
        steps = ppq_tensor_round(output / config.scale, config.rounding)
        readers = self.op.outputs[0].dest_ops
        fused = len(readers) == 1 and readers[0].type == "Relu"
        stored: Tensor = steps.clamp(0 if fused else config.quant_min, config.quant_max)
        return stored


def _left_shifted(op: Any) -> Iterator[_LeftShifted]:
    import torch
    from esp_ppq.IR import QuantableOperation

    if not isinstance(op, QuantableOperation) or op.type not in ("Conv", "Gemm"):
        return
    if len(op.inputs) < 2 or not op.inputs[1].is_parameter:
        return
    first, weight, *rest = op.config.input_quantization_config
    out = op.config.output_quantization_config[0]
    own = [weight, *(config for config in rest[:1] if op.inputs[2].value is not None)]
    if any(config.scale is None for config in (first, *own, out)):
        return
    if any(config.dominated_by is not config for config in own):
        return
    if len({config.scale.numel() for config in own}) > 1:
        return
    exponents = [_exponents(config) for config in (first, weight, out)]
    bits = (exponents[0] + exponents[1] - exponents[2]).clamp(min=0)
    found = _LeftShifted(op, bits)
    # Of nothing but zeros, any shift makes zeros.
    weights = _by_channel(op.inputs[1].value, weight, len(bits)) / weight.scale.reshape(-1, 1)
    matter = weights.abs().amax(dim=1).cpu() > 0.5
    if len(own) > 1:
        bias = op.inputs[2].value.reshape(len(bits), -1) / own[1].scale.reshape(-1, 1)
        matter |= bias.abs().amax(dim=1).cpu() > 0.5
    found.bits = torch.where(matter, bits, 0)
    if found.bits.any():
        yield found


def _exponents(config: Any) -> Tensor:
    exponents: Tensor = config.scale.detach().flatten().cpu().log2().round().long()
    return exponents


def _by_channel(values: Tensor, config: Any, count: int) -> Tensor:
    """Return weights as [channels, all of a channel], or as one row where one scale is for all."""
    if count == 1:
        return values.reshape(1, -1)
    return values.movedim(config.channel_axis, 0).flatten(1)


def _beyond(values: Tensor, scales: Tensor, config: Any) -> Tensor:
    from esp_ppq.utils.round import ppq_tensor_round

    steps = ppq_tensor_round(values / scales, config.rounding)
    beyond: Tensor = (steps > config.quant_max) | (steps < config.quant_min)
    return beyond.sum(dim=1)
