"""Lets Optuna's TPE sampler propose, for comparison (Bergstra et al., NeurIPS 2011)."""

from __future__ import annotations

import importlib
from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

from espdl_quantize.core import InstallationError
from espdl_quantize.search._decisions import Proposal
from espdl_quantize.search.policies._base import Policy
from espdl_quantize.search.policies._sampling import encode, propose_sampled, space

if TYPE_CHECKING:
    from espdl_quantize.search._state import SearchState

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

    def propose(self, state: SearchState) -> Proposal | None:
        """Ask TPE, given everything that was run, until it names something new."""
        optuna = self._optuna
        optuna.logging.set_verbosity(optuna.logging.WARNING)
        iterations = state.ranking.scored
        study = optuna.create_study(
            direction="maximize",
            sampler=optuna.samplers.TPESampler(
                seed=state.options.seed * 100_003 + len(state.history.iterations),
                n_startup_trials=_STARTUP_TRIALS,
            ),
        )
        choices = {
            name: optuna.distributions.CategoricalDistribution(values)
            for name, values in space(state).items()
        }
        for iteration in iterations:
            if iteration.setting is not None:
                study.add_trial(
                    optuna.trial.create_trial(
                        params=encode(iteration.setting),
                        distributions=choices,
                        value=state.ranking.height(iteration),
                    )
                )

        def draw() -> Mapping[str, str]:
            trial: Any = study.ask(choices)
            study.tell(trial, state=optuna.trial.TrialState.FAIL)
            return dict(trial.params)

        reason = f"TPE over {len(iterations)} scored iterations"
        return propose_sampled(state, draw, pattern="Optuna's TPE", reason=reason)
