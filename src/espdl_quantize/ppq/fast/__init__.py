"""The fast engine: esp-ppq's numbers, without its repeated work."""

from espdl_quantize.ppq.fast._fake_quant import NO_BOUNDS, fake_quantize
from espdl_quantize.ppq.fast._layout import Layout
from espdl_quantize.ppq.fast._memory import give_back_freed_memory
from espdl_quantize.ppq.fast._ops import bounds_of
from espdl_quantize.ppq.fast._runner import (
    OpError,
    OpRunner,
    channels_last,
    count_readers,
    feed,
    inputs_of,
    quantize_plainly,
    release,
    store,
)
from espdl_quantize.ppq.fast.passes import fast_engine, speed_up_pass

__all__ = [
    "NO_BOUNDS",
    "Layout",
    "OpError",
    "OpRunner",
    "bounds_of",
    "channels_last",
    "count_readers",
    "fake_quantize",
    "fast_engine",
    "feed",
    "give_back_freed_memory",
    "inputs_of",
    "quantize_plainly",
    "release",
    "speed_up_pass",
    "store",
]
