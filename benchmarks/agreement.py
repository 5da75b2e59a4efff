"""Integer agreement per op type and chip, and the ops that have no integer form.

    python -m benchmarks.agreement --bits 8 --chip esp32s3 --chip esp32p4 --chip c

Small networks, of which each shows some ops, are quantized by esp-ppq's defaults and exported. The
file's integers are computed op by op on the simulation's own inputs, and counted by the type of the
op: how many outputs are equal, and by how many steps the others differ at most. An op that is
skipped is computed in float on the chip, or has no integer form here. ``--json`` prints all counts.
"""

from __future__ import annotations

import argparse
import json
import os
import sys
import tempfile
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from torch import Tensor, nn

CHIPS = ("esp32s3", "esp32p4", "c")
CHANNELS, SIZE = 16, 12
"""Of what each op is asked about: 16 channels fill a vector, 12 x 12 pixels."""

Function = Callable[["Tensor"], "Tensor"]


def networks() -> dict[str, nn.Module]:
    """Return the networks: each a Conv of one channel, then what is asked about."""
    import torch
    from torch import nn

    class Then(nn.Module):
        def __init__(self, behind: Function | nn.Module) -> None:
            super().__init__()
            self.conv, self.behind = nn.Conv2d(1, CHANNELS, 3, padding=1), behind

        def forward(self, x: Tensor) -> Tensor:
            return self.behind(self.conv(x))

    class Last(nn.Module):
        """The sequence that a recurrent layer puts out."""

        def __init__(self, layer: nn.Module) -> None:
            super().__init__()
            self.layer = layer

        def forward(self, x: Tensor) -> Tensor:
            return self.layer(x.flatten(1, 2).flatten(1).reshape(-1, 36, 64))[0].mean(1)  # type: ignore[no-any-return]

    pool = nn.functional.adaptive_avg_pool2d
    layers: dict[str, Function | nn.Module] = {
        "Conv, depthwise": nn.Sequential(
            nn.ReLU(), nn.Conv2d(CHANNELS, CHANNELS, 3, padding=1, groups=CHANNELS), nn.ReLU()
        ),
        "Conv, 20 channels": nn.Sequential(nn.ReLU(), nn.Conv2d(CHANNELS, 20, 3, stride=2)),
        "ConvTranspose": nn.ConvTranspose2d(CHANNELS, 8, 2, stride=2),
        "Gemm": nn.Sequential(nn.Flatten(), nn.Linear(CHANNELS * SIZE**2, 10)),
        "MatMul": lambda x: x.flatten(2) @ x.flatten(2).transpose(1, 2),
        "Add": lambda x: torch.relu(x) + torch.tanh(x),
        "Sub": lambda x: torch.relu(x) - torch.sigmoid(x),
        "Mul": lambda x: torch.relu(x) * torch.sigmoid(x),
        "Div": lambda x: x / (torch.sigmoid(x) + 0.5),
        "Concat, Split": lambda x: torch.cat(torch.split(x, 8, 1)[::-1], 1),
        "Slice, Pad": lambda x: nn.functional.pad(x[:, :, 1:, 2:], (1, 1, 1, 1)),
        "Clip": nn.ReLU6(),
        "LeakyRelu": nn.LeakyReLU(0.1),
        "PRelu": nn.PReLU(CHANNELS),
        "Elu": nn.ELU(),
        "HardSigmoid": nn.Hardsigmoid(),
        "HardSwish": nn.Hardswish(),
        "Swish": nn.SiLU(),
        "Gelu": nn.GELU(),
        "Exp": lambda x: torch.exp(-torch.relu(x)),
        "Log": lambda x: torch.log(torch.relu(x) + 1),
        "Sqrt": lambda x: torch.sqrt(torch.relu(x) + 0.1),
        "Pow": lambda x: torch.relu(x) ** 2,
        "MaxPool": nn.MaxPool2d(2),
        "AveragePool": nn.AvgPool2d(3),
        "AveragePool, padded": nn.AvgPool2d(3, 2, padding=1),
        "GlobalAveragePool": lambda x: pool(x, 1),
        "ReduceMean": lambda x: x.mean((2, 3)),
        "ReduceMean, channels": lambda x: x.mean(1, keepdim=True),
        "ReduceSum": lambda x: x.sum((2, 3)),
        "ReduceMax": lambda x: x.amax((2, 3)),
        "ReduceMin": lambda x: x.amin((2, 3)),
        "Resize, nearest": nn.Upsample(scale_factor=2),
        "Resize, linear": nn.Upsample(scale_factor=2, mode="bilinear"),
        "DepthToSpace": nn.PixelShuffle(2),
        "SpaceToDepth": nn.PixelUnshuffle(2),
        "Transpose": lambda x: x.permute(0, 2, 3, 1).flatten(1).reshape(-1, 36, 64),
        "Softmax": lambda x: torch.softmax(pool(x, 1).flatten(1), 1),
        "LayerNormalization": nn.LayerNorm([SIZE]),
        "GRU": Last(nn.GRU(64, 12, batch_first=True)),
        "LSTM": Last(nn.LSTM(64, 12, batch_first=True)),
    }
    torch.manual_seed(0)
    return {name: Then(layer).eval() for name, layer in layers.items()}


def integers_of(module: nn.Module, chip: str, bits: int, folder: Path) -> Any:
    """Quantize, export and check one network.

    Returns:
        Its :class:`espdl_quantize.chip.integers.IntegerCheck`, or why there is none.
    """
    import torch

    from espdl_quantize.chip import check_model
    from espdl_quantize.contract import contract_of_objects, read_batches
    from espdl_quantize.core import Engine, EspdlQuantizeError, NoProgress
    from espdl_quantize.ppq import (
        engine_for,
        export,
        prepare_float_model,
        probe_target,
        quantize,
        target_names,
    )
    from espdl_quantize.setting import baseline, fit_to_model, resolve

    generator = torch.Generator().manual_seed(1)
    images = [torch.randn(8, 1, SIZE, SIZE, generator=generator) for _ in range(4)]
    config = {"target": chip, "num_of_bits": bits, "device": "cpu", "model_name": "net"}
    file = folder / "model.espdl"
    try:
        contract = contract_of_objects(module, images, lambda _: 0.0, target_names(), config=config)
        batches, target = read_batches(contract), probe_target(chip, bits)
        model = prepare_float_model(contract, folder, batches[0])
        types = {op.name: op.type for op in model.load().operations.values()}
        setting = resolve(baseline(0, num_of_bits=bits), target, "cpu")
        setting = fit_to_model(setting, types, target)
        with engine_for(Engine.FAST).install() as engine:
            made = quantize(model, contract.config, setting, batches, NoProgress(), engine=engine)
            layouts = export(made, file, engine=engine)
            found = check_model(file, chip, made.graph, layouts, batches, engine=engine)
    except EspdlQuantizeError as error:
        return error.cause
    if found.integers is not None:
        return found.integers
    return "; ".join(fault.cause for fault in found.legality.faults) or found.problem


def agreement(chips: Sequence[str], bits: int) -> list[dict[str, Any]]:
    """Return a mapping per op type and chip.

    It has ``op_type``, ``chip``, ``outputs``, ``exact``, ``percent``, ``largest`` (in steps),
    ``skipped`` (ops) and ``why``; those of networks that could not be checked have ``failed``.
    """
    from espdl_quantize.chip.integers import Agreement
    from espdl_quantize.iteration import captured

    totals: dict[tuple[str, str], Agreement] = {}
    skipped: dict[tuple[str, str], list[str]] = {}
    failed = []
    for chip in chips:
        for name, module in networks().items():
            # esp-ppq prints its progress.
            with tempfile.TemporaryDirectory() as folder, captured(Path(os.devnull)):
                found = integers_of(module, chip, bits, Path(folder))
            if isinstance(found, str):
                failed.append({"network": name, "chip": chip, "failed": found})
                continue
            for op in found.ops:
                key = op.op_type, chip
                totals[key] = totals.get(key, Agreement()) + op.agreement
            for op in found.skipped:
                skipped.setdefault((op.op_type, chip), []).append(op.reason)
    rows = []
    for op_type, chip in sorted({*totals, *skipped}):
        total, reasons = totals.get((op_type, chip), Agreement()), skipped.get((op_type, chip), [])
        rows.append(
            {
                "op_type": op_type,
                "chip": chip,
                "outputs": total.outputs,
                "exact": total.exact,
                "percent": total.percent,
                "largest": total.largest,
                "skipped": len(reasons),
                "why": "; ".join(dict.fromkeys(reasons)),
            }
        )
    return rows + failed


def table(rows: Sequence[Mapping[str, Any]], chips: Sequence[str]) -> str:
    """Return the counts as Markdown: a row per op type, a column per chip."""
    cells = {(row["op_type"], row["chip"]): row for row in rows if "op_type" in row}
    lines = [f"| op | {' | '.join(chips)} |", f"|---|{'---|' * len(chips)}"]
    for op_type in dict.fromkeys(op_type for op_type, _ in cells):
        shown = [_cell(cells.get((op_type, chip))) for chip in chips]
        lines.append(f"| {op_type} | {' | '.join(shown)} |")
    for row in rows:
        if "failed" in row:
            lines.append(f"\n{row['network']} on {row['chip']}: {row['failed']}")
    return "\n".join(lines)


def _cell(row: Mapping[str, Any] | None) -> str:
    if row is None:
        return ""
    if not row["outputs"]:
        return f"skipped: {row['why']}" if row["skipped"] else ""
    steps = f", {row['largest']} step{'s' if row['largest'] > 1 else ''}" if row["largest"] else ""
    return f"{row['percent']:.4g} % of {row['outputs']}{steps}"


def main(arguments: Sequence[str] | None = None) -> int:
    """Print the table; 1 where a network could not be checked."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("--chip", action="append", help="several times for several; all without")
    parser.add_argument("--bits", type=int, default=8, choices=(8, 16))
    parser.add_argument("--json", action="store_true", help="print the counts")
    options = parser.parse_args(arguments)
    chips = tuple(options.chip or CHIPS)
    rows = agreement(chips, options.bits)
    print(json.dumps(rows, indent=2) if options.json else table(rows, chips))
    return int(any("failed" in row for row in rows))


if __name__ == "__main__":
    sys.exit(main())
