"""What the codes of the search stand for, in a few plain words.

Codes stay in JSON and in what a program reads; what a person reads has these beside them.
"""

from __future__ import annotations

import re
from collections.abc import Mapping

from espdl_quantize.core import Phase
from espdl_quantize.search._decisions import Proposal
from espdl_quantize.search.levers import LEVERS

_PHASES: Mapping[str, str] = {
    Phase.BASELINE: "baseline",
    Phase.SWEEP: "calibration sweep",
    Phase.RESIDUAL: "one lever at a time",
    Phase.PIVOT: "another kind of lever",
    Phase.FINAL_REPORT: "the end",
    Phase.OPEN: "open search",
}

TRIGGERS: Mapping[str, str] = {
    "R1": "an activation with a long tail",
    "R2": "an activation with separate peaks",
    "R3": "weights of very uneven channels",
    "R4": "single huge weights",
    "R5": "a shifted mean at an output",
    "R6": "one layer far worse than the others",
    "R7": "an error spread over many layers",
    "R8": "branches of unequal range that are joined",
    "R9": "an op of a kind that 8 bits suit badly",
    "R10": "a large gap after everything was tried",
}
"""What each trigger of the playbook sees."""

PATTERNS: Mapping[str, str] = {
    "5alpha": "turn a pass or int16 on",
    "5beta": "change the calibration",
    "5gamma": "turn a pass or int16 off",
    "5delta": "choose other layers for int16 or a split",
}
"""The kinds of move of the open search."""

_CODE = re.compile(r"\b(R10|R[1-9])(?=: )")


def phase_name(phase: str) -> str:
    """Name a phase, with its number: "calibration sweep (phase 2)"."""
    name = _PHASES.get(phase)
    return str(phase) if name is None else f"{name} (phase {str(phase).split('-')[1]})"


def lever_name(lever: str) -> str:
    """Name a lever behind its code: "lever 3a-1: train longer"."""
    known = LEVERS.get(lever)
    return f"lever {lever}" if known is None else f"lever {lever}: {known.name}"


def move_name(code: str) -> str:
    """Name a lever or a kind of move behind its code: "5beta: change the calibration"."""
    if code in PATTERNS:
        return f"{code}: {PATTERNS[code]}"
    return f"{code}: {LEVERS[code].name}" if code in LEVERS else code


def proposal_name(proposal: Proposal) -> str:
    """Name what is about to run."""
    return proposal.pattern if proposal.lever is None else lever_name(proposal.lever)


def explain_triggers(text: str) -> str:
    """Say behind each trigger that a text begins a statement with what it sees."""
    return _CODE.sub(lambda match: f"{match[1]} ({TRIGGERS[match[1]]})", text)
