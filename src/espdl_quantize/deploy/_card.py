"""What a program needs to know of a model: inputs, outputs, exponents, layout, size and score.

The facts of the file are written when it is exported, since the file itself does not say what was
done to the axes; the score joins them in ``best/model.json``.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from espdl_quantize.chip import ChipModel, Tensor, chip_facts
from espdl_quantize.contract import Batch
from espdl_quantize.core import Json, OutputFolderError, read_json, write_json
from espdl_quantize.core.digests import sha256_of
from espdl_quantize.ppq import esp_ppq_version, espdl_text
from espdl_quantize.record import read_record
from espdl_quantize.record.files import CARD, INFO, MODEL, SETTING, TEST_MODEL

if TYPE_CHECKING:
    from espdl_quantize.chip.integers import Agreement

_MOST_TENSORS = 40
_HEADER = 16
"""Bytes before the FlatBuffer of an .espdl file."""

Layouts = Mapping[str, tuple[int, ...]]

_LAYOUTS = {(0, 2, 3, 1): "NHWC", (0, 2, 1): "NWC", (0, 2, 3, 4, 1): "NDHWC"}
_PLAIN = {3: "NCW", 4: "NCHW", 5: "NCDHW"}


def write_card(
    folder: Path,
    model: ChipModel,
    layouts: Layouts,
    chip: str,
    sample: Batch | None = None,
    agreement: Agreement | None = None,
) -> None:
    """Write model_card.json and, where the export has written none, model.info.

    Args:
        folder: an iteration's, with its exported files.
        model: what model.espdl holds.
        layouts: by variable, the axes of the graph's tensor in the order of the file.
        chip: what it was exported for.
        sample: a calibration input, whose range tells of the preprocessing.
        agreement: of the integers, computed as on the chip, with the recorded outputs; None where
            that is not known.
    """
    card = describe(folder / MODEL, model, layouts, chip)
    for entry, value_range in zip(card["inputs"], _ranges(sample, model.inputs), strict=False):
        entry["calibration_sample"] = value_range
    test_file = folder / TEST_MODEL
    if test_file.is_file():
        card["test_values"] = {
            "file": TEST_MODEL,
            "sha256": sha256_of(test_file),
            "integers": asdict(agreement) if agreement else None,
        }
    write_json(folder / CARD, card)
    if not (folder / INFO).is_file():
        (folder / INFO).write_text(
            espdl_text((folder / MODEL).read_bytes()[_HEADER:]), encoding="utf-8"
        )


def describe(file: Path, model: ChipModel, layouts: Layouts, chip: str) -> Json:
    """Return the facts of a file.

    Args:
        file: the .espdl.
        model: what it holds.
        layouts: by variable, the axes of the graph's tensor in the order of the file; empty where
            nobody knows them any more.
        chip: what it was exported for.
    """
    rounding = chip_facts(chip).rounding
    return {
        "format": 1,
        "chip": chip,
        "model": MODEL,
        "bytes": file.stat().st_size,
        "sha256": sha256_of(file),
        "rounding": rounding,
        "inputs": [
            {
                **_tensor(name, model.values.get(name), layouts.get(name)),
                "preprocessing": "as in the contract's calibration data, then quantized",
            }
            for name in model.inputs
        ],
        "outputs": [
            _tensor(name, model.values.get(name), layouts.get(name)) for name in model.outputs
        ],
        "ops": dict(sorted(Counter(node.op_type for node in model.nodes).items())),
        "op_widths": dict(sorted(Counter(node.width for node in model.nodes).items())),
        "esp_ppq_version": esp_ppq_version(),
        "test_values": None,
    }


@dataclass(frozen=True)
class CardTensor:
    """An input or an output of a model, as its card has it.

    Attributes:
        kind: "input" or "output".
        name: as in the file.
        dtype: of its integers.
        shape: as in the file.
        layout: the order of the axes; empty where it has no name.
        exponent: a value is its integer times 2 to the power of it; None for floats.
    """

    kind: str
    name: str
    dtype: str
    shape: tuple[int, ...]
    layout: str
    exponent: int | None


@dataclass(frozen=True)
class CardFacts:
    """What a program needs to know of a model.

    Attributes:
        tensors: inputs, then outputs.
        widths: ops by their width.
        has_test_values: a copy of the model can be tested on a board.
    """

    tensors: tuple[CardTensor, ...] = ()
    widths: tuple[tuple[str, int], ...] = ()
    has_test_values: bool = False


def card_facts(folder: Path) -> CardFacts:
    """Read the card of an iteration; what is missing or damaged is left out."""
    try:
        card = read_json(folder / CARD)
    except OutputFolderError:
        return CardFacts()
    tensors = [
        CardTensor(
            kind,
            str(entry.get("name")),
            str(entry.get("dtype") or "-"),
            tuple(each for each in _list(entry.get("shape")) if isinstance(each, int)),
            str(entry.get("layout") or ""),
            exponent if isinstance(exponent := entry.get("exponent"), int) else None,
        )
        for kind in ("input", "output")
        for entry in _list(card.get(f"{kind}s"))[:_MOST_TENSORS]
        if isinstance(entry, dict)
    ]
    widths = card.get("op_widths")
    counts = widths.items() if isinstance(widths, dict) else ()
    return CardFacts(
        tuple(tensors),
        tuple((str(width), count) for width, count in counts if isinstance(count, int)),
        bool(card.get("test_values")),
    )


def _list(value: object) -> list[Any]:
    return value if isinstance(value, list) else []


def whole_card(folder: Path) -> Json | None:
    """Return the card with the setting and the scores; None where the iteration has no card.

    Args:
        folder: an iteration's, or best/.
    """
    try:
        card = read_json(folder / CARD)
        record = read_record(folder)
    except OutputFolderError:
        return None
    card |= {
        "model_name": record.model_name,
        "iteration": record.id,
        "chip": record.target_chip or card.get("chip"),
        "esp_ppq_version": record.esp_ppq_version or card.get("esp_ppq_version"),
        "esp_dl_version": record.esp_dl_version,
        "metric": record.metric,
        "metric_direction": record.direction,
        "float_score": record.float_value,
        "quantized_score": record.value,
        "scored_by": record.evaluated_by,
        "scored_samples": record.sample_count,
    }
    try:
        card["setting"] = read_json(folder / SETTING)
    except OutputFolderError:
        card["setting"] = None
    return card


def _tensor(name: str, tensor: Tensor | None, axes: tuple[int, ...] | None) -> Json:
    if tensor is None:
        return {"name": name, "dtype": None, "shape": None, "exponent": None}
    exponent = tensor.exponent if tensor.is_integer else None
    return {
        "name": name,
        "dtype": tensor.dtype,
        "shape": None if tensor.shape is None else list(tensor.shape),
        "layout": _layout(axes),
        "axes_of_the_graph": None if axes is None else list(axes),
        "exponent": exponent,
        "scale": None if exponent is None else 2.0**exponent,
        "real_value": "as it is" if exponent is None else f"integer * 2^{exponent}",
    }


def _layout(axes: tuple[int, ...] | None) -> str | None:
    """Name the order of the axes where it has a name, on the usual reading of the graph's."""
    if axes is None:
        return None
    if list(axes) == sorted(axes):
        return _PLAIN.get(len(axes), "as in the graph")
    return _LAYOUTS.get(tuple(axes), "permuted")


def _ranges(sample: Batch | None, names: tuple[str, ...]) -> list[Json]:
    if sample is None:
        return []
    tensors = sample.tensors if sample.names is None else sample.by_name(names).values()
    ranges: list[Json] = []
    for tensor in tensors:
        value = tensor.detach().cpu().double()
        ranges.append(
            {
                "min": float(value.min()),
                "max": float(value.max()),
                "mean": float(value.mean()),
                "shape": list(value.shape),
            }
        )
    return ranges
