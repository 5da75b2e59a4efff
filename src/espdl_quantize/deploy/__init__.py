"""From an exported model to a board: test values, the model's card, a project, a board's log."""

from espdl_quantize.deploy._card import (
    CardFacts,
    CardTensor,
    card_facts,
    describe,
    whole_card,
    write_card,
)
from espdl_quantize.deploy._chips import ESP_DL, board_of
from espdl_quantize.deploy._device_log import parse_log, read_log
from espdl_quantize.deploy._project import Project, ProjectOptions, write_project
from espdl_quantize.deploy._test_values import RecordedValues, choose, problem_of, simulate, variety
from espdl_quantize.record.files import CARD

__all__ = [
    "CARD",
    "ESP_DL",
    "CardFacts",
    "CardTensor",
    "Project",
    "ProjectOptions",
    "RecordedValues",
    "board_of",
    "card_facts",
    "choose",
    "describe",
    "parse_log",
    "problem_of",
    "read_log",
    "simulate",
    "variety",
    "whole_card",
    "write_card",
    "write_project",
]
