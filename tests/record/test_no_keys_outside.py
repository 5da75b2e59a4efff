"""No JSON key of the output folder stands outside the package that owns it."""

from __future__ import annotations

import ast
from dataclasses import fields
from pathlib import Path

import espdl_quantize
from espdl_quantize.contract import QuantConfig
from espdl_quantize.record import IterationRecord, OnChip, Signals, applied, files, float_reference
from espdl_quantize.record import metrics as metrics_file
from espdl_quantize.setting import Setting

PACKAGE = Path(espdl_quantize.__file__).parent

EXEMPT = {
    "report": "comparison.json repeats keys of the iterations",
    "chip": "writes the content of chip_check.json, which the record repeats in part",
    "contract": "the keys of QUANT_CONFIG, and the fields of an Origin, have the same names",
    "tuning/_repeat.py": "writes repeat.json and confirmed.json",
    "gate/stages/evaluation.py": "names the facts that check prints",
    "cli/_dry_run.py": "prints JSON of its own",
    "cli/repeat.py": "reads the draws of repeat.json",
    "mcp/arguments.py": "names the arguments of tools",
    "worker/_contract_job.py": "sends the facts of a contract, in the fields of BackendFacts",
    "worker/_runner.py": "reads the facts of a contract, in the fields of BackendFacts",
    "iteration/_outcome.py": "reads the facts of a contract, in the fields of BackendFacts",
    "tuning/ray/backend.py": "passes options of an iteration on",
    "iteration/_per_sample.py": "an evaluation may return a key of that name",
}
"""Modules and packages that may name such keys, and why."""

COMMON = {"model_name", "esp_ppq_version", "esp_ppq_setting", "iteration_id"}
"""Keys whose names other things have, too."""


def json_keys() -> set[str]:
    """The keys that are distinctive: no single words, and no names of other schemas."""
    keys: set[str] = set()
    for record in (IterationRecord, OnChip, Signals):
        for name, field in vars(record)["__pydantic_fields__"].items():
            keys.add(field.serialization_alias or name)
    keys |= {*metrics_file.KEYS, *applied.KEYS, *float_reference.KEYS}
    others = {*QuantConfig.model_fields, *Setting.model_fields, *COMMON}
    return {key for key in keys if "_" in key} - others


def literals(file: Path) -> set[str]:
    """Every string of a module that is no docstring."""
    return {
        node.value
        for node in ast.walk(ast.parse(file.read_text(encoding="utf-8")))
        if isinstance(node, ast.Constant) and isinstance(node.value, str)
    }


def is_exempt(module: str) -> bool:
    return any(module == name or module.startswith(f"{name}/") for name in EXEMPT)


def test_the_keys_are_those_of_the_folder() -> None:
    expected = {
        "primary_value",
        "float_reference_key",
        "top_5_error_layers",
        "applied_setting_warnings",
        "elapsed_by_stage",
        "_primary_key",
        "resolved_setting",
        "doubts_count",
    }
    assert expected <= json_keys()
    assert {field.name for field in fields(IterationRecord)} >= {"value", "warnings"}


def test_no_key_stands_outside_record() -> None:
    keys = json_keys()
    found = {}
    for file in sorted(PACKAGE.rglob("*.py")):
        module = file.relative_to(PACKAGE).as_posix()
        named = literals(file) & keys
        if named and not module.startswith("record/") and not is_exempt(module):
            found[module] = sorted(named)
    assert found == {}


def test_every_exemption_is_needed() -> None:
    keys = json_keys()
    for name in EXEMPT:
        place = PACKAGE / name
        files = sorted(place.rglob("*.py")) if place.is_dir() else [place]
        assert any(literals(file) & keys for file in files), f"{name} needs no exemption any more"


def test_no_file_name_stands_outside_record() -> None:
    names = {name for name in {*files.OUTPUT_FILES, *files.ITERATION_FILES} if "." in name[1:]}
    assert {"model.espdl", "iteration_index.json", "setting.json", "report.html"} <= names
    outside = {
        module: sorted(literals(file) & names)
        for file in sorted(PACKAGE.rglob("*.py"))
        if not (module := file.relative_to(PACKAGE).as_posix()).startswith("record/")
        and literals(file) & names
    }
    assert outside == {}, "read them from record.files"
