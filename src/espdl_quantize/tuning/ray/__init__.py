"""Iterations at once on Ray: one process decides, numbers and writes; workers compute.

:class:`RayBackend` is driven by the loop of :func:`espdl_quantize.tuning.tune` as any other
backend. Behind it:

- ``cluster``: the nodes that Ray has, how they are joined, and which share one iteration takes;
- ``crew``: the workers, which are hired where there is room, and dismissed;
- ``worker``: what runs on a node, as an actor of Ray;
- ``tasks``: the iterations that were begun, and on which worker they are.

Ray is an extra, and is imported where a cluster is joined, not before.
"""

from espdl_quantize.tuning.ray.backend import RayBackend
from espdl_quantize.tuning.ray.worker import RayWorker

__all__ = ["RayBackend", "RayWorker"]
