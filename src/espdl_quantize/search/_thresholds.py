"""Every number that the search compares with, in one place."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True)
class Thresholds:
    """Limits of the decision rules.

    The numbers come from tuning runs on MobileNetV2 and YOLO models for the P4 and the S3; SNR is
    the noise:signal power ratio. ``r<N>_*`` belong to the trigger RN; kurtosis is excess kurtosis.

    Attributes:
        plateau_window: so many last iterations must be flat. Three, since one flat step is common
            in the middle of a run that still improves.
        plateau_relative: a loss to best that counts as flat, relative to best.
        plateau_min_iterations: fewer scored iterations are no plateau.
        phase3_cap: iterations after the calibration sweep until open exploration begins.
        small_loss_relative: 3a-3 path 1 takes a loss below this for an unstable training.
        no_new_best_window: coverage counts as exhausted where so many last ones made no new best.
        worst_layers: how many layers "the top of the layerwise list" means.
        rule_layers: layers whose distributions the triggers look at; the contract's default
            for top_k_layers.
        layer_snr: a layer above this needs work.
        training_lr_limit: in phases 1 to 3 no TQT learning rate from here on.
        training_steps_limit: in phases 1 to 3 no TQT steps from here on.
        training_block_min: in phases 1 to 3 no smaller TQT block (1 is layer by layer).
        training_block_limit: in phases 1 to 3 no TQT block from here on.
        int16_median_factor: int16 goes to layers above this multiple of the median of the worst.
        int16_max_ops: int16 goes to so many ops at most.
        int16_max_share: int16 goes to this share of all ops at most, but always to one.
        group_time_share: without a limit of milliseconds, promoted groups may add this share of the
            plain model's time.
        group_min_win: less of the outputs' noise is not worth a promotion, as a share of it.
        demotion_noise: 16-bit ops go back to 8 where the outputs' noise grows by less in all, as a
            share of it.
        split_kurtosis: excess kurtosis of a weight from which a split is worth an extra Add.
        r1_kurtosis: an input above this has a long tail.
        r1_max_over_std: an input whose extreme is so many standard deviations out has one, too.
        r1_tail_stds: the tail begins so many standard deviations above the mean.
        r1_tail_mass: a larger share of the values in the tail fires the trigger.
        r2_skewness: below this in magnitude, a valley at the mean splits the values in two.
        r2_valley: the valley is at most this share of the lower of its two peaks.
        r2_peak: a peak is at least this share of the highest bin.
        r3_kurtosis: a weight above this has channels of very different size.
        r4_kurtosis: a weight above this with an extreme beyond r4_max_over_std has outliers.
        r4_max_over_std: see r4_kurtosis; in standard deviations.
        r5_mean_over_std: the mean of an output's error, as a share of the error's deviation.
        r6_median_factor: one layer is this much worse than the median of the worst.
        r7_spread: the worst layers lie within this factor of each other.
        r8_snr_low: below, a multi-input op has too little error for an alignment to fix (0.094
            was tried and lost 0.0034).
        r8_snr_high: above, the error is too large for it (0.264 gained 0.275, 0.318 lost 0.350).
        r8_std_ratio: input spreads that differ by more fire the trigger on their own.
        r8_veto_ratio: an activation that is worse by this factor makes the error its own.
        r8_veto_top: the veto looks at so many of the worst non-computing ops.
        r10_gap_points: the target is further away than this, in points of the metric.
        swift_rivals: so many calibrations beside the best are trained for a short time.
        swift_rival_noise: what is trained beside the best has at most so many times the noise at
            its outputs.
        swift_analysed: the error analyses read batches until they have so many samples, where the
            contract has no analyse_steps: they rank layers, and take most of an iteration
            without training on a large network.
    """

    plateau_window: int = 3
    plateau_relative: float = 0.001
    plateau_min_iterations: int = 4
    phase3_cap: int = 5
    small_loss_relative: float = 0.005
    no_new_best_window: int = 3
    worst_layers: int = 5
    rule_layers: int = 20
    layer_snr: float = 0.05

    training_lr_limit: float = 1e-4
    training_steps_limit: int = 4000
    training_block_min: int = 2
    training_block_limit: int = 6

    int16_median_factor: float = 2.0
    int16_max_ops: int = 3
    int16_max_share: float = 0.1
    group_time_share: float = 0.25
    group_min_win: float = 0.05
    demotion_noise: float = 0.02
    split_kurtosis: float = 10.0

    r1_kurtosis: float = 6.0
    r1_max_over_std: float = 6.0
    r1_tail_stds: float = 5.0
    r1_tail_mass: float = 1e-4
    r2_skewness: float = 0.3
    r2_valley: float = 0.5
    r2_peak: float = 0.3
    r3_kurtosis: float = 8.0
    r4_kurtosis: float = 10.0
    r4_max_over_std: float = 8.0
    r5_mean_over_std: float = 0.1
    r6_median_factor: float = 2.0
    r7_spread: float = 1.5
    r8_snr_low: float = 0.20
    r8_snr_high: float = 0.30
    r8_std_ratio: float = 5.0
    r8_veto_ratio: float = 1.2
    r8_veto_top: int = 3
    r10_gap_points: float = 5.0

    swift_rivals: int = 1
    swift_rival_noise: float = 2.0
    swift_analysed: int = 64


DEFAULT_THRESHOLDS = Thresholds()
