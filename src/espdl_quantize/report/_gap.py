"""The share of the accuracy lost to quantization that came back, in words."""

from __future__ import annotations


def gap_words(share: float) -> str:
    """Write a share of the drop; what is beyond the whole of it is no percentage."""
    if share > 1:
        return "more than all"
    if share == 1:
        return "all"
    percent = f"{share:.0%}"
    return "nearly all" if percent == "100%" else percent
