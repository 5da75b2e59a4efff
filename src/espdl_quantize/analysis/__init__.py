"""Where the error of a quantized graph comes from."""

from espdl_quantize.analysis._hot_ops import non_computing_hot_ops
from espdl_quantize.analysis._jumps import graphwise_jumps
from espdl_quantize.analysis._layer_stats import worst_layer_stats

__all__ = [
    "graphwise_jumps",
    "non_computing_hot_ops",
    "worst_layer_stats",
]
