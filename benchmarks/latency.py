"""Fits the latency model to published figures, and tries it on models that it has not seen.

    python -m benchmarks.latency [--ops esp-dl-ops.json] [--write] [--verbose]

The figures are ESP-DL's: the latency of its published models, on one core, and its table of single
kernels. ``recorded/esp_dl_latency.json.gz`` holds them with the ops of each model; ``--ops`` reads
another list of the same form and ``--keep`` records it. ``--write`` puts the constants where the
package reads them.

Unknown are the logarithms of the constants, one per kind of work and chip. What is known of them
before any model is seen (cycles of the inner loops, the speed of PSRAM and flash) enters as a
guess with a width; constants in cycles are also drawn to a mean of both chips, as the kernels are
alike. Minimised is the sum of squares of the errors' logarithms and of the distances from the
guesses, each by its width. A family of near-equal networks counts as two models and is left out
as one.
"""

from __future__ import annotations

import argparse
import gzip
import json
from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from espdl_quantize.chip.cost._latency import (
    COMPUTED,
    READ_AGAIN,
    Constants,
    Deployment,
    is_split,
    layer_milliseconds,
)
from espdl_quantize.chip.cost._work import (
    KINDS,
    Caches,
    Operand,
    Operation,
    Work,
    operation_of_row,
    work_of,
)

ROWS = Path(__file__).parent / "recorded" / "esp_dl_latency.json.gz"
CONSTANTS = Path("src/espdl_quantize/chip/cost/constants.json")

CHIPS = {"esp32s3": (240, Caches(64 << 10)), "esp32p4": (360, Caches(256 << 10, 64 << 10))}
"""Megahertz and caches of the published measurements."""
IN_BYTES = ("moved", "inner", "psram", "flash")
"""Kinds whose constants are nanoseconds per byte; those of the others are cycles."""
CYCLES: dict[str, float] = {
    "mac8": 1.5,
    "mac8_ragged": 3,
    "mac16": 1.5,
    "mac16_ragged": 3,
    "group": 30,
    "pixel": 80,
    "depthwise": 3,
    "vector": 4,
    "scalar": 12,
    "permute": 60,
    "float": 120,
    "node": 5000,
}
"""First guesses, from the kernels' inner loops: a load and a product per cycle, and so on."""
NANOSECONDS: dict[str, dict[str, float]] = {
    # Octal PSRAM at 80 MHz moves 160 MB/s, a line of 64 bytes at a time with as long a wait; flash
    # by four lines at 80 MHz moves 40 MB/s.
    "esp32s3": {"moved": 6, "inner": 1, "psram": 10, "flash": 28},
    "esp32p4": {"moved": 2.5, "inner": 0.7, "psram": 2.5, "flash": 28},
}
WIDTHS = {"flash": 0.2, "mac8": 0.3, "mac16": 0.3, "float": 0.4}
"""Standard deviations of the guesses' logarithms, where they are not ``WIDTH``."""
WIDTH, BETWEEN_CHIPS, MODEL, KERNEL = 0.5, 0.3, 0.15, 0.5
IN_FAMILY = 2
"""How many models a family counts as at most."""
QUANTILE = 0.9


@dataclass(frozen=True)
class Sample:
    """A published figure, and the work that it took.

    Attributes:
        name: of the model, or of the kernel.
        family: what is left out together.
        chip: where it was measured.
        milliseconds: published.
        work: of all of its ops.
        is_kernel: whether it is a single kernel.
    """

    name: str
    family: str
    chip: str
    milliseconds: float
    work: Work
    is_kernel: bool


def _family(model: str) -> str:
    for start, family in (
        ("espdet_", "espdet"),
        ("coco_", "yolo11n"),
        ("yolo26n", "yolo26n"),
        ("pp_ocr_v6_rec", "pp_ocr_v6_rec"),
        ("human_face_feat", "human_face_feat"),
        ("imagenet_cls_mobilenetv2", "mobilenetv2"),
        ("mobilenetv2", "mobilenetv2"),
    ):
        if model.startswith(start):
            return family
    return model


def kept(models: Sequence[Mapping[str, Any]]) -> dict[str, Any]:
    """Return what is recorded of the published figures.

    Where the weights were, follows from ESP-DL's own programs: those of YOLO11n copy them to PSRAM
    only where it has more than 9 MiB, and their ESP32-S3 has 8. YOLO26n was measured before 16-bit
    tables had a vector kernel.
    """
    rows = [
        {
            **model,
            "family": _family(model["model"]),
            "weights_in_flash": model["model"].startswith("coco_") and model["chip"] == "esp32s3",
            "scalar_tables": model["model"].startswith("yolo26n"),
        }
        for model in models
    ]
    return {"models": rows, "kernels": KERNELS, "two_cores": TWO_CORES}


KERNELS = [
    # input, kernel, output, depthwise; microseconds with vectors and in C, on the S3 and on the P4
    [[1, 20, 20, 16], [1, 1], [1, 20, 20, 32], False, [422, 11068], [289, 6665]],
    [[1, 19, 23, 32], [3, 3], [1, 10, 12, 16], False, [482, 25142], [421, 10886]],
    [[1, 22, 22, 16], [5, 5], [1, 11, 11, 32], False, [974, 75451], [666, 36570]],
    [[1, 19, 23, 22], [3, 3], [1, 19, 23, 33], False, [3447, 137933], [2517, 58941]],
    [[1, 100, 50, 32], [3, 3], [1, 98, 48, 32], True, [5542, 96073], [2333, 52862]],
    [[1, 20, 20, 25], [7, 7], [1, 18, 9, 25], True, [918, 12772], [660, 5901]],
]
"""ESP-DL's table of operator performance."""
TWO_CORES = {"imagenet_cls_mobilenetv2_s8_v1": {"esp32s3": 867.0, "esp32p4": 223.0}}


def load(ops: Path | None) -> dict[str, Any]:
    """Return the recorded figures, or those of a list of models with their ops."""
    if ops is not None:
        return kept(json.loads(ops.read_text(encoding="utf-8")))
    value: dict[str, Any] = json.loads(gzip.decompress(ROWS.read_bytes()))
    return value


def _total(works: Sequence[Work]) -> Work:
    return {kind: sum(work[kind] for work in works) for kind in KINDS}


def work_of_model(row: Mapping[str, Any]) -> Work:
    """Count the work of a published model."""
    caches = CHIPS[row["chip"]][1]
    works = []
    for op in row["ops"]:
        work = work_of(operation_of_row(op), caches, weights_in_flash=row["weights_in_flash"])
        if row["scalar_tables"] and op["type"] == "LUT" and op["width"] == "S16":
            work["scalar"], work["vector"] = work["scalar"] + 8 * work["vector"], 0.0
        works.append(work)
    return _total(works)


def kernel_operation(row: Sequence[Any]) -> Operation:
    """Describe a kernel of the table."""
    source, window, output, depthwise = row[:4]
    weights = (*window, source[-1], 1 if depthwise else output[-1])
    inputs = (
        Operand(8, tuple(source)),
        Operand(8, weights, True),
        Operand(32, (output[-1],), True),
    )
    return Operation("Conv", "S8", inputs, (Operand(8, tuple(output)),), tuple(window), depthwise)


def samples_of(figures: Mapping[str, Any]) -> list[Sample]:
    """Count the work of everything published."""
    made = [
        Sample(
            row["model"],
            row["family"],
            row["chip"],
            row["published_ms"],
            work_of_model(row),
            False,
        )
        for row in figures["models"]
    ]
    for row in figures["kernels"]:
        operation = kernel_operation(row)
        name = f"Conv {row[0]} {row[1]}" + (" depthwise" if row[3] else "")
        for chip, times in zip(CHIPS, row[4:], strict=True):
            work = work_of(operation, CHIPS[chip][1])
            made.append(Sample(name, "kernel", chip, times[0] / 1e3, work, True))
    return made


def first_guess(chip: str) -> np.ndarray:
    """Return the logarithms of the guessed constants, in nanoseconds."""
    megahertz = CHIPS[chip][0]
    guesses = {kind: 1e3 * cycles / megahertz for kind, cycles in CYCLES.items()}
    return np.log([{**guesses, **NANOSECONDS[chip]}[kind] for kind in KINDS])


@dataclass(frozen=True)
class Fit:
    """Constants and how sure they are, by chip, as logarithms."""

    values: Mapping[str, np.ndarray]
    covariances: Mapping[str, np.ndarray]

    def predict(self, sample: Sample) -> tuple[float, float]:
        """Return milliseconds, and the variance of their logarithm that the constants leave."""
        parts = np.array([sample.work[kind] for kind in KINDS]) * np.exp(self.values[sample.chip])
        slope = parts / parts.sum()
        variance = float(slope @ self.covariances[sample.chip] @ slope)
        return float(parts.sum() / 1e6), variance


def fit(samples: Sequence[Sample], left_out: Collection[str] = ()) -> Fit:
    """Fit the constants of both chips together, without some families."""
    used = [sample for sample in samples if sample.family not in left_out]
    chips, size = list(CHIPS), len(KINDS)
    in_cycles = [kind not in IN_BYTES for kind in KINDS]
    members = {
        key: sum((sample.family, sample.chip) == key for sample in used)
        for key in {(sample.family, sample.chip) for sample in used}
    }
    counts = np.array([[sample.work[kind] for kind in KINDS] for sample in used]) / 1e6
    measured = np.log([sample.milliseconds for sample in used])
    places = np.array([chips.index(sample.chip) for sample in used])
    deviation = np.array(
        [_deviation(sample, members[sample.family, sample.chip]) for sample in used]
    )
    guesses = {chip: first_guess(chip) for chip in chips}
    clocks = {chip: np.log(1e3 / CHIPS[chip][0]) for chip in chips}
    middle = guesses[chips[0]] - clocks[chips[0]]
    # The unknowns: constants by chip, then the mean in cycles that the chips' are drawn to.
    unknown = np.concatenate([*(guesses[chip] for chip in chips), middle])

    def look(at: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        errors: list[float] = []
        slopes: list[np.ndarray] = []

        def add(error: float, width: float, *steps: tuple[int, float]) -> None:
            slope = np.zeros(len(at))
            for place, value in steps:
                slope[place] = value
            errors.append(error / width)
            slopes.append(slope / width)

        for number, place in enumerate(places):
            mine = slice(place * size, (place + 1) * size)
            parts = counts[number] * np.exp(at[mine])
            slope = np.zeros(len(at))
            slope[mine] = parts / parts.sum()
            errors.append((np.log(parts.sum()) - measured[number]) / deviation[number])
            slopes.append(slope / deviation[number])
        shared = len(chips) * size
        for number, kind in enumerate(KINDS):
            width = WIDTHS.get(kind, WIDTH)
            for place, chip in enumerate(chips):
                own = place * size + number
                if in_cycles[number]:
                    apart = at[own] - clocks[chip] - at[shared + number]
                    add(apart, BETWEEN_CHIPS, (own, 1.0), (shared + number, -1.0))
                else:
                    add(at[own] - guesses[chip][number], width, (own, 1.0))
            add(at[shared + number] - middle[number], width, (shared + number, 1.0))
        return np.array(errors), np.array(slopes)

    errors, slopes = look(unknown)
    damping = 1e-3
    for _ in range(200):
        curvature = slopes.T @ slopes
        damped = curvature + damping * np.diag(np.diag(curvature))
        step = np.linalg.solve(damped, -slopes.T @ errors)
        there = look(unknown + np.clip(step, -1, 1))
        gained = errors @ errors - there[0] @ there[0]
        if gained > 0:
            unknown, (errors, slopes), damping = unknown + np.clip(step, -1, 1), there, damping / 3
            if gained < 1e-9:
                break
        else:
            damping *= 5
            if damping > 1e12:
                break
    covariance = np.linalg.inv(slopes.T @ slopes)
    parts = {chip: slice(n * size, (n + 1) * size) for n, chip in enumerate(chips)}
    return Fit(
        {chip: unknown[part] for chip, part in parts.items()},
        {chip: covariance[part, part] for chip, part in parts.items()},
    )


def _deviation(sample: Sample, members: int) -> float:
    if sample.is_kernel:
        return KERNEL
    return MODEL * float(np.sqrt(max(1.0, members / IN_FAMILY)))


@dataclass(frozen=True)
class Unseen:
    """A model as it was predicted without its family."""

    sample: Sample
    milliseconds: float
    variance: float

    @property
    def logarithm(self) -> float:
        """Return the logarithm of predicted over published."""
        return float(np.log(self.milliseconds / self.sample.milliseconds))

    @property
    def error(self) -> float:
        """Return the relative error."""
        return self.milliseconds / self.sample.milliseconds - 1


def leave_out(samples: Sequence[Sample]) -> list[Unseen]:
    """Predict every model from the fit to all other families."""
    models = [sample for sample in samples if not sample.is_kernel]
    made = []
    for family in sorted({sample.family for sample in models}):
        without = fit(samples, [family])
        made += [
            Unseen(sample, *without.predict(sample)) for sample in models if sample.family == family
        ]
    return made


def interval_of(unseen: Sequence[Unseen]) -> tuple[float, float]:
    """Return the spread beside the constants' own, and how many of both hold nine of ten models."""
    by_family: dict[str, list[float]] = {}
    for model in unseen:
        by_family.setdefault(model.sample.family, []).append(model.logarithm**2 - model.variance)
    surplus = float(np.mean([np.mean(values) for values in by_family.values()]))
    spread = float(np.sqrt(max(surplus, 0.05**2)))
    scores = [abs(model.logarithm) / np.sqrt(spread**2 + model.variance) for model in unseen]
    return spread, max(1.0, float(np.quantile(scores, QUANTILE)))


def constants_of(samples: Sequence[Sample], figures: Mapping[str, Any]) -> dict[str, Any]:
    """Return the file of constants."""
    fitted, unseen = fit(samples), leave_out(samples)
    chips: dict[str, Any] = {}
    for chip, (_, caches) in CHIPS.items():
        spread, factor = interval_of([model for model in unseen if model.sample.chip == chip])
        chips[chip] = _entry(
            "published figures", True, fitted.values[chip], caches, fitted.covariances[chip]
        )
        chips[chip].update(
            spread=round(spread, 4),
            interval_factor=round(factor, 4),
            cores=2,
            second_core=round(second_core(figures, fitted, chip), 3),
        )
    chips["esp32s31"] = {
        **chips["esp32p4"],
        "source": "the ESP32-P4's, whose vector unit it shares",
        "absolute": False,
    }
    plain = _entry("ESP-DL's kernels in C", False, _plain(figures), Caches(32 << 10), None)
    for chip in ("c", "esp32", "esp32c2", "esp32c3", "esp32c5", "esp32c6", "esp32s2"):
        chips[chip] = {**plain, "cores": 2 if chip == "esp32" else 1}
    return {"kinds": list(KINDS), "chips": chips}


def _plain(figures: Mapping[str, Any]) -> np.ndarray:
    """Return constants of kernels without vectors, from the table's figures in C on the S3."""
    per_product: dict[bool, list[float]] = {True: [], False: []}
    for row in figures["kernels"]:
        per_product[row[3]].append(1e3 * row[4][1] / kernel_operation(row).macs)
    conv, depthwise = (float(np.median(per_product[key])) for key in (False, True))
    cycle = 1e3 / CHIPS["esp32s3"][0]
    values = {
        **{kind: CYCLES.get(kind, 0) * cycle for kind in KINDS},
        "mac8": 16 * conv,
        "mac8_ragged": 16 * conv,
        "mac16": 8 * conv,
        "mac16_ragged": 8 * conv,
        "depthwise": 16 * depthwise,
        "vector": 16 * CYCLES["scalar"] * cycle,
        **NANOSECONDS["esp32s3"],
    }
    return np.log([values[kind] for kind in KINDS])


def _entry(
    source: str,
    absolute: bool,
    logarithms: np.ndarray,
    caches: Caches,
    covariance: np.ndarray | None,
) -> dict[str, Any]:
    values = dict(zip(KINDS, np.exp(logarithms), strict=True))
    lines = [] if covariance is None else covariance.tolist()
    return {
        "source": source,
        "absolute": absolute,
        "nanoseconds": {kind: float(f"{value:.5g}") for kind, value in values.items()},
        "caches": {"data": caches.data, "inner": caches.inner},
        "covariance": [[float(f"{number:.4g}") for number in line] for line in lines],
        "spread": 0.0,
        "interval_factor": 1.645,
        "cores": 1,
        "second_core": 0.0,
    }


def second_core(figures: Mapping[str, Any], fitted: Fit, chip: str) -> float:
    """Return the share of weights read again that two cores save, by what is published of both."""
    values = dict(zip(KINDS, map(float, np.exp(fitted.values[chip])), strict=True))
    shares = []
    for row in figures["models"]:
        published = figures["two_cores"].get(row["model"], {}).get(chip)
        if published is None or row["chip"] != chip:
            continue
        whole = halved = again = 0.0
        for operation in map(operation_of_row, row["ops"]):
            work = work_of(operation, CHIPS[chip][1])
            whole += sum(work[kind] * values[kind] for kind in KINDS)
            if is_split(operation):
                halved += sum(work[kind] * values[kind] for kind in COMPUTED) / 2
                again += sum(work[kind] * values[kind] for kind in READ_AGAIN)
        saved = (1 - published / row["published_ms"]) * whole - halved
        shares.append(saved / again if again else 0.0)
    return min(max(float(np.mean(shares)), 0.0), 0.5) if shares else 0.0


def two_core_ratios(figures: Mapping[str, Any], fitted: Fit) -> list[tuple[str, str, float, float]]:
    """Return model, chip, and the two cores' time over one core's, predicted and published."""
    made = []
    for row in figures["models"]:
        published = figures["two_cores"].get(row["model"], {}).get(row["chip"])
        if published is None:
            continue
        chip, caches = row["chip"], CHIPS[row["chip"]][1]
        values = dict(zip(KINDS, map(float, np.exp(fitted.values[chip])), strict=True))
        saved = second_core(figures, fitted, chip)
        constants = Constants(chip, "fit", True, values, caches, second_core=saved)
        both, single = (
            sum(
                layer_milliseconds(op, work_of(op, caches), constants, Deployment(cores=cores))
                for op in map(operation_of_row, row["ops"])
            )
            for cores in (2, 1)
        )
        made.append((row["model"], chip, both / single, published / row["published_ms"]))
    return made


def seen_error(fitted: Fit, sample: Sample) -> float:
    """Return the relative error of a fit on what it may have seen."""
    return fitted.predict(sample)[0] / sample.milliseconds - 1


def report(samples: Sequence[Sample], figures: Mapping[str, Any], verbose: bool) -> list[str]:
    """Return what the validation comes to."""
    unseen, fitted = leave_out(samples), fit(samples)
    lines = []
    for chip in CHIPS:
        here = [model for model in unseen if model.sample.chip == chip]
        errors = np.abs([model.error for model in here])
        families: dict[str, list[float]] = {}
        for model in here:
            families.setdefault(model.sample.family, []).append(abs(model.error))
        of_families = np.median([np.median(values) for values in families.values()])
        spread, factor = interval_of(here)
        inside = [abs(o.logarithm) <= factor * np.sqrt(spread**2 + o.variance) for o in here]
        lines.append(
            f"{chip}: {len(here)} models of {len(families)} families, each without its family: "
            f"median error {np.median(errors):.1%}, of families {of_families:.1%}, nine in ten "
            f"within {np.quantile(errors, 0.9):.1%}, largest {errors.max():.1%}, "
            f"within 35 %: {np.mean(errors <= 0.35):.0%}; in the interval: {np.mean(inside):.0%}"
        )
        if verbose:
            lines += [
                f"  {model.sample.name}: {model.milliseconds:.4g} ms "
                f"of {model.sample.milliseconds:g} "
                f"({model.error:+.0%}; seen, {seen_error(fitted, model.sample):+.0%})"
                for model in here
            ]
            kernels = [sample for sample in samples if sample.is_kernel and sample.chip == chip]
            lines += [
                f"  {sample.name}: {fitted.predict(sample)[0]:.3g} ms of {sample.milliseconds:g} "
                f"({seen_error(fitted, sample):+.0%}, seen)"
                for sample in kernels
            ]
            guessed, values = np.exp(first_guess(chip)), np.exp(fitted.values[chip])
            sure = np.sqrt(np.diag(fitted.covariances[chip]))
            lines += [
                f"  {kind}: {value:.3g} ns (guessed {guess:.3g}; known within {100 * width:.0f} %)"
                for kind, value, guess, width in zip(KINDS, values, guessed, sure, strict=True)
            ]
    by_name = {(one.sample.name, one.sample.chip): one for one in unseen}
    for wide, narrow, chip in (
        ("pp_ocr_v6_rec_s16", "pp_ocr_v6_rec_s8", "esp32p4"),
        ("coco_detect_yolo11n_s8_v1", "coco_detect_yolo11n_320_s8_v1", "esp32p4"),
        ("coco_detect_yolo11n_s8_v1", "coco_detect_yolo11n_320_s8_v1", "esp32s3"),
        ("espdet_pico_416_416_cat", "espdet_pico_224_224_cat", "esp32p4"),
        ("espdet_pico_416_416_cat", "espdet_pico_224_224_cat", "esp32s3"),
    ):
        pair = by_name.get((wide, chip)), by_name.get((narrow, chip))
        if pair[0] is not None and pair[1] is not None:
            predicted = pair[0].milliseconds / pair[1].milliseconds
            published = pair[0].sample.milliseconds / pair[1].sample.milliseconds
            lines.append(
                f"{chip}: {wide} over {narrow}: {predicted:.2f}, published {published:.2f} "
                f"({predicted / published - 1:+.0%})"
            )
    lines += [
        f"{chip}: {model} on two cores over one: {predicted:.2f}, published {published:.2f} (seen)"
        for model, chip, predicted, published in two_core_ratios(figures, fitted)
    ]
    return lines


def main(arguments: Sequence[str] | None = None) -> None:
    """Fit, validate and print; write where asked."""
    parser = argparse.ArgumentParser(prog="python -m benchmarks.latency")
    parser.add_argument("--ops", type=Path, help="published models with their ops, as JSON")
    parser.add_argument("--keep", action="store_true", help="record what --ops holds")
    parser.add_argument("--write", action="store_true", help=f"write {CONSTANTS}")
    parser.add_argument("--verbose", action="store_true", help="every model, kernel and constant")
    asked = parser.parse_args(arguments)
    figures = load(asked.ops)
    if asked.keep:
        content = json.dumps(figures, separators=(",", ":")).encode()
        ROWS.write_bytes(gzip.compress(content, 9, mtime=0))
    samples = samples_of(figures)
    print("\n".join(report(samples, figures, asked.verbose)))
    if asked.write:
        value = constants_of(samples, figures)
        CONSTANTS.write_text(json.dumps(value, separators=(",", ":")) + "\n", encoding="utf-8")


if __name__ == "__main__":
    main()
