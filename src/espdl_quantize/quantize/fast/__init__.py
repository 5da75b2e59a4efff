"""The fast engine: esp-ppq's numbers, without its repeated work."""

from espdl_quantize.quantize.fast._fake_quant import fake_quantize
from espdl_quantize.quantize.fast._install import fast_engine, speed_up_pass
from espdl_quantize.quantize.fast._runner import OpRunner, channels_last, feed, inputs_of, store

__all__ = [
    "OpRunner",
    "channels_last",
    "fake_quantize",
    "fast_engine",
    "feed",
    "inputs_of",
    "speed_up_pass",
    "store",
]
