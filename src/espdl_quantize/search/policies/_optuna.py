"""Lets Optuna's TPE sampler propose, for comparison (Bergstra et al., NeurIPS 2011)."""

from __future__ import annotations

import importlib
from collections.abc import Mapping
from typing import Any

from espdl_quantize.core import InstallationError
from espdl_quantize.search.policies._base import Policy, PolicyContext, Proposal
from espdl_quantize.search.policies._sampling import propose_sampled
from espdl_quantize.search.policies._space import encode, space

_STARTUP_TRIALS = 5
"""Draws at random before TPE has enough to go by; the baseline and the sweep are four."""


class OptunaPolicy(Policy):
    """One categorical parameter per field of the setting; past iterations are past trials."""

    name = "optuna"

    def __init__(self) -> None:
        try:
            self._optuna = importlib.import_module("optuna")
        except ImportError as error:
            raise InstallationError(
                f"the policy 'optuna' needs Optuna: {error}",
                "pip install 'espdl-quantize[optuna]'",
            ) from error

    def propose(self, context: PolicyContext) -> Proposal | None:
        """Ask TPE, given everything that was run, until it names something new."""
        optuna = self._optuna
        optuna.logging.set_verbosity(optuna.logging.WARNING)
        rows = context.history.scored
        study = optuna.create_study(
            direction="maximize",
            sampler=optuna.samplers.TPESampler(
                seed=context.seed * 100_003 + len(context.history.iterations),
                n_startup_trials=_STARTUP_TRIALS,
            ),
        )
        choices = {
            name: optuna.distributions.CategoricalDistribution(values)
            for name, values in space(context).items()
        }
        for row in rows:
            if row.setting is not None:
                study.add_trial(
                    optuna.trial.create_trial(
                        params=encode(row.setting),
                        distributions=choices,
                        value=context.history.height(row),
                    )
                )

        def draw() -> Mapping[str, str]:
            trial: Any = study.ask(choices)
            study.tell(trial, state=optuna.trial.TrialState.FAIL)
            return dict(trial.params)

        reason = f"TPE over {len(rows)} scored iterations"
        return propose_sampled(context, draw, "Optuna's TPE", reason)
