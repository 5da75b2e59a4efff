"""Every file and folder name of an output folder and of an iteration's folder, once.

The two tables :data:`OUTPUT_FILES` and :data:`ITERATION_FILES` say what each of them holds; the
reference page of the files is made of them.
"""

from __future__ import annotations

import re
from pathlib import Path

# In an iteration's folder.
MODEL = "model.espdl"
TEST_MODEL = "model_test.espdl"
CARD = "model_card.json"
DEVICE = "device.json"
INFO = "model.info"
ESP_PPQ_CONFIG = "model.json"
NATIVE = "model.native"
SETTING = "setting.json"
APPLIED = "applied_setting_summary.json"
METRICS = "metrics.json"
SAMPLES = "samples.npz"
INDEX = "iteration_index.json"
LAYERWISE = "layerwise_error.json"
GRAPHWISE = "graphwise_error.json"
ALL_STATISTICS = "layer_stats_full.json"
STATISTICS = "layer_stats.json"
HOT_OPS = "non_computing_hot_ops.json"
JUMPS = "graphwise_jumps.json"
CHIP_CHECK = "chip_check.json"
CHIP_COST = "chip_cost.json"
WIDTHS = "int16_groups.json"
OPS = "simplified_ops.json"
LOG = "console.log"

# In an output folder.
FLOAT_REFERENCE = "float_reference.json"
COMPARISON = "comparison.json"
BEST = "best"
FRONT = "front"
"""The folder of the iterations that best does not beat in both score and time."""
FRONT_MARK = "front.json"
DESCRIPTION = ESP_PPQ_CONFIG
"""In ``best/``, where it is the model card with the scores and the setting."""
HTML_REPORT = "report.html"
REPORT = "final_report.md"
FINAL = "final"
"""The folder of the final scores."""
REPEAT = "repeat"
"""The folder of the draws of the calibration data, with a folder per setting."""
DRAWS = "repeat.json"
CONFIRMED = "confirmed.json"
REUSE = ".reuse"
"""The folder beside the iterations that keeps the results of long passes; safe to delete."""
LIVE = ".live.json"
"""What a search says of itself while it runs."""
LOCK = ".lock"
LOCK_HOLDER = ".lock.json"

SPILLED = "spilled"
"""The folder, while an iteration runs, of what lies on the disk because memory is short."""
FLOAT_MODEL = "float_model.onnx"
"""The exported float model, while an iteration runs."""

ITERATION_FILES = {
    MODEL: "the model for ESP-DL",
    TEST_MODEL: "the same model with a recorded calibration sample and its output, for ESP-DL's "
    "`model->test()`",
    CARD: "inputs and outputs with shape, layout and exponent; size, digest, ops and their widths",
    DEVICE: "what a board measured, once `device-log` has read its log",
    INFO: "the model as text; with `--info` the numbers of its weights, too",
    ESP_PPQ_CONFIG: "with `--info`: esp-ppq's quantization parameters",
    NATIVE: "with `--native`: esp-ppq's own graph",
    SETTING: "what was asked for",
    APPLIED: "what ran after the rules, warnings, facts of the chip, versions, seed",
    METRICS: "what evaluate returned, and the score in it, see below",
    SAMPLES: "numpy arrays, a row per scored sample: `results` (what evaluate returned as "
    "`per_sample`) or `replicates` (the metric on resampled samples, where the contract has "
    "`aggregate`) with `result_digests`, and of held-out samples `noise` and `agrees` by output "
    "with `digests`; nothing in it is pickled",
    INDEX: "the summary, see below; written last",
    LAYERWISE: "by computing op, noise:signal power at the model's outputs where it alone is "
    "quantized; worst first",
    GRAPHWISE: "by computing op, the noise:signal power accumulated up to its output",
    ALL_STATISTICS: "float, quantized and noise statistics of every variable, in esp-ppq's names",
    STATISTICS: "of those, the rows of the `top_k_layers` worst layers",
    HOT_OPS: "ops that the layerwise analysis does not cover (Add, Relu, Concat, ...), worst first",
    JUMPS: "pairs of neighbouring layers between which the error grows by more than the second "
    "explains",
    CHIP_CHECK: "whether the exported file obeys the chip's rules; how its integers agree",
    CHIP_COST: "what the exported file costs on the chip: flash, RAM, milliseconds with an "
    "interval, and every layer's time, also with 16 bits; as `espdl-quantize cost --json`",
    WIDTHS: "groups of ops through which an activation keeps its width: the noise at the outputs "
    "where one of them has 16 bits, or 8 in place of 16, all else being as it is",
    OPS: "every op of the simplified graph with its inputs and outputs; settings use these names",
    LOG: "everything that esp-ppq printed",
}
"""What an iteration writes, and what it is."""

ARTIFACTS = frozenset(ITERATION_FILES)
"""What an iteration writes; any other file in its folder is the user's and is kept."""

BEST_FILES = (MODEL, SETTING, METRICS, INDEX)
"""Copied to ``best/``."""
BEST_EXTRAS = (TEST_MODEL, INFO, CHIP_COST)
"""Copied to ``best/`` where the iteration has them: one of an earlier version has none."""

OUTPUT_FILES = {
    "iter_<N>/": "one iteration; folders with other names are not compared",
    FLOAT_REFERENCE: "the float model's score on your samples, taken once",
    "float_outputs_<function>.npz": "what the float model put out, at most 64 MB, for the signals",
    COMPARISON: "rewritten by every `compare` and by `tune`: ranks, warnings, the next step",
    f"{BEST}/": f"a copy of the best iteration's {', '.join(BEST_FILES[:1] + BEST_EXTRAS)}, "
    f"{', '.join(BEST_FILES[1:-1])} and {BEST_FILES[-1]}; and {DESCRIPTION}, see below",
    f"{FRONT}/": "the same files, in a folder each, of the iterations that are quicker on the chip "
    f"than best or score higher, none being beaten in both; {FRONT_MARK} lists them. Absent where "
    "there is none",
    HTML_REPORT: "the report with its charts; one file that opens offline",
    REPORT: "the report as text; rewritten while its first line, a marker, stands",
    f"{FINAL}/": "the final scores, see below",
    f"{REPEAT}/": "draws of the calibration data, see below",
    f"{REUSE}/": "results of long passes, for later iterations; at most 1 GiB, safe to delete",
    LIVE: "where a search stands while it runs, for `espdl-quantize watch`",
    f"{LOCK}`, `{LOCK_HOLDER}": "held by the process that writes; the second names it",
}
"""What lies in an output folder, and what it is."""

LARGEST_ITERATION = 999_999_999
"""Of the numbers of iterations."""

_ITERATION_NAME = re.compile(r"iter_(0|[1-9][0-9]{0,8})")


def iteration_name(number: int) -> str:
    """Return the name of an iteration, which is its folder's."""
    return f"iter_{number}"


def iteration_folder(outputs: Path, number: int) -> Path:
    """Return the folder of an iteration of an output folder."""
    return outputs / iteration_name(number)


def partial_folder(outputs: Path, number: int) -> Path:
    """Return the folder that an iteration is written to while it runs."""
    return outputs / f".{iteration_name(number)}.partial"


def iteration_number(folder: Path) -> int | None:
    """Return N of a folder named ``iter_N``, None for another name, which no history reads."""
    match = _ITERATION_NAME.fullmatch(folder.name)
    return int(match.group(1)) if match else None


def float_outputs(outputs: Path, function: str) -> Path:
    """Return the file that keeps the float model's outputs of one function of the contract."""
    return outputs / f"float_outputs_{function}.npz"
