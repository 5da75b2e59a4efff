"""Examines a contract before anything long: every fault that can be known early, in one go.

The gate is a row of stages over one :class:`GateContext`. Each stage yields
:class:`~espdl_quantize.core.Finding` objects, and puts into the context what later ones work on. A
stage that fails costs only those that need what it would have given; all others run, so that one
go tells all faults that can be seen.

To add a stage, write a function in a module of ``gate/stages``::

    def examine(context: GateContext) -> Iterator[Finding]:
        for op in context.graph.operations.values():
            if ...:
                yield Finding(
                    FindingKind.FAULT,
                    "code_of_the_cause",
                    f"op {op.name!r} ({op.type})",
                    "what was found, with figures; what is expected",
                    "what to change",
                    figures={"found": 1, "expected": 2},
                )

and give it a line in :data:`~espdl_quantize.gate.stages.STAGES`, at its place in the order, with
the names of what it ``needs`` of the context. An
:class:`~espdl_quantize.core.EspdlQuantizeError` that it raises is the last fault that it finds.
"""

from espdl_quantize.gate._context import GateContext, GateOptions
from espdl_quantize.gate._run import GateReport, GateStage, examine
from espdl_quantize.gate.first import examine_first
from espdl_quantize.gate.stages import STAGES

__all__ = [
    "STAGES",
    "GateContext",
    "GateOptions",
    "GateReport",
    "GateStage",
    "examine",
    "examine_first",
]
