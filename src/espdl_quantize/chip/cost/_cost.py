"""What one .espdl file costs on the chip: flash, RAM and milliseconds, in all and per layer."""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Iterable, Sequence
from dataclasses import asdict, dataclass, replace
from pathlib import Path

from espdl_quantize.chip._facts import RUNTIME_OPS
from espdl_quantize.chip._model import ChipModel
from espdl_quantize.chip._read import parse_model, read_content
from espdl_quantize.chip.cost._latency import (
    CalibrationError,
    Constants,
    Deployment,
    Measurement,
    calibrated,
    layer_milliseconds,
    shipped_constants,
)
from espdl_quantize.chip.cost._plan import MemoryPlan, UnplannableModelError, plan_memory
from espdl_quantize.chip.cost._work import (
    KINDS,
    Operand,
    Operation,
    Work,
    operation_of,
    work_of,
)
from espdl_quantize.core import Json, UsageError

_ODD = (TypeError, ValueError, IndexError, OverflowError, ZeroDivisionError, AttributeError)
"""What computing with an op's attributes raises where they make no sense."""


@dataclass(frozen=True)
class FlashCost:
    """Bytes of flash.

    Attributes:
        file: of the whole file.
        weights: of its constants, by type.
        rest: of the graph and of alignment.
    """

    file: int
    weights: dict[str, int]
    rest: int


@dataclass(frozen=True)
class RamCost:
    """Bytes of RAM, without the program's own and the runtime's bookkeeping.

    Attributes:
        arena: of activations, in PSRAM (or in the only RAM of a chip without).
        internal: of activations in internal RAM.
        weights_copied: of weights that the runtime copies out of flash.
        live: the most that activations need at one time; what the arena has beyond is fragments.
        peak_layer: the op whose output made the arena as large as it is.
        at_peak: names and bytes of the activations that are held then, largest first.
    """

    arena: int
    internal: int
    weights_copied: int
    live: int
    peak_layer: str
    at_peak: tuple[tuple[str, int], ...]

    @property
    def total(self) -> int:
        """Return the bytes of all of these."""
        return self.arena + self.internal + self.weights_copied


@dataclass(frozen=True)
class LatencyCost:
    """Time of one inference.

    Attributes:
        milliseconds: predicted; None where nothing is known of the chip but shares.
        low: nine of ten models take from this...
        high: ...to this many milliseconds.
        source: what the constants come from.
        residual: of a calibration on a board: its relative error there.
    """

    milliseconds: float | None
    low: float | None
    high: float | None
    source: str
    residual: float | None = None


@dataclass(frozen=True)
class LayerCost:
    """What one op costs.

    Attributes:
        name: of the op.
        op_type: which kernel.
        width: of the kernel: S8, S16, W8A16 or F32.
        milliseconds: predicted; None where only shares are known.
        time: the same; where only shares are known, in a unit that compares on this chip alone.
        time_at_16_bits: the time if this op ran with 16 bits; None where it does, or has no such
            kernel. What converts from and to its neighbours is not in it.
        share: of the whole time, 0 to 1.
        macs: multiplications.
        weight_bytes: of its constants in the file.
        live_bytes: of the activations that are held while it runs.
        mostly: what takes most of its time, one of the kinds of work.
    """

    name: str
    op_type: str
    width: str
    milliseconds: float | None
    time: float
    time_at_16_bits: float | None
    share: float
    macs: int
    weight_bytes: int
    live_bytes: int
    mostly: str


@dataclass(frozen=True)
class ChipCost:
    """What a file costs on a chip.

    Attributes:
        chip: which.
        deployment: how it runs.
        flash: bytes of flash.
        ram: bytes of RAM.
        latency: time of one inference.
        time: the same in milliseconds; where nothing is published for the chip, in a unit that
            compares on it alone.
        layers: every op, in the order in which they run.
        work: how much of each kind of work there is.
        notes: what to know about these figures.
    """

    chip: str
    deployment: Deployment
    flash: FlashCost
    ram: RamCost
    latency: LatencyCost
    time: float
    layers: tuple[LayerCost, ...]
    work: Work
    notes: tuple[str, ...] = ()

    def top(self, count: int = 10) -> list[LayerCost]:
        """Return the ops that take longest."""
        return sorted(self.layers, key=lambda layer: -layer.share)[:count]

    def to_json(self) -> Json:
        """Return everything as JSON."""
        return {
            "chip": self.chip,
            "deployment": asdict(self.deployment),
            "flash": asdict(self.flash),
            "ram": {**asdict(self.ram), "total": self.ram.total},
            "latency": asdict(self.latency),
            "time": self.time,
            "layers": [asdict(layer) for layer in self.layers],
            "work": dict(self.work),
            "notes": list(self.notes),
        }


def cost_of(
    file: Path,
    chip: str,
    deployment: Deployment | None = None,
    constants: Constants | None = None,
) -> ChipCost:
    """Tell what a file costs on a chip.

    Args:
        file: the .espdl file.
        chip: the chip, as in a contract's ``target``; the file does not say it.
        deployment: how it runs; by default on one core, with weights and activations in PSRAM.
        constants: of a calibration on a board; by default those of the published figures.

    Raises:
        OutputFolderError: the file cannot be opened, or is larger than any chip's flash.
        UnreadableModelError: it is no .espdl, or is damaged.
        UnplannableModelError: its activations cannot be laid out, or the runtime does not know one
            of its ops.
        UsageError: the chip is unknown, has fewer cores, or is not the one of the constants.
    """
    content = read_content(file)
    return cost_of_model(parse_model(content), len(content), chip, deployment, constants)


def cost_of_model(
    model: ChipModel,
    file_bytes: int,
    chip: str,
    deployment: Deployment | None = None,
    constants: Constants | None = None,
) -> ChipCost:
    """Tell what a file that was read costs on a chip; see :func:`cost_of`."""
    deployment = deployment or Deployment()
    constants = constants or shipped_constants(chip)
    if constants.chip != chip:
        raise UsageError(
            f"the constants are of {constants.chip}, the model is for {chip}",
            "give a calibration of the same chip",
        )
    if deployment.cores > constants.cores:
        raise UsageError(f"{chip} has {constants.cores} core", "leave the number of cores out")
    _check_ops(model)
    plan = plan_memory(model, internal_limit=deployment.internal_bytes)
    internal = {place.name for place in plan.placements if place.internal}
    operations, works = _works(model, deployment, constants, internal)
    times = [
        layer_milliseconds(operation, work, constants, deployment)
        for operation, work in zip(operations, works, strict=True)
    ]
    whole = sum(times)
    if not math.isfinite(whole):
        raise UnplannableModelError("the model's shapes are too large for any chip")
    layers = []
    for number, (node, operation, work, time) in enumerate(
        zip(model.nodes, operations, works, times, strict=True)
    ):
        spent = {kind: count * constants.nanoseconds[kind] for kind, count in work.items()}
        layers.append(
            LayerCost(
                name=node.name,
                op_type=node.op_type,
                width=node.width,
                milliseconds=time if constants.absolute else None,
                time=time,
                time_at_16_bits=_time_at_16_bits(operation, constants, deployment),
                share=time / whole if whole else 0.0,
                macs=operation.macs,
                weight_bytes=sum(operand.size for operand in operation.inputs if operand.constant),
                live_bytes=plan.live[number],
                mostly=max(spent, key=lambda kind: spent[kind]),
            )
        )
    total = total_of(works)
    flash = _flash(model, file_bytes)
    return ChipCost(
        chip=chip,
        deployment=deployment,
        flash=flash,
        ram=_ram(model, plan, 0 if deployment.weights_in_flash else sum(flash.weights.values())),
        latency=_latency(constants, total, whole, deployment.cores),
        time=whole,
        layers=tuple(layers),
        work=total,
        notes=tuple(_notes(constants, deployment)),
    )


def calibrate(
    constants: Constants,
    file: Path,
    board: str,
    milliseconds: float | None = None,
    layers: Sequence[tuple[str, float]] = (),
    deployment: Deployment | None = None,
) -> Constants:
    """Correct a chip's constants by what a board measured of one file, on one core.

    Args:
        constants: of the chip, or of an earlier calibration, which this one refines.
        file: the .espdl file that ran.
        board: what to call it.
        milliseconds: of a whole inference.
        layers: names of ops and their milliseconds, of the runtime's ``profile_module()``.
        deployment: how it ran.

    Raises:
        CalibrationError: nothing was measured, or a name is none of the file's ops.
        EspdlQuantizeError: the file cannot be read or laid out, as in :func:`cost_of`.
    """
    deployment = deployment or Deployment()
    if deployment.cores != 1:
        raise CalibrationError("a calibration is of one core", "measure with one core")
    works = works_of(constants, file, deployment)
    unknown = [name for name, _ in layers if name not in works]
    if unknown:
        raise CalibrationError(
            f"{unknown[0]!r} is no op of {file}", "calibrate with the file that was measured"
        )
    measured = [Measurement(works[name], time, is_layer=True) for name, time in layers if time > 0]
    if milliseconds is not None:
        measured.append(Measurement(total_of(works.values()), milliseconds))
    return calibrated(constants, measured, board, deployment.weights_in_flash)


def works_of(constants: Constants, file: Path, deployment: Deployment) -> dict[str, Work]:
    """Return the work of each op of a file, by its name; see :func:`cost_of` for what it raises."""
    model = parse_model(read_content(file))
    _check_ops(model)
    plan = plan_memory(model, internal_limit=deployment.internal_bytes)
    internal = {place.name for place in plan.placements if place.internal}
    _, works = _works(model, deployment, constants, internal)
    return dict(zip((node.name for node in model.nodes), works, strict=True))


def _works(
    model: ChipModel, deployment: Deployment, constants: Constants, internal: set[str]
) -> tuple[list[Operation], list[Work]]:
    operations, works = [], []
    for node in model.nodes:
        try:
            operation = operation_of(node, model, internal)
            work = work_of(
                operation, constants.caches, weights_in_flash=deployment.weights_in_flash
            )
            if not all(math.isfinite(count) for count in work.values()):
                raise OverflowError("its shapes are too large")
        except _ODD as error:
            raise UnplannableModelError(
                f"op {node.name!r} ({node.op_type}) has shapes or attributes that make no sense: "
                f"{error}",
                "export the model again",
            ) from error
        operations.append(operation)
        works.append(work)
    return operations, works


def _time_at_16_bits(
    operation: Operation, constants: Constants, deployment: Deployment
) -> float | None:
    """Return what an 8-bit op would take with 16-bit weights and activations."""
    if operation.width != "S8" or operation.op_type == "Resize":
        return None

    def widened(operand: Operand) -> Operand:
        return replace(operand, bits=16) if operand.bits == 8 else operand

    wide = replace(
        operation,
        width="S16",
        inputs=tuple(map(widened, operation.inputs)),
        outputs=tuple(map(widened, operation.outputs)),
    )
    work = work_of(wide, constants.caches, weights_in_flash=deployment.weights_in_flash)
    return layer_milliseconds(wide, work, constants, deployment)


def conversion_times(
    model: ChipModel, constants: Constants, deployment: Deployment | None = None
) -> dict[str, float]:
    """Return what it takes to bring each activation from one width to the other, by its name.

    That is what the exporter inserts between two ops of different width. The unit is that of
    :attr:`ChipCost.time`.
    """
    deployment = deployment or Deployment()
    times = {}
    for name, tensor in model.values.items():
        if not tensor.is_integer or tensor.shape is None:
            continue
        convert = Operation(
            op_type="RequantizeLinear",
            width="S16",
            inputs=(Operand(8, tensor.shape),),
            outputs=(Operand(16, tensor.shape),),
        )
        work = work_of(convert, constants.caches, weights_in_flash=deployment.weights_in_flash)
        time = layer_milliseconds(convert, work, constants, deployment)
        if math.isfinite(time):
            times[name] = time
    return times


def _check_ops(model: ChipModel) -> None:
    if not model.nodes:
        raise UnplannableModelError("the model has no ops", "export the model again")
    for node in model.nodes:
        if node.op_type not in RUNTIME_OPS:
            raise UnplannableModelError(
                f"op {node.name!r} is of type {node.op_type!r}, which ESP-DL 3.3 has no kernel "
                "for: the model does not load there, and what it would cost is not known",
                "replace the op in the model, or leave out what made it "
                "(Attention: esp-ppq's espdl_attention_fusion)",
            )


def total_of(works: Iterable[Work]) -> Work:
    """Return the sum of some work, by kind."""
    works = list(works)
    return {kind: sum(work[kind] for work in works) for kind in KINDS}


def _flash(model: ChipModel, file_bytes: int) -> FlashCost:
    weights: Counter[str] = Counter()
    for tensor in model.constants.values():
        if tensor.data is not None:
            weights[tensor.dtype] += int(tensor.data.nbytes)
    by_type = dict(sorted(weights.items()))
    return FlashCost(file_bytes, by_type, file_bytes - sum(by_type.values()))


def _ram(model: ChipModel, plan: MemoryPlan, copied: int) -> RamCost:
    return RamCost(
        arena=plan.arena,
        internal=plan.internal,
        weights_copied=copied,
        live=max(plan.live),
        peak_layer=model.nodes[plan.peak_layer].name,
        at_peak=tuple((place.name, place.size) for place in plan.at(plan.peak_layer)),
    )


def _latency(constants: Constants, work: Work, whole: float, cores: int) -> LatencyCost:
    residual = None if constants.residual is None else math.expm1(constants.residual)
    if not constants.absolute:
        return LatencyCost(None, None, None, constants.source, residual)
    low, high = constants.interval(work, whole, cores)
    return LatencyCost(whole, low, high, constants.source, residual)


def _notes(constants: Constants, deployment: Deployment) -> list[str]:
    notes = []
    if not constants.absolute:
        notes.append(
            f"nothing is published for {constants.chip}: shares of the time only, by "
            f"{constants.source}; calibrate on a board for milliseconds"
        )
    if constants.residual is not None:
        residual = 100 * math.expm1(constants.residual)
        notes.append(f"{constants.source}; the residual there is {residual:.1f} %")
        if constants.flash_calibrated != deployment.weights_in_flash:
            where = "flash" if constants.flash_calibrated else "PSRAM"
            notes.append(f"the board was measured with the weights in {where}")
    if deployment.cores > 1 and constants.absolute:
        notes.append("two cores: one network is published on two cores, so this is a rough guess")
    return notes
