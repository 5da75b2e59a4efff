"""Training block by block, as esp-ppq's passes do it, with the graph walked once."""

from espdl_quantize.ppq.fast.training._collect import Collector
from espdl_quantize.ppq.fast.training._trainer import TqtTrainer

__all__ = ["Collector", "TqtTrainer"]
