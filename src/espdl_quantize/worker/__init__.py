"""Runs iterations in a process of their own, so that its end is not the end of the search."""

from espdl_quantize.worker._death import Death
from espdl_quantize.worker._job import Job, Order
from espdl_quantize.worker._runner import CONTRACT_JOB, Runner
from espdl_quantize.worker._worker import Worker, WorkerDiedError

__all__ = [
    "CONTRACT_JOB",
    "Death",
    "Job",
    "Order",
    "Runner",
    "Worker",
    "WorkerDiedError",
]
