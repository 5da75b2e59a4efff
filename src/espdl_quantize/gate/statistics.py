"""What the inputs of a model hold, in calibration and where it is scored."""

from __future__ import annotations

import math
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from espdl_quantize.gate.thresholds import SANITY
from espdl_quantize.iteration import FloatOutputs

if TYPE_CHECKING:
    from torch import Tensor

SAMPLES = 64
"""Of each side, drawn from all that are seen."""

_BYTES = 64 << 20
"""Of one input's samples that are kept at most."""

_CHANNELS = 16
"""An input with more has features rather than channels, and is looked at as a whole."""


class ScoredInputs(FloatOutputs):
    """Keeps, beside the float model's outputs, a draw of the samples that an evaluation scores."""

    def __init__(self, axes: Sequence[int | None] | None = None) -> None:
        super().__init__(axes)
        self._kept: list[list[Tensor]] = []
        self._seen = 0

    def __call__(self, inputs: list[Any], outputs: list[Any] | None) -> None:
        """See one forward."""
        super().__call__(inputs, outputs)
        import torch

        if not inputs or not all(isinstance(each, torch.Tensor) for each in inputs):
            return
        tensors = list(map(samples_first, inputs, self._axes or [0] * len(inputs)))
        counts = {len(each) for each in tensors if len(each) > 1} or {1}
        if len(counts) != 1:
            return
        generator = torch.Generator().manual_seed(self._seen)
        for place in range(counts.pop()):
            self._seen += 1
            # Each sample that was seen is kept with the same probability (Vitter's algorithm R).
            at = self._seen - 1
            if at >= SAMPLES:
                at = int(torch.randint(self._seen, (1,), generator=generator))
                if at >= SAMPLES:
                    continue
            # What is the same for all samples has one row.
            sample = [
                each[min(place, len(each) - 1)].detach().to("cpu", torch.float32).clone()
                for each in tensors
            ]
            if at < len(self._kept):
                self._kept[at] = sample
            elif self._fits(sample):
                self._kept.append(sample)

    def _fits(self, sample: list[Tensor]) -> bool:
        return (len(self._kept) + 1) * max(each.nbytes for each in sample) <= _BYTES

    def drawn(self) -> list[Tensor]:
        """Return the draw, a tensor [samples, ...] per input; nothing where none was seen."""
        import torch

        shapes = {tuple(map(tuple, (each.shape for each in sample))) for sample in self._kept}
        if len(shapes) != 1:
            return []
        return [torch.stack(parts) for parts in zip(*self._kept, strict=True)]


def samples_first(tensor: Tensor, axis: int | None) -> Tensor:
    """Return a tensor with its samples along the first axis; one sample where it is for all."""
    return tensor.unsqueeze(0) if axis is None or not tensor.dim() else tensor.movedim(axis, 0)


@dataclass(frozen=True)
class InputStatistics:
    """What one input holds.

    Attributes:
        samples: how many.
        low: the smallest value.
        high: the largest.
        means: float array [samples, channels]; one channel where there are none to tell apart.
        stds: the same, of the standard deviations.
        rough: float array [samples, 2]: the mean step between neighbours along the last two axes,
            in standard deviations; NaN where there is no such axis.
    """

    samples: int
    low: float
    high: float
    means: Any
    stds: Any
    rough: Any

    @property
    def largest(self) -> float:
        """The largest absolute value."""
        return max(abs(self.low), abs(self.high))

    @property
    def mean(self) -> float:
        """Of all values."""
        return float(self.means.mean())

    @property
    def std(self) -> float:
        """Of all values."""
        return math.sqrt(max(float((self.stds**2).mean() + self.means.var()), 0.0))

    def __str__(self) -> str:
        return f"{self.low:.4g} to {self.high:.4g} (mean {self.mean:.4g}, std {self.std:.4g})"


def statistics_of(values: Tensor) -> InputStatistics:
    """Measure an input.

    Args:
        values: [samples, ...]; the second axis is of channels where there are few.
    """
    import torch

    values = values.detach().to("cpu", torch.float64)
    samples = len(values)
    # A feature is a channel too, and has one value per sample.
    channels = values.shape[1] if values.dim() > 1 and 1 < values.shape[1] <= _CHANNELS else 1
    flat = values.reshape(samples, channels, -1)
    rough = torch.full((samples, 2), math.nan, dtype=torch.float64)
    spread = values.reshape(samples, -1).std(1, correction=0)
    for place, axis in enumerate((-2, -1)):
        if values.dim() > 2 - axis and values.shape[axis] > 1:
            steps = values.diff(dim=axis).abs().reshape(samples, -1).mean(1)
            rough[:, place] = torch.where(spread > 0, steps / spread, math.nan)
    return InputStatistics(
        samples,
        float(values.min()),
        float(values.max()),
        flat.mean(2).numpy(),
        flat.std(2, correction=0).numpy(),
        rough.numpy(),
    )


@dataclass(frozen=True)
class Difference:
    """How calibration and scoring inputs differ.

    Attributes:
        what: "range", "channels", "order of channels" or "layout".
        text: with the figures.
        clear: nothing that is scored means anything.
        figures: the same for programs.
    """

    what: str
    text: str
    clear: bool
    figures: dict[str, float]


def difference(
    calibration: InputStatistics, scored: InputStatistics, values: Tensor
) -> Difference | None:
    """Return what is most odd between calibration and scoring of one input; None for nothing.

    Args:
        calibration: of the calibration samples.
        scored: of the scored samples.
        values: the scored samples.
    """
    if min(calibration.samples, scored.samples) < SANITY.fewest_samples:
        return None
    return next(_differences(calibration, scored, values), None)


def _differences(
    calibration: InputStatistics, scored: InputStatistics, values: Tensor
) -> Iterator[Difference]:
    both = f"calibration holds {calibration}, what is scored {scored}"
    figures = {
        "calibration_low": calibration.low,
        "calibration_high": calibration.high,
        "scored_low": scored.low,
        "scored_high": scored.high,
    }
    if calibration.largest > 0:
        limit = 2.0 ** math.ceil(math.log2(calibration.largest))
        share = float((values.abs() > limit).double().mean())
        if share >= SANITY.saturated_warning:
            text = f"{both}: {share:.1%} of the scored values are beyond {limit:g}, the end of the "
            text += "input's exponent, and are cut off"
            found = figures | {"saturated_share": share, "limit": limit}
            yield Difference("range", text, share >= SANITY.saturated_fault, found)
        if 0 < scored.largest <= calibration.largest / SANITY.unused_range:
            ratio = calibration.largest / scored.largest
            text = f"{both}: the input's exponent is made for values {ratio:.3g} times as large"
            yield Difference("range", text, True, figures | {"ratio": ratio})
    channels = range(min(calibration.means.shape[1], scored.means.shape[1]))
    reversed_order = _reversed_channels(calibration, scored)
    if reversed_order:
        yield Difference("order of channels", reversed_order, False, figures)
    for channel in channels:
        name = f"channel {channel}: " if len(channels) > 1 else ""
        shift = _shift(calibration, scored, channel)
        if shift:
            yield Difference("channels", f"{name}{shift}; {both}", False, figures)
    for place, axis in enumerate(("rows", "columns")):
        a, b = calibration.rough[:, place], scored.rough[:, place]
        ratio = _ratio(a.mean(), b.mean())
        if ratio > SANITY.roughness_ratio and _differ(a, b):
            text = (
                f"from {axis[:-1]} to {axis[:-1]} a calibration sample moves by {a.mean():.3g} "
                f"standard deviations, a scored one by {b.mean():.3g}: axes are in another order"
            )
            yield Difference("layout", text, False, figures | {"ratio": ratio})


def _shift(calibration: InputStatistics, scored: InputStatistics, channel: int) -> str:
    a, b = calibration.means[:, channel], scored.means[:, channel]
    spread = [
        math.sqrt(float((each.stds[:, channel] ** 2).mean() + each.means[:, channel].var()))
        for each in (calibration, scored)
    ]
    if not min(spread) > 0:
        return ""
    ratio, shift = _ratio(*spread), abs(a.mean() - b.mean()) / max(spread)
    stds = calibration.stds[:, channel], scored.stds[:, channel]
    # One value per sample has no spread of its own: the samples' is compared, by its own error.
    few = min(len(a), len(b))
    is_spread = _differ(*stds) if stds[0].any() and stds[1].any() else _f_differs(ratio, few)
    if ratio > SANITY.std_ratio and is_spread:
        return (
            f"the standard deviation is {spread[0]:.4g} in calibration and {spread[1]:.4g} scored"
        )
    if shift > SANITY.mean_shift and _differ(a, b):
        return f"the mean is {a.mean():.4g} in calibration and {b.mean():.4g} scored"
    return ""


def _reversed_channels(calibration: InputStatistics, scored: InputStatistics) -> str:
    """Tell of three channels whose order is BGR on one side and RGB on the other.

    The brightness of images varies far more than their tint, so that it is left out: what is
    compared is the first channel's mean less the last one's.
    """
    if calibration.means.shape[1] != 3 or scored.means.shape[1] != 3:
        return ""
    a, b = (each.means[:, 0] - each.means[:, 2] for each in (calibration, scored))
    if a.mean() * b.mean() >= 0 or not _differ(a, b):
        return ""
    # The tints must be each other's opposites, and not merely of two kinds of images.
    if not 0.5 < abs(a.mean() / b.mean()) < 2:
        return ""
    return (
        f"channel 0 less channel 2 is {a.mean():.3g} in calibration and {b.mean():.3g} in what is "
        "scored: one of them has its channels in reverse (BGR and RGB)"
    )


def _differ(a: Any, b: Any) -> bool:
    """Tell whether the means of two draws differ by more than chance."""
    error = math.sqrt(float(a.var()) / len(a) + float(b.var()) / len(b))
    return abs(float(a.mean()) - float(b.mean())) > SANITY.significance * max(error, 1e-12)


def _f_differs(ratio: float, samples: int) -> bool:
    """Tell whether a ratio of standard deviations is more than chance: that of one is known to
    about one part in the root of twice the samples."""
    return math.log(ratio) > SANITY.significance / math.sqrt(samples)


def _ratio(a: float, b: float) -> float:
    low, high = sorted((float(a), float(b)))
    return high / low if low > 0 else math.nan


def spread(parts: Sequence[Tensor]) -> Tensor:
    """Return a draw of some batches of one input, from all of them alike, within the memory."""
    import torch

    bytes_of_one = max(parts[0][0].nbytes, 1)
    wanted = max(min(SAMPLES, _BYTES // bytes_of_one), SANITY.fewest_samples)
    # All of a short loader: a draw of a batch or two says little.
    each = -(-wanted // len(parts))
    # Of a long one not the beginning, which may be one sequence, or one class.
    count = min(len(parts), wanted)
    return torch.cat([parts[place * len(parts) // count][:each] for place in range(count)])
