"""The three error analyses of a quantized graph; each engine has its own."""

from espdl_quantize.ppq.measure._measurements import Measurements, Row

__all__ = ["Measurements", "Row"]
