"""Metrics for contracts whose score is no mean over the samples, with quick resampling.

Each is a callable to be a contract's ``aggregate``: it takes a list of records, one per sample, and
returns the metric. ``resampled(records, counts)`` is the same on many resamples at once.
"""

from espdl_quantize.metrics._detection import AveragePrecision, coco_records
from espdl_quantize.metrics._sums import F1, MeanCosine, TopK, WordErrorRate, word_errors

__all__ = [
    "F1",
    "AveragePrecision",
    "MeanCosine",
    "TopK",
    "WordErrorRate",
    "coco_records",
    "word_errors",
]
