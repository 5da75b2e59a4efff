"""Compares iterations, writes comparison.json, ``best/`` and the final report; needs no torch."""

from espdl_quantize.report._best_folder import write_best, write_front
from espdl_quantize.report._board import RecordedLog, deploy, record_log
from espdl_quantize.report._certainty import certainty_lines, final_lines, final_of, why_best
from espdl_quantize.report._commands import early_finalize_command, retry_command
from espdl_quantize.report._compare import (
    CompareResult,
    Rendered,
    Standing,
    compare,
    lint,
    look,
    page_of,
    render_again,
)
from espdl_quantize.report._comparison import changes_of, delta_of, outcome_of
from espdl_quantize.report._final_report import MARKER, render_report, write_report
from espdl_quantize.report._finalize import (
    Category,
    FinalizePlan,
    FinalizeReason,
    RunStop,
    plan_finalize,
)
from espdl_quantize.report._gap import gap_words
from espdl_quantize.report._html import render_html, write_html
from espdl_quantize.report._snippet import python_script, python_snippet
from espdl_quantize.report.costs import budget_lines, cost_lines
from espdl_quantize.report.diff import FolderDiff, diff_folders, folder_names

__all__ = [
    "MARKER",
    "Category",
    "CompareResult",
    "FinalizePlan",
    "FinalizeReason",
    "FolderDiff",
    "RecordedLog",
    "Rendered",
    "RunStop",
    "Standing",
    "budget_lines",
    "certainty_lines",
    "changes_of",
    "compare",
    "cost_lines",
    "delta_of",
    "deploy",
    "diff_folders",
    "early_finalize_command",
    "final_lines",
    "final_of",
    "folder_names",
    "gap_words",
    "lint",
    "look",
    "outcome_of",
    "page_of",
    "plan_finalize",
    "python_script",
    "python_snippet",
    "record_log",
    "render_again",
    "render_html",
    "render_report",
    "retry_command",
    "why_best",
    "write_best",
    "write_front",
    "write_html",
    "write_report",
]
