"""What was found in the best iteration's file, in sentences."""

from __future__ import annotations

from espdl_quantize.record import History


def chip_lines(history: History) -> list[str]:
    """Say whether best's file is legal and how its integers agree; nothing where nobody looked."""
    best = history.best
    found = best.on_chip if best is not None else None
    measured = [] if best is None or best.device is None else [best.device.sentence()]
    if best is None or found is None or found.legal is None:
        return measured
    chip = best.target_chip or "the chip"
    lines = [
        f"The exported file was read back: it {'obeys' if found.legal else 'breaks'} the rules "
        f"known of {chip}." + ("" if measured else " That is no run on a chip.")
    ]
    if found.doubts:
        lines.append(
            f"Of {found.doubts} ops it is not known whether the chip can run them so: their "
            f"channels would be shifted left; {best.name}/chip_check.json names them. Try the "
            "model on the chip before you rely on it."
        )
    if found.exact_percent is not None:
        told = (
            f"Computed from the file in integers, {_percent(found.exact_percent)} of the outputs "
            f"of {found.ops_checked} ops are what the simulation says"
        )
        if found.largest_difference:
            steps = "step" if found.largest_difference == 1 else "steps"
            told += f"; the largest difference is {found.largest_difference} {steps} of a scale"
        lines.append(f"{told}.")
    if found.end_to_end_exact_percent is not None:
        lines.append(
            f"End to end, {_percent(found.end_to_end_exact_percent)} of the model's outputs are."
        )
    if found.ops_skipped:
        lines.append(
            f"{found.ops_skipped} ops have no integer form here and were taken from the "
            f"simulation; {best.name}/chip_check.json names them."
        )
    if found.overflows:
        lines.append(
            f"{found.overflows} sums do not fit into the chip's accumulator, which the simulation "
            f"does not know; {best.name}/chip_check.json names the ops."
        )
    return measured + lines


def _percent(value: float) -> str:
    # 99.9996 is not all.
    return "100 %" if value == 100 else f"{min(value, 99.99):.2f} %"
