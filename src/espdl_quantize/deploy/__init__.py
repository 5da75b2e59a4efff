"""From an exported model to a board: test values, the model's card, a project, a board's log."""

from espdl_quantize.deploy._card import CARD, describe, whole_card, write_card
from espdl_quantize.deploy._test_values import RecordedValues, problem_of, simulate

__all__ = [
    "CARD",
    "RecordedValues",
    "describe",
    "problem_of",
    "simulate",
    "whole_card",
    "write_card",
]
