"""Writes the parts of the skill that follow from the package; ``--check`` only compares.

    python skill/generate.py

Run it after a change of the starter contracts, of the setting's fields, of QUANT_CONFIG, of the
search's thresholds, of the examples' contracts or of the dependencies.
"""

from __future__ import annotations

import dataclasses
import json
import re
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

ROOT = Path(__file__).resolve().parent.parent
SKILL = ROOT / "skill" / "espdl-quantize"

_BLOCK = re.compile(r"(<!-- generated: (\w+) -->\n).*?(<!-- end -->)", re.DOTALL)


def main() -> int:
    """Write what differs, or name it under ``--check``.

    Returns:
        1 where ``--check`` found a difference.
    """
    stale = [path for path, text in wanted().items() if _read(path) != text]
    if "--check" not in sys.argv[1:]:
        for path in stale:
            path.write_text(wanted()[path], encoding="utf-8")
    for path in stale:
        print(path.relative_to(ROOT))
    return int(bool(stale) and "--check" in sys.argv[1:])


def wanted() -> dict[Path, str]:
    """Return every file that is generated, whole or in part, with its content."""
    from espdl_quantize.contract import starter_contract

    assets = SKILL / "assets"
    found = {
        assets / "user_quant_torch_example.py": starter_contract("torch"),
        assets / "user_quant_onnx_example.py": starter_contract("onnx"),
        assets / "extra_requirements.txt": _requirements(),
    }
    for name, folder in (
        ("classifier", "fashion_mnist"),
        ("detector", "scene_detector"),
        ("recurrent", "fashion_gru"),
    ):
        source = ROOT / "examples" / folder / "user_quant.py"
        found[assets / f"example_{name}.py"] = source.read_text(encoding="utf-8")
    for path in sorted((SKILL / "references").glob("*.md")):
        text = _read(path)
        if _BLOCK.search(text):
            found[path] = _BLOCK.sub(_fill, text)
    return found


def _fill(match: re.Match[str]) -> str:
    makers = {
        "config_keys": _config_keys,
        "setting_fields": _setting_fields,
        "thresholds": _thresholds,
    }
    return f"{match[1]}{chr(10).join(makers[match[2]]())}\n{match[3]}"


def _read(path: Path) -> str:
    return path.read_text(encoding="utf-8") if path.exists() else ""


def _requirements() -> str:
    text = (ROOT / "pyproject.toml").read_text(encoding="utf-8")
    listed = re.search(r"^dependencies = \[(.*?)^\]", text, re.DOTALL | re.MULTILINE)
    assert listed is not None
    names = [
        name
        for name in re.findall(r'"([^"]+)"', listed[1])
        if not name.startswith(("torch", "esp-ppq"))
    ]
    head = (
        "# What espdl-quantize needs beside torch and esp-ppq. 'pip install espdl-quantize' brings",
        "# all of it; this list is for environments where that is to be done step by step.",
    )
    return "\n".join([*head, *names]) + "\n"


def _config_keys() -> Iterator[str]:
    from espdl_quantize.contract import QuantConfig
    from espdl_quantize.contract._config import _EXPECTED

    yield "| key | value | default |"
    yield "|---|---|---|"
    for name, field in QuantConfig.model_fields.items():
        expected, example = _EXPECTED[name]
        default = "required" if field.is_required() else f"`{json.dumps(field.default)}`"
        if name == "onnx_path":
            default = "required for onnx"
        yield f"| `{name}` | {expected}, such as `{example}` | {default} |"


def _setting_fields() -> Iterator[str]:
    from espdl_quantize.setting import json_schema

    schema = json.loads(json_schema())
    yield "| field | type | default | meaning |"
    yield "|---|---|---|---|"
    for name, field in schema["properties"].items():
        section = _section(field, schema["$defs"])
        told = field.get("description") or (section or {}).get("description", "")
        yield _row(name, {**field, "description": told}, name in schema.get("required", ()))
        for inner, inner_field in (section or {}).get("properties", {}).items():
            required = inner in (section or {}).get("required", ())
            yield _row(f"{name}.{inner}", inner_field, required)


def _row(name: str, field: dict[str, Any], required: bool) -> str:
    default = "required" if required else f"`{json.dumps(field.get('default'))}`"
    meaning = " ".join(field.get("description", "").replace("``", "`").split())
    return f"| `{name}` | {_kind(field)} | {default} | {meaning} |"


def _section(field: dict[str, Any], known: dict[str, Any]) -> dict[str, Any] | None:
    for form in [field, *field.get("anyOf", [])]:
        reference = form.get("$ref") or form.get("items", {}).get("$ref")
        if reference:
            section: dict[str, Any] = known[reference.rsplit("/", 1)[1]]
            return section
    return None


def _kind(field: dict[str, Any]) -> str:
    forms = [form for form in field.get("anyOf", [field]) if form.get("type") != "null"]
    return " or ".join(_kind_of(form) for form in forms)


def _kind_of(form: dict[str, Any]) -> str:
    if "enum" in form:
        return " / ".join(f"`{json.dumps(value)}`" for value in form["enum"])
    if "$ref" in form:
        return "object"
    kind = str(form["type"])
    if kind == "array":
        inner = form["items"]
        kinds = {"integer": "list of integers"}
        return (
            "list of objects" if "$ref" in inner else kinds.get(inner["type"], "list of op names")
        )
    limits = {"minimum": ">=", "exclusiveMinimum": ">"}
    told = [f"{sign} {form[key]:g}" for key, sign in limits.items() if key in form]
    return " ".join([kind, *told])


def _thresholds() -> Iterator[str]:
    from espdl_quantize.search import DEFAULT_THRESHOLDS

    document = type(DEFAULT_THRESHOLDS).__doc__ or ""
    told = dict(re.findall(r"^        (\w+): (.*?)(?=^        \w+: |\Z)", document, re.M | re.S))
    yield "| threshold | value | meaning |"
    yield "|---|---|---|"
    for field in dataclasses.fields(DEFAULT_THRESHOLDS):
        value = getattr(DEFAULT_THRESHOLDS, field.name)
        meaning = " ".join(told.get(field.name, "").split())
        yield f"| `{field.name}` | {value:g} | {meaning} |"


if __name__ == "__main__":
    sys.exit(main())
