"""The sections of the reports; each module registers its own when it is imported.

To add one, write a function with :func:`~espdl_quantize.report._blocks.section` in any of them.
"""

from espdl_quantize.report.sections import deploying, findings, iterations, printed, result

__all__ = ["deploying", "findings", "iterations", "printed", "result"]
