"""Policies of open exploration: from the evidence to the next setting."""

from espdl_quantize.search.policies._base import Policy, PolicyContext, Proposal
from espdl_quantize.search.policies._coverage import covers
from espdl_quantize.search.policies._effects import EffectModel, Expectation
from espdl_quantize.search.policies._evidence import EvidencePolicy
from espdl_quantize.search.policies._features import Feature, features
from espdl_quantize.search.policies._optuna import OptunaPolicy
from espdl_quantize.search.policies._parameters import DEFAULT_PARAMETERS, PolicyParameters
from espdl_quantize.search.policies._random import RandomPolicy
from espdl_quantize.search.policies._registry import POLICIES, make_policy

__all__ = [
    "DEFAULT_PARAMETERS",
    "POLICIES",
    "EffectModel",
    "EvidencePolicy",
    "Expectation",
    "Feature",
    "OptunaPolicy",
    "Policy",
    "PolicyContext",
    "PolicyParameters",
    "Proposal",
    "RandomPolicy",
    "covers",
    "features",
    "make_policy",
]
