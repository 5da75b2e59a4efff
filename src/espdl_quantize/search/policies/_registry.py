"""All policies by name."""

from __future__ import annotations

from collections.abc import Callable, Mapping

from espdl_quantize.core import UsageError
from espdl_quantize.search.policies._base import Policy
from espdl_quantize.search.policies._evidence import EvidencePolicy
from espdl_quantize.search.policies._optuna import OptunaPolicy
from espdl_quantize.search.policies._random import RandomPolicy

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
