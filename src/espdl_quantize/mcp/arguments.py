"""The arguments of tools: schemas that say all there is to know, and errors that name the nearest.

What a tool does not know is refused: a misspelt argument that is dropped runs something else.
"""

from __future__ import annotations

import copy
import difflib
from collections.abc import Mapping
from itertools import groupby
from typing import Any

from pydantic import ValidationError

from espdl_quantize.core import UsageError
from espdl_quantize.mcp.texts import shortened
from espdl_quantize.setting import Setting

Schema = dict[str, Any]
_SHOWN = 60
_LEADS_ON = ("job_id", "state", "next")
"""Of a result that several tools return: what the others show of it."""
_WORTH_A_LOOK = 4
_IN_EVERY_RESULT = ("untrusted", "cut")
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
    if "enum" in made or "const" in made:
        made.pop("type", None)
    if made.get("additionalProperties") is True:
        del made["additionalProperties"]
    if "description" in made:
        made["description"] = " ".join(made["description"].split())
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
    """Return the schema of a result: the names, types and choices of its fields.

    Nothing is required, since what is empty is left out. What a field means is said by its name,
    by the tool and by the guide; only choices are explained here.
    """
    fields = compact(schema)["properties"]
    return {"type": "object", "properties": {name: _shape(one) for name, one in fields.items()}}


def _shape(schema: Schema) -> Schema:
    if "enum" in schema:
        return {key: schema[key] for key in ("enum", "description") if key in schema}
    if "anyOf" in schema:
        return {"anyOf": [_shape(choice) for choice in schema["anyOf"]]}
    return {key: schema[key] for key in ("type",) if key in schema}


def _setting_schema() -> Schema:
    schema = compact(Setting.model_json_schema(by_alias=False))
    schema["description"] = "A setting; what is left out is esp-ppq's default, a pass is off."
    del schema["required"]
    properties = schema["properties"]
    properties["iteration_id"]["description"] = "May be left out."
    explained: set[str] = set()
    sections: dict[str, Schema] = {}
    for name, section in properties.items():
        section.pop("propertyNames", None)
        fields = section.get("properties", {})
        for one in (section, *section.get("items", {}).get("properties", {}).values()):
            one["description"] = one["description"].partition(". ")[0].rstrip(".")
        if "enabled" in fields:
            fields["enabled"] = {"type": "boolean", "default": False}
        for one in fields.values():
            text = one.pop("description", "").partition(". ")[0].rstrip(".")
            # What several passes have is explained once.
            if text and text not in explained:
                one["description"] = text
            explained.add(text)
        alike = _most_alike(fields, sections)
        if fields:
            sections[name] = copy.deepcopy(fields)
        if alike is not None:
            _refer(section, alike, sections[alike])
    return schema


def _refer(section: Schema, name: str, others: Schema) -> None:
    """Leave out what the fields of a section have as those of an earlier one have it."""
    fields = section["properties"]
    for field in _alike(fields, others):
        fields[field] = {}
    own = " where nothing is said" if any(fields.values()) else ""
    text = section["description"].rstrip(".")
    section["description"] = f"{text}; types and defaults{own} as in {name}."


def _most_alike(fields: Schema, sections: Mapping[str, Schema]) -> str | None:
    """Return the earlier section that says most of the same, if that is worth a look at it."""
    counts = {name: len(_alike(fields, others)) for name, others in sections.items()}
    name = max(counts, key=counts.__getitem__, default=None)
    return name if name is not None and counts[name] >= _WORTH_A_LOOK else None


def _alike(fields: Schema, others: Schema) -> list[str]:
    """Return the fields that have the same types, ranges and defaults in both."""
    return [
        name
        for name, field in fields.items()
        if name in others and _silent(field) == _silent(others[name])
    ]


def _silent(schema: Schema) -> Schema:
    return {key: value for key, value in schema.items() if key != "description"}


SETTING_SCHEMA = _setting_schema()
"""Of a setting, from its model: types, ranges, units, defaults and choices. One tool shows it."""
SETTING_NAMES: Schema = {
    "type": "object",
    "description": "A setting, as run_iteration's schema has it.",
    "properties": {name: {} for name in SETTING_SCHEMA["properties"]},
    "additionalProperties": False,
}
"""The same for a second tool of the same list: the names alone."""

SETTING_FILE: Schema = {
    "type": "string",
    "pattern": r"\.json$",
    "description": "Path of one, or of a quant_setting.json that esp-ppq saved.",
}


def say_once(tools: Mapping[str, tuple[Schema, Schema | None]]) -> None:
    """Leave out what an earlier tool of the same list says, since a list is read as a whole.

    Args:
        tools: by name the schemas of arguments and result, in the list's order; they are changed.
            Grouped options refer to an earlier tool's where they are the same. A result that an
            earlier tool has, too, keeps the fields that lead on, and what every result has is said
            once.
    """
    groups: dict[str, Schema] = {}
    results: list[Schema] = []
    for tool, (arguments, result) in tools.items():
        options = arguments.get("properties", {}).get("options")
        if options is not None:
            options.pop("default", None)
            fields = copy.deepcopy(options["properties"])
            alike = _most_alike(fields, groups)
            if alike is not None:
                _refer(options, f"{alike}'s options", groups[alike])
            groups[tool] = fields
        if result is None:
            continue
        seen = result in results
        results.append(copy.deepcopy(result))
        if seen:
            result["properties"] = {name: {"type": "string"} for name in _LEADS_ON}
        elif len(results) > 1:
            for name in _IN_EVERY_RESULT:
                result["properties"].pop(name, None)


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
    faults = []
    for name, several in groupby(error.errors(), lambda fault: fault["loc"][0]):
        found = list(several)
        choices = [fault for fault in found if _is_choice(fault, schema)]
        faults += [_fault(fault, schema) for fault in found if fault not in choices]
        if choices:
            value = shortened(repr(choices[0]["input"]), _SHOWN)
            wanted = " or ".join(
                _lower(fault["msg"]).removeprefix("input should be ") for fault in choices
            )
            faults.append(f"{name} is {value}: input should be {wanted}")
    faults = list(dict.fromkeys(faults))
    return UsageError(
        shortened(f"{tool}: {'; '.join(faults[:5])}", 800),
        f"the input schema of {tool} has types, ranges and choices",
    )


def _is_choice(fault: Any, schema: Schema) -> bool:
    """Tell whether a fault is of one of several forms that an argument may have."""
    named = schema.get("properties", {}).get(fault["loc"][0], {})
    return len(fault["loc"]) == 2 and "anyOf" in named


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
