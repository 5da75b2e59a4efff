"""Every number of the evidence policy, in one place."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field

from espdl_quantize.setting import PASSES

PRIORS: Mapping[str, tuple[float, float]] = {
    "calib": (0.0, 0.12),
    **{name: spec.prior for name, spec in PASSES.items()},
    "fusion_alignment": (0.0, 0.08),
    "int16": (0.0, 0.08),
    "split": (0.0, 0.05),
}
"""Mean and deviation of the gain per kind of change, before anything is known, as shares of the
gap that is open. From published and own runs: training brings back most, equalization and another
calibration vary widely, bias correction and alignment move little."""


@dataclass(frozen=True)
class PolicyParameters:
    """How the evidence policy weighs.

    The gain of a kind of change k has the posterior mean ::

        mean_k = (prior_strength * prior_k * gap + sum_i w_i * credit_i) / (prior_strength + W)

    and the deviation ``deviation_k * gap / sqrt(prior_strength + W)``, where W is the sum of the
    w_i. An iteration i that changed n things credits each with its gain over n; its weight w_i is
    ``stack_decay ** d`` for a stack of levers that differs in d members from best's today, times
    ``family_weight`` where it made the same kind of change to another op. ``gap`` is what is
    missing to the float model. A candidate with several changes has the sum of the means, times
    ``stacking`` per further change where it is positive, and the root of the summed variances. It
    is ranked by its expected improvement (the mean of the positive part), less
    ``time_cost * gap`` per percent of the plain model's time that it takes more on the chip; where
    no time is known, ``op_cost * gap`` per op that it makes slower.

    Attributes:
        priors: see :data:`PRIORS`.
        knob_prior: the same for a parameter within a pass that is on.
        prior_strength: the prior counts as so many iterations.
        trigger_bonus: added to a prior's mean where a trigger of the playbook asks for the change.
        swap_bonus: added to the prior's mean of a calibration that was never run on best's levers:
            a verdict from fewer levers can flip.
        int16_recovery: an op with 16 bits is expected to bring back this much of its share in the
            sum of the layerwise errors.
        stack_decay: how fast a result on another stack loses its say.
        family_weight: how much the same change to another op tells.
        failure_loss: a failed iteration counts as a loss of so many gaps.
        credit_limit: no gain or loss counts as more than so many gaps.
        stacking: what of each further gain is left when changes are combined.
        op_cost: what one more int16 op or split layer must gain, as a share of the gap.
        op_cost_speed: the same where the contract puts the chip's speed first.
        time_cost: what one percent more time on the chip must gain, as a share of the gap. An op of
            a network of about a hundred takes one.
        time_cost_speed: the same where the contract puts the chip's speed first.
        pairs_of: out of so many of the best single changes that are expected to gain, pairs are
            made.
        tie: under a budget of time, candidates within this share of the best are equal, and the
            quickest is taken.
        patience: what is expected to take longer than so many times all iterations so far comes
            last: an hour of blockwise reconstruction after minutes of search is nobody's wish.
        int16_max_ops: never more int16 ops than this.
        split_max_layers: never more split layers than this.
        candidates_per_list: so many ops of each list of artifacts are looked at.
    """

    priors: Mapping[str, tuple[float, float]] = field(default_factory=lambda: PRIORS)
    knob_prior: tuple[float, float] = (0.0, 0.05)
    prior_strength: float = 1.0
    trigger_bonus: float = 0.05
    swap_bonus: float = 0.05
    int16_recovery: float = 0.5
    stack_decay: float = 0.8
    family_weight: float = 0.3
    failure_loss: float = 0.5
    credit_limit: float = 2.0
    stacking: float = 0.8
    op_cost: float = 0.005
    op_cost_speed: float = 0.03
    time_cost: float = 0.005
    time_cost_speed: float = 0.03
    pairs_of: int = 5
    tie: float = 0.1
    patience: float = 1.0
    int16_max_ops: int = 6
    split_max_layers: int = 3
    candidates_per_list: int = 5


DEFAULT_PARAMETERS = PolicyParameters()
