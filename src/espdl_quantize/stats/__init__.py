"""What of a difference between two scores is more than noise. No torch, no esp-ppq."""

from espdl_quantize.core import Verdict
from espdl_quantize.stats._compare import Comparison, compare_rates, compare_vectors
from espdl_quantize.stats._interval import (
    LEVEL,
    Interval,
    bootstrap_mean,
    newcombe,
    student_mean,
    wilson,
)
from espdl_quantize.stats._mcnemar import mcnemar_exact
from espdl_quantize.stats._samples import (
    DIGEST,
    Samples,
    align,
    noise_as_results,
    read_arrays,
    read_samples,
    write_arrays,
)

__all__ = [
    "DIGEST",
    "LEVEL",
    "Comparison",
    "Interval",
    "Samples",
    "Verdict",
    "align",
    "bootstrap_mean",
    "compare_rates",
    "compare_vectors",
    "mcnemar_exact",
    "newcombe",
    "noise_as_results",
    "read_arrays",
    "read_samples",
    "student_mean",
    "wilson",
    "write_arrays",
]
