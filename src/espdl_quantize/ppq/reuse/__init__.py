"""Keeps what esp-ppq's long passes found, so that an equal state of the graph pays for it once.

A calibration is kept as a whole, trained blocks one by one: a setting that changes only what lies
behind a block, or two calibrations that round to the same scales there, share its training.
"""

from espdl_quantize.ppq.reuse._digest import Digest, digest_of, environment
from espdl_quantize.ppq.reuse._memory import PassMemory, Reuse

__all__ = ["Digest", "PassMemory", "Reuse", "digest_of", "environment"]
