"""The three error analyses of a quantized graph, by either engine."""

from espdl_quantize.ppq.measure._measure import measure
from espdl_quantize.ppq.measure._measurements import Measurements, Row

__all__ = ["Measurements", "Row", "measure"]
