"""Rewrites an ONNX model into the form that esp-ppq reads rightly, and proves each rewrite.

esp-ppq's executor has defaults of its own and takes some attributes for others, in silence. Each
rewrite here says in other words what the file says. All together are verified in onnxruntime, and
what changes the numbers is not used.
"""

from espdl_quantize.ppq.normalise._run import Normalised, Rewrite, normalise
from espdl_quantize.ppq.normalise.batches import computes_shapes, takes_batches
from espdl_quantize.ppq.normalise.files import OPSET, batch_size_of, widen

__all__ = [
    "OPSET",
    "Normalised",
    "Rewrite",
    "batch_size_of",
    "computes_shapes",
    "normalise",
    "takes_batches",
    "widen",
]
