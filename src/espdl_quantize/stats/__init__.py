"""What of a difference between two scores is more than noise. No torch, no esp-ppq."""

from espdl_quantize.core import Verdict
from espdl_quantize.stats._compare import (
    Comparison,
    compare_rates,
    compare_replicates,
    compare_vectors,
)
from espdl_quantize.stats._interval import (
    LEVEL,
    Interval,
    bootstrap_mean,
    newcombe,
    student_mean,
    wilson,
)
from espdl_quantize.stats._mcnemar import mcnemar_exact
from espdl_quantize.stats._replicates import (
    DRAWS,
    FEWEST,
    draw_samples,
    optimism,
    replicate,
    replicate_means,
    replicated_interval,
)
from espdl_quantize.stats._samples import (
    DIGEST,
    Samples,
    align,
    are_of_same_samples,
    in_order,
    noise_as_results,
    read_arrays,
    read_samples,
    write_arrays,
)

__all__ = [
    "DIGEST",
    "DRAWS",
    "FEWEST",
    "LEVEL",
    "Comparison",
    "Interval",
    "Samples",
    "Verdict",
    "align",
    "are_of_same_samples",
    "bootstrap_mean",
    "compare_rates",
    "compare_replicates",
    "compare_vectors",
    "draw_samples",
    "in_order",
    "mcnemar_exact",
    "newcombe",
    "noise_as_results",
    "optimism",
    "read_arrays",
    "read_samples",
    "replicate",
    "replicate_means",
    "replicated_interval",
    "student_mean",
    "wilson",
    "write_arrays",
]
