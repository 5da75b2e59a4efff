"""Policies of open exploration: from the evidence to the next setting."""

from __future__ import annotations

from collections.abc import Callable, Mapping

from espdl_quantize.core import UsageError
from espdl_quantize.search.policies._base import Policy
from espdl_quantize.search.policies._effects import EffectModel, Expectation, Feature, features
from espdl_quantize.search.policies._parameters import DEFAULT_PARAMETERS, PolicyParameters
from espdl_quantize.search.policies.evidence import EvidencePolicy
from espdl_quantize.search.policies.random_draw import RandomPolicy
from espdl_quantize.search.policies.tpe import OptunaPolicy

POLICIES: Mapping[str, Callable[[], Policy]] = {
    policy.name: policy for policy in (EvidencePolicy, OptunaPolicy, RandomPolicy)
}
"""How to make each policy, by its name."""


def make_policy(name: str) -> Policy:
    """Return the policy of that name.

    Raises:
        UsageError: there is none.
        InstallationError: it needs a package that is not installed.
    """
    if name not in POLICIES:
        raise UsageError(f"there is no policy {name!r}", f"choose one of {', '.join(POLICIES)}")
    return POLICIES[name]()


__all__ = [
    "DEFAULT_PARAMETERS",
    "POLICIES",
    "EffectModel",
    "EvidencePolicy",
    "Expectation",
    "Feature",
    "OptunaPolicy",
    "Policy",
    "PolicyParameters",
    "RandomPolicy",
    "features",
    "make_policy",
]
