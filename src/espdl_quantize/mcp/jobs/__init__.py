"""Runs of the command in the background, which outlive the server that started them."""

from espdl_quantize.mcp.jobs.places import Places
from espdl_quantize.mcp.jobs.record import JobRecord
from espdl_quantize.mcp.jobs.store import JobStore, own_python, reset_interrupt

__all__ = ["JobRecord", "JobStore", "Places", "own_python", "reset_interrupt"]
