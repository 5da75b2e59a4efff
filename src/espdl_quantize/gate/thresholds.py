"""The numbers by which the gate doubts data and scores, each with its reason.

None of them may be crossed by a contract that is sound: the examples and the networks of the tests
are held against that. They are wide for that reason; what is merely unusual passes.
"""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True)
class SanityThresholds:
    """When data or a score counts as odd."""

    std_ratio: float = 1.8
    """Of the standard deviations of calibration and scoring inputs. Pixels in 0..1 against those in
    -1..1, the nearest pair of usual scalings, differ by 2; draws of one data set by under 1.3."""
    mean_shift: float = 0.75
    """Of the means, in standard deviations. 0..1 against -1..1 moves it by about 1, a draw of 32
    images of one data set by 0.1 to 0.3."""
    significance: float = 5.0
    """Standard errors that a difference between two draws must have; at 5, chance has no part in
    it, however many inputs and channels are compared."""
    roughness_ratio: float = 2.0
    """Of the mean step between neighbours along an axis. Pixels that were reshaped where they
    should have been permuted are 3 times as rough and more; draws of one data set differ by less
    than 1.3."""
    saturated_warning: float = 0.01
    """Share of the scored values beyond the largest number of the input's exponent. Calibration
    over dozens of samples leaves less than a thousandth outside."""
    saturated_fault: float = 0.25
    """Where a quarter of all values is cut off, no score means anything."""
    unused_range: float = 32.0
    """Calibration range over scored range: at 32, five of eight bits of the input are lost."""
    smallest_input: float = 127 * 2.0**-30
    """The largest value of an int8 at the smallest exponent that the chip's rules allow, 2**-30."""
    chance_errors: float = 2.0
    """Standard errors above chance that a score must have to be more than chance (95 %)."""
    fewest_samples: int = 16
    """Samples on each side below which draws are not compared."""
    seconds_of_repeats: float = 5.0
    """Seconds for calling an evaluation again. A slower one is left off after a few forwards, and
    its noisy copy is not scored: the check is to stay quick."""
    seconds_of_trial: float = 2.0
    """Seconds up to which the trial is scored to the end. What fails later than on the first
    samples ends the first iteration of a slower one, at which a search stops."""
    same_value: float = 1e-6
    """Relative difference of two scores of one graph on the same samples that is no more than the
    order in which a processor adds."""
    noisy_margin: float = 0.1
    """How much better, relatively, a copy with noise in its weights must score to contradict the
    metric_direction. Noise of the weights' own size leaves a trained network at chance."""
    percent_as_fraction: float = 20.0
    """A target that is so many times the float model's score is in another unit."""
    target_above_float: float = 0.02
    """Relative excess of a target over the float model's score that no quantization will give."""
    healthy_noise: float = 0.1
    """Noise:signal at the outputs that counts as healthy on calibration data."""
    useless_noise: float = 0.5
    """Noise:signal at the outputs from which on decisions are lost."""


SANITY = SanityThresholds()
"""The thresholds in use."""
