"""The arguments of tools: schemas that say all there is to know, and errors that name the nearest.

What a tool does not know is refused: a misspelt argument that is dropped runs something else.
"""

from __future__ import annotations

import difflib
from collections.abc import Mapping
from typing import Any

from pydantic import ValidationError

from espdl_quantize.core import UsageError
from espdl_quantize.mcp.texts import shortened
from espdl_quantize.setting import Setting

Schema = dict[str, Any]
_SHOWN = 60
_OTHER_NAMES = {
    "max_iterations": "iterations",
    "n_iterations": "iterations",
    "budget": "iterations",
    "rounds": "iterations",
    "timeout": "wait_seconds",
    "user_quant": "contract",
    "contract_path": "contract",
    "path": "output_dir",
    "id": "job_id",
    "force": "force_finalize",
}
"""What other clients have called an argument."""


def compact(schema: Schema) -> Schema:
    """Return a JSON Schema without references, titles and nulls, which says no less.

    Objects with named properties allow no others.
    """
    definitions = schema.get("$defs", {})
    made: Schema = _compact(
        {key: value for key, value in schema.items() if key != "$defs"}, definitions
    )
    return made


def _compact(schema: Any, definitions: Mapping[str, Any]) -> Any:
    if not isinstance(schema, dict):
        return schema
    if "$ref" in schema:
        name = schema["$ref"].rpartition("/")[2]
        rest = {key: value for key, value in schema.items() if key != "$ref"}
        return _compact({**definitions[name], **rest}, definitions)
    choices = [choice for choice in schema.get("anyOf", []) if choice != {"type": "null"}]
    made = {key: value for key, value in schema.items() if key not in ("title", "anyOf")}
    if len(choices) == 1:
        made = {**_compact(choices[0], definitions), **made}
    elif choices:
        made["anyOf"] = [_compact(choice, definitions) for choice in choices]
    if made.get("default", 0) is None:
        del made["default"]
    if made.get("default") == "" or made.get("default") == {}:
        del made["default"]
    if isinstance(made.get("properties"), dict):
        made["properties"] = {
            name: _compact(one, definitions) for name, one in made["properties"].items()
        }
        made["additionalProperties"] = False
    if isinstance(made.get("items"), dict):
        made["items"] = _compact(made["items"], definitions)
    if isinstance(made.get("additionalProperties"), dict):
        made["additionalProperties"] = _compact(made["additionalProperties"], definitions)
    return made


def compact_output(schema: Schema) -> Schema:
    """Return the schema of a result: its fields, and of what lies deeper only its type.

    Nothing is required, since what is empty is left out.
    """
    return _shallow(compact(schema), 1)


def _shallow(schema: Schema, depth: int) -> Schema:
    made = {key: value for key, value in schema.items() if key not in ("required", "default")}
    if isinstance(made.get("items"), dict):
        made["items"] = _shallow(made["items"], depth)
    if isinstance(made.get("anyOf"), list):
        made["anyOf"] = [_shallow(choice, depth) for choice in made["anyOf"]]
    if "properties" in made:
        del made["additionalProperties"]
        inner = made.pop("properties")
        if depth > 0:
            made["properties"] = {name: _shallow(one, depth - 1) for name, one in inner.items()}
    return made


def _setting_schema() -> Schema:
    schema = compact(Setting.model_json_schema(by_alias=False))
    schema["description"] = "A setting; what is left out is esp-ppq's default, a pass is off."
    del schema["required"]
    properties = schema["properties"]
    properties["iteration_id"]["description"] = "May be left out."
    seen: set[str] = set()
    for section in properties.values():
        fields = section.get("properties", {})
        if "enabled" in fields:
            fields["enabled"] = {"type": "boolean", "default": False}
        for one in fields.values():
            text = one.pop("description", "").partition(". ")[0].rstrip(".")
            # What several passes have is explained once.
            if text and text not in seen:
                one["description"] = text
            seen.add(text)
    return schema


SETTING_SCHEMA = _setting_schema()
"""Of a setting, from its model."""


def refuse_unknown(tool: str, arguments: Mapping[str, Any], schema: Schema) -> None:
    """Refuse arguments that a tool does not have, and numbers that are yes or no.

    Raises:
        UsageError: names each, and the nearest that the tool does have.
    """
    properties = schema.get("properties", {})
    faults = [_unknown(name, properties) for name in arguments if name not in properties]
    for name, value in arguments.items():
        wanted = properties.get(name, {}).get("type")
        if isinstance(value, bool) and wanted in ("integer", "number"):
            faults.append(f"{name} is {value}, expected a number")
    if faults:
        known = ", ".join(properties) or "none"
        raise UsageError(
            shortened(f"{tool}: {'; '.join(faults[:5])}", 600), f"the arguments of {tool}: {known}"
        )


def _unknown(name: str, properties: Mapping[str, Any]) -> str:
    shown = shortened(repr(name), _SHOWN)
    grouped = properties.get("options", {}).get("properties", {})
    if name in grouped:
        return f'{shown} is one of its options: "options": {{"{name}": ...}}'
    close = _nearest(name, [*properties, *grouped])
    if close is None:
        return f"unknown argument {shown}"
    where = f"options.{close}" if close in grouped else close
    return f"unknown argument {shown}, did you mean {where!r}?"


def _nearest(name: str, known: list[str]) -> str | None:
    other = _OTHER_NAMES.get(name.lower())
    if other in known:
        return other
    close = difflib.get_close_matches(name.lower()[:_SHOWN], known, n=1, cutoff=0.6)
    return close[0] if close else None


def describe_faults(tool: str, error: ValidationError, schema: Schema) -> UsageError:
    """Return what is wrong with arguments, in the words of the tool's schema."""
    faults = list(dict.fromkeys(_fault(fault, schema) for fault in error.errors()))
    return UsageError(
        shortened(f"{tool}: {'; '.join(faults[:5])}", 800),
        f"the input schema of {tool} has types, ranges and choices",
    )


def _fault(fault: Any, schema: Schema) -> str:
    names = [str(part) for part in fault["loc"]]
    place, at = ".".join(names), schema
    for name in names[:-1]:
        at = at.get("properties", {}).get(name, {})
    if fault["type"] == "extra_forbidden":
        return _unknown(names[-1], at.get("properties", {})) + f" (in {'.'.join(names[:-1])})"
    if fault["type"] == "missing":
        return f"{place} is missing"
    value = shortened(repr(fault["input"]), _SHOWN)
    return f"{place} is {value}: {_lower(fault['msg'])}"


def _lower(text: str) -> str:
    return text[:1].lower() + text[1:]
