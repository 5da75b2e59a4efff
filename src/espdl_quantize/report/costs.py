"""What models cost on the chip, in the words of the reports."""

from __future__ import annotations

from collections.abc import Iterator

from espdl_quantize.core import Command, Hint
from espdl_quantize.record import Cost, History, Iteration
from espdl_quantize.record.cost import COSTS, KIB

_FRONT = 12


def show_ms(cost: Cost | None) -> str:
    """Write the predicted milliseconds, "-" where they are not known."""
    return "-" if cost is None or cost.ms is None else f"{cost.ms:.4g}"


def show_ram(cost: Cost | None) -> str:
    """Write the KiB of RAM that the activations take at their peak."""
    return "-" if cost is None or cost.ram_bytes is None else f"{cost.ram_bytes / KIB:,.0f}"


def show_flash(cost: Cost | None) -> str:
    """Write the KiB of the file."""
    return "-" if cost is None or cost.flash_bytes is None else f"{cost.flash_bytes / KIB:,.0f}"


def show_ms_interval(cost: Cost | None) -> str:
    """Write the predicted milliseconds with from where to where nine of ten models come out."""
    if cost is None or cost.ms is None:
        return "-"
    latency = cost.latency
    if latency.low is None or latency.high is None:
        return show_ms(cost)
    return f"{cost.ms:.4g} ({latency.low:.4g} to {latency.high:.4g})"


def cost_lines(history: History) -> list[str]:
    """Say what best costs on the chip, how it stands to the budgets, and what is cheaper."""
    best = history.best
    if best is None:
        return []
    return [
        *_of_best(history, best),
        *budget_lines(history),
        *_cheaper(history, best),
        *_front(history),
    ]


def _of_best(history: History, best: Iteration) -> Iterator[str]:
    cost = best.cost
    if cost is None:
        if history.budgets.bounds or any(record.cost for record in history.iterations):
            yield f"What {best.name} costs on the chip is not known."
        return
    if cost.ms is None:
        time = f"milliseconds are not known for {cost.chip}, shares only"
    else:
        latency = cost.latency
        time = f"{cost.ms:.4g} ms per inference"
        if latency.low is not None and latency.high is not None:
            time += f" (nine in ten from {latency.low:.4g} to {latency.high:.4g})"
        residual = "" if latency.residual is None else f", residual {latency.residual:.1%}"
        time += f", {latency.source}{residual}" if residual else f", by {latency.source}"
    yield (
        f"{best.name} on the chip: {time}; {show_ram(cost)} KiB of RAM for activations at their "
        f"peak, {show_flash(cost)} KiB of flash."
    )


def budget_lines(history: History) -> list[str]:
    """Say which iteration keeps the contract's budgets of the chip, and by how much."""
    best, bounds = history.best, history.budgets.bounds
    if best is None or not bounds:
        return []
    lines: list[str] = []
    unknown = history.unknown_budgets
    for name in unknown:
        lines.append(
            Hint(
                f"{name} binds nothing: no iteration says how many {COSTS[name]} it takes; ",
                Command.DEVICE_LOG,
                " brings in what your board measures.",
            )
        )
    parts = []
    for name, bound in bounds.items():
        spent = best.spent[name]
        if name not in unknown:
            taken = "an unknown number" if spent is None else f"{spent:.4g}"
            parts.append(f"{taken} of at most {bound:.6g} {COSTS[name]}")
    if not parts:
        return lines
    if history.keeps_budgets(best):
        lines.append(f"{best.name} keeps the budgets: {', '.join(parts)}.")
        lines += _unsure(best, bounds.get("max_latency_ms"))
    else:
        lines.append(
            f"No iteration keeps the budgets; {best.name} is the nearest: {', '.join(parts)}."
        )
    higher = [record for record in history.scored if history.height(record) > history.height(best)]
    dropped = [record for record in higher if not history.keeps_budgets(record)]
    if dropped and history.keeps_budgets(best):
        names = ", ".join(record.name for record in dropped[:_FRONT])
        lines.append(f"Scored higher, and over the budgets: {names}.")
    return lines


def _unsure(best: Iteration, bound: float | None) -> Iterator[str]:
    measured = best.device is not None and best.device.ms is not None
    if bound is None or measured or best.cost is None:
        return
    high = best.cost.latency.high
    if high is not None and high > bound:
        yield (
            f"The prediction is not sure enough to promise {bound:.6g} ms: it may be up to "
            f"{high:.4g} ms. Measure it on a board."
        )


def _cheaper(history: History, best: Iteration) -> Iterator[str]:
    cheap = history.cheapest_near_best
    if cheap is None:
        return
    time, before = history.prices.time(cheap), history.prices.time(best)
    if time is not None and before is not None:
        yield (
            f"The cheapest that cannot be told from {best.name} is {cheap.name}: "
            f"{1 - time / before:.0%} less time on the chip."
        )


def _front(history: History) -> Iterator[str]:
    front = history.front
    if len(front) > 1:
        names = "; ".join(
            f"{record.name} {record.value:.6g} in {_time(history, record)}"
            for record in front[:_FRONT]
            if record.value is not None
        )
        yield f"The front of accuracy and time, quickest first: {names}."


def _time(history: History, record: Iteration) -> str:
    if record.cost is not None and record.cost.ms is not None:
        return f"{record.cost.ms:.4g} ms"
    plain = history.baseline
    time = history.prices.time(record)
    before = None if plain is None else history.prices.time(plain)
    return "-" if time is None or not before else f"{time / before:.2f} times the baseline"
