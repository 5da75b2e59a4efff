"""The three error analyses of a quantized graph; each engine has its own.

:mod:`espdl_quantize.ppq.measure.widths` measures what other widths would come to.
"""

from espdl_quantize.ppq.measure._measurements import Measurements, Row

__all__ = ["Measurements", "Row"]
