"""A pass is known in one place: whoever asks for passes reads the table."""

from __future__ import annotations

import ast
import re
from collections.abc import Iterator
from pathlib import Path

import pytest

import espdl_quantize
from espdl_quantize.core import Engine
from espdl_quantize.setting import BLOCK_PASSES, PASSES, TRAINING_PASSES, Setting

PACKAGE = Path(espdl_quantize.__file__).parent
TABLE = "setting/passes.py"
LEVERS = "search/levers/"
MAY_NAME_A_PASS = {
    LEVERS: "a lever turns its own pass on",
    "ppq/canary.py": "trains a tiny block by both engines",
    "search/triggers/": "a rule of the playbook asks for a pass by its name",
    "search/_sweep.py": "the sweep is of calibrations with TQT",
    "search/_notes.py": "tells which calibrations of the sweep are open",
    "search/_crashes.py": "a sweep whose TQT leaves out crashed layers is the sweep still",
    "search/_lint.py": "TQT has limits, and two of its numbers are one step of a schedule",
    "search/_axes.py": "the split layers are an axis that grows layer by layer",
    "search/swift.py": "its own order: what is cheap first, then TQT of what came out of it",
    "search/policies/": "the split layers are an axis; a calibration is judged together with TQT",
}
"""By file or folder, why it names a pass and does not ask the table."""


def names_in(file: Path) -> Iterator[str]:
    """Yield the passes that a file's code names: as a string, an attribute or an argument."""
    tree = ast.parse(file.read_text(encoding="utf-8"))
    documentation = {
        id(node.value)
        for node in ast.walk(tree)
        if isinstance(node, ast.Expr) and isinstance(node.value, ast.Constant)
    }
    for node in ast.walk(tree):
        if isinstance(node, ast.Attribute):
            yield from {node.attr} & PASSES.keys()
        elif isinstance(node, ast.keyword):
            yield from {str(node.arg)} & PASSES.keys()
        elif isinstance(node, ast.Constant) and id(node) not in documentation:
            yield from (name for name in PASSES if is_named(name, str(node.value)))


def is_named(name: str, text: str) -> bool:
    # "equalization" is a word of messages, too.
    whole = rf"{name}(\.\w+)?" if "_" not in name else rf".*\b{name}\b.*"
    return re.fullmatch(whole, text, flags=re.DOTALL) is not None


def files_by_pass() -> dict[str, set[str]]:
    by_pass: dict[str, set[str]] = {name: set() for name in PASSES}
    for file in sorted(PACKAGE.rglob("*.py")):
        for name in names_in(file):
            by_pass[name].add(file.relative_to(PACKAGE).as_posix())
    return by_pass


def test_who_names_a_pass_has_a_reason() -> None:
    allowed = (TABLE, *MAY_NAME_A_PASS)
    for name, files in files_by_pass().items():
        others = {file for file in files if not file.startswith(allowed)}
        assert not others, f"{name}: read PASSES instead, or say why not in MAY_NAME_A_PASS"


def test_a_pass_is_the_table_and_one_lever() -> None:
    files = files_by_pass()["channel_split"]
    assert TABLE in files
    assert len(files) == 2
    assert all(file.startswith((TABLE, LEVERS)) for file in files)


def test_esp_ppq_has_every_pass_but_our_own() -> None:
    from esp_ppq.api.setting import QuantizationSetting

    known = vars(QuantizationSetting())
    for name, spec in PASSES.items():
        assert spec.own == (name not in known)
        assert spec.own == (spec.parameters not in known)


def test_the_table_names_the_fields_of_a_setting() -> None:
    fields = [name for name in Setting.model_fields if name in PASSES]
    assert fields == [name for name in fields if PASSES[name].field == name]
    assert set(fields) == set(PASSES)


@pytest.mark.parametrize("name", PASSES)
def test_the_table_fits_the_section_of_a_pass(name: str) -> None:
    spec = PASSES[name]
    fields = spec.model.model_fields
    assert "interested_layers" in fields
    assert set(spec.shown) <= set(fields)
    assert {knob.field for knob in spec.knobs} <= set(fields)
    assert all(isinstance(variant, spec.model) and variant.enabled for variant in spec.variants)
    assert set(spec.excludes) <= set(PASSES)
    assert spec.trains == (name in TRAINING_PASSES)
    assert bool(spec.why_off) == (spec.on_power_of_two == "off")
    for knob in spec.knobs:
        assert list(knob.values) == sorted(knob.values)
    # A pass with steps takes its time by them; one without goes over the graph.
    assert spec.goes_by_blocks == ("steps" in fields) == (name in BLOCK_PASSES)
    assert (spec.forwards_per_step is not None) == spec.goes_by_blocks
    if spec.forwards_per_step is not None:
        assert set(spec.forwards_per_step) == set(Engine)
