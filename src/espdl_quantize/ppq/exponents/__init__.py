"""A search over the integer exponents of a quantized graph: a pass of our own."""

from espdl_quantize.ppq.exponents.search import ExponentSearchPass, insert_search

__all__ = ["ExponentSearchPass", "insert_search"]
