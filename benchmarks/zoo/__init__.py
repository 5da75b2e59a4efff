"""Several strategies search real networks for the same wall time: ``python -m benchmarks.zoo``."""
