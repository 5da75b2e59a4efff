"""The Agent Skill: where its files are, and putting them where agent tools look."""

from espdl_quantize.skill._agents import (
    AGENTS,
    Agent,
    Place,
    known_places,
    place,
    places_in_use,
)
from espdl_quantize.skill._manifest import MANIFEST
from espdl_quantize.skill._source import SKILL_NAME, skill_source
from espdl_quantize.skill.installing import Action, Outcome, install, remove, state_of

__all__ = [
    "AGENTS",
    "MANIFEST",
    "SKILL_NAME",
    "Action",
    "Agent",
    "Outcome",
    "Place",
    "install",
    "known_places",
    "place",
    "places_in_use",
    "remove",
    "skill_source",
    "state_of",
]
