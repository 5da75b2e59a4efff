"""The parts of the reference that are read from the program itself, as Markdown."""

from __future__ import annotations

import dataclasses
import inspect
import json
import re
from collections.abc import Callable, Iterable, Mapping
from enum import Enum
from pathlib import Path
from typing import Any, Literal, get_args, get_origin, get_type_hints

import typer

from espdl_quantize.chip.rule_table import RULE_TABLE
from espdl_quantize.cli import app
from espdl_quantize.contract import QuantConfig, starter_contract
from espdl_quantize.contract._config import _EXPECTED
from espdl_quantize.contract.fingerprint import NO_PART_IN_THE_SCORE
from espdl_quantize.core import Priority, errors
from espdl_quantize.ppq import PATCHES
from espdl_quantize.record import (
    IterationRecord,
    Measurement,
    applied,
    files,
    float_reference,
    metrics,
)
from espdl_quantize.search import DEFAULT_THRESHOLDS, LEVERS, linear_order
from espdl_quantize.search.policies import DEFAULT_PARAMETERS
from espdl_quantize.setting import Setting
from espdl_quantize.skill._agents import AGENTS
from espdl_quantize.targets.ops import op_table, version_text

_ROOT = Path(__file__).parent.parent


def _table(head: Iterable[str], rows: Iterable[Iterable[object]]) -> str:
    def line(cells: Iterable[object]) -> str:
        return "| " + " | ".join(str(cell) for cell in cells) + " |"

    head = list(head)
    return "\n".join([line(head), line("---" for _ in head), *map(line, rows)]) + "\n"


def _prose(text: str) -> str:
    """Return a docstring as Markdown: one line per paragraph, double backticks single."""
    paragraphs = re.split(r"\n\s*\n", inspect.cleandoc(text))
    text = "\n\n".join(" ".join(part.split()) for part in paragraphs)
    text = re.sub(r":\w+:`~?([^`]+)`", r"`\1`", text).replace("``", "`")
    pieces = text.split("`")
    pieces[::2] = [piece.replace("<", "&lt;").replace("|", "&#124;") for piece in pieces[::2]]
    return "`".join(pieces)


def cli() -> str:
    """Every command with its arguments and options, from the typer app."""
    group: Any = typer.main.get_command(app)
    return "\n".join(part for name in group.commands for part in _command(name, group))


def _command(name: str, group: Any, prefix: str = "") -> Iterable[str]:
    command, full = group.commands[name], f"{prefix}{name}"
    yield from (f"## {full}\n", _prose(command.help or ""), "")
    for below in getattr(command, "commands", ()):
        yield from _command(below, command, f"{full} ")
    if hasattr(command, "commands"):
        return
    shown = [parameter for parameter in command.params if parameter.name != "help"]
    words = [_value_name(entry) for entry in shown if entry.param_type_name == "argument"]
    yield f"```text\n{' '.join(['espdl-quantize', full, *words, '[options]'])}\n```\n"
    hints = get_type_hints(inspect.unwrap(command.callback))
    if shown:
        rows = [_parameter(entry, hints.get(entry.name)) for entry in shown]
        yield _table(("option", "default", "meaning"), rows)


def _value_name(parameter: Any) -> str:
    return str(parameter.metavar or parameter.name.upper())


def _parameter(parameter: Any, hint: Any) -> tuple[str, str, str]:
    if parameter.param_type_name == "argument":
        name = f"`{_value_name(parameter)}`"
    else:
        choices = get_args(hint) if get_origin(hint) is Literal else ()
        if isinstance(hint, type) and issubclass(hint, Enum):
            choices = tuple(hint)
        value = "|".join(map(str, choices)) or _value_name(parameter)
        options = ", ".join([*parameter.opts, *parameter.secondary_opts])
        name = f"`{options}{'' if parameter.is_flag else ' ' + value}`"
    value = parameter.default
    default = "" if value is None or value is False else f"`{value}`"
    return name, "needed" if parameter.required else default, _prose(parameter.help or "")


def exit_codes() -> str:
    """Every exit code, from the errors that end the command with it."""
    rows: dict[int, str] = {errors.EXIT_OK: "done"}
    for error in vars(errors).values():
        if inspect.isclass(error) and issubclass(error, errors.EspdlQuantizeError):
            rows.setdefault(error.exit_code, _prose(error.__doc__ or ""))
    rows[errors.EXIT_REFUSED] = "Nothing is broken, but what was asked for is refused."
    return _table(("code", "meaning"), sorted(rows.items()))


def quant_config() -> str:
    """The keys of QUANT_CONFIG."""
    rows = []
    for name, field in QuantConfig.model_fields.items():
        default = "needed" if field.is_required() else f"`{field.default}`"
        rows.append((f"`{name}`", _EXPECTED[name][0], default, _prose(field.description or "")))
    return _table(("key", "takes", "default", "meaning"), rows)


def esp_dl_ops() -> str:
    """Every op of ESP-DL, from the table that the chip check reads."""
    rows = [
        (
            f"`{entry.name}`",
            ", ".join(entry.widths),
            "; ".join([*filter(None, [entry.note]), *map(_limit, entry.limits)]),
            version_text(entry.since),
            f"`{entry.source}`",
            entry.looked_at,
        )
        for entry in op_table().ops.values()
    ]
    head = ("op", "widths", "attributes and restrictions", "since ESP-DL", "source", "looked at")
    return _table(head, rows)


_LIMITS = {
    "groups": "one group, or as many as input and output channels",
    "samples": "one sample at a time",
    "equal_exponents": "where no vector unit computes it in int8, input and output of one exponent",
    "limits_as_input": "without a table, limits in the exponent of the input",
    "depth_first": "in the mode DCR, as many output channels as the block's size",
    "one_state": "all outputs there, hidden states of one exponent, bias and cell in the gates'",
}


def _limit(limit: Mapping[str, Any]) -> str:
    if "attribute" in limit:
        values = " or ".join(f"`{value}`" for value in limit["allowed"])
        return f"`{limit['attribute']}` {values} ({limit['why']})"
    if "dimensions" in limit:
        return f"{' or '.join(map(str, limit['dimensions']))} dimensions"
    if "broadcast_dimensions" in limit:
        return f"up to {limit['broadcast_dimensions']} dimensions, once neighbours are joined"
    return _LIMITS[next(iter(limit))]


def chip_rules() -> str:
    """Every rule of the chip check, with its source and an example that breaks it."""
    rows = [
        (f"`{name}`", rule.kind, rule.broken_where, rule.source, rule.example)
        for name, rule in RULE_TABLE.items()
    ]
    head = ("rule", "is a", "an op breaks it where", "source", "an example that breaks it")
    return _table(head, rows)


def chip_limits() -> str:
    """How many limits of single ops the table of ops has."""
    return str(sum(len(entry.limits) for entry in op_table().ops.values()))


def esp_dl_version() -> str:
    """The newest ESP-DL that was looked at."""
    return version_text(op_table().version)


def esp_dl_later() -> str:
    """What esp-ppq makes for a later ESP-DL."""
    rows = [(f"`{e.feature}`", e.made_by, e.way_out) for e in op_table().later.values()]
    return _table(("feature", "made by", "the way out"), rows)


def esp_dl_missing() -> str:
    """Ops that esp-ppq exports and ESP-DL lacks, with what to use instead."""
    rows = [(f"`{name}`", remedy) for name, remedy in op_table().remedies.items()]
    return _table(("op", "use instead"), rows)


def editable() -> str:
    """The keys of QUANT_CONFIG that no score depends on."""
    # The chip and the model are compared on their own.
    names = sorted(NO_PART_IN_THE_SCORE - {"target", "onnx_path"})
    return ", ".join(f"`{name}`" for name in names)


def setting() -> str:
    """Every field of a setting, from the schema that ``espdl-quantize schema`` prints."""
    schema = Setting.model_json_schema(by_alias=False)
    parts = [_fields(schema)]
    for name, section in sorted(schema["$defs"].items()):
        owner = _owner(schema, name)
        parts += [f"## {owner}\n", _prose(section["description"]), "", _fields(section)]
    return "\n".join(parts)


def _owner(schema: dict[str, Any], section: str) -> str:
    """Return the path of the field that holds a section, which may be in another section."""
    reference = f"#/$defs/{section}'"
    for key, value in schema["properties"].items():
        if reference in str(value):
            return str(key)
    holder, field = next(
        (holder, key)
        for holder, other in schema["$defs"].items()
        for key, value in other["properties"].items()
        if reference in str(value)
    )
    return f"{_owner(schema, holder)}.{field}"


def _fields(schema: dict[str, Any]) -> str:
    needed = schema.get("required", [])
    rows = []
    for name, field in schema["properties"].items():
        default = "needed" if name in needed else f"`{_json(field.get('default'))}`"
        rows.append((f"`{name}`", _type(field), default, _prose(field.get("description", ""))))
    return _table(("field", "type", "default", "meaning"), rows)


def _json(value: object) -> str:
    return json.dumps(value)


def _type(field: dict[str, Any]) -> str:
    if "$ref" in field:
        return "section"
    if "anyOf" in field:
        kinds = [_type(option) for option in field["anyOf"] if option.get("type") != "null"]
        return " or ".join(kinds)
    if "enum" in field:
        return ", ".join(f"`{value}`" for value in field["enum"])
    limits = {"minimum": "≥", "exclusiveMinimum": ">"}
    bounds = "".join(f" {sign} {field[key]}" for key, sign in limits.items() if key in field)
    inner = f" of {_type(field['items'])}s" if "items" in field else ""
    return f"{field.get('type', 'any')}{inner}{bounds}"


def _attributes(cls: type) -> dict[str, str]:
    """Return the Attributes section of a docstring as a dict."""
    text = inspect.getdoc(cls) or ""
    _, _, section = text.partition("Attributes:\n")
    entries = re.split(r"\n    (?=\w+: )", "\n" + section.rstrip())
    return dict(entry.split(": ", 1) for entry in entries if ": " in entry)


def _sentence(text: str) -> str:
    return _prose(text[:1].upper() + text[1:])


def _numbers(instance: Any) -> str:
    meanings = _attributes(type(instance))
    rows = []
    for field in dataclasses.fields(instance):
        value = getattr(instance, field.name)
        if isinstance(value, (int, float)):
            rows.append((f"`{field.name}`", f"`{value:g}`", _sentence(meanings[field.name])))
    return _table(("name", "value", "meaning"), rows)


def thresholds() -> str:
    """Every number that the rules compare with."""
    return _numbers(DEFAULT_THRESHOLDS)


def policy_parameters() -> str:
    """Every number of the evidence policy."""
    return _numbers(DEFAULT_PARAMETERS)


def levers() -> str:
    """Every lever, in the order it is pulled."""
    order = [lever.id for lever in linear_order(Priority.BALANCED)]
    rows = [
        (lever.id, lever.name, lever.title, _what(lever), lever.tier, lever.cost)
        for lever in sorted(LEVERS.values(), key=lambda lever: (*order, lever.id).index(lever.id))
    ]
    return _table(("id", "name", "change to best", "what it is", "tier", "cost on the chip"), rows)


def _what(lever: Any) -> str:
    text = re.sub(rf"^{lever.id}[\w, -]*: ", "", type(lever).__doc__ or "")
    return _sentence(text)


def lever_orders() -> str:
    """The two orders of the levers."""
    lines = []
    for priority in (Priority.BALANCED, Priority.SPEED):
        names = " ".join(lever.id for lever in linear_order(priority))
        lines.append(f"- `{priority}`: {names}")
    return "\n".join(lines) + "\n"


def measured(about: str) -> str:
    """The first table of a section of benchmarks/README.md, whose heading holds a word."""
    text = (_ROOT / "benchmarks" / "README.md").read_text(encoding="utf-8")
    section = next(part for part in text.split("\n## ") if about in part.splitlines()[0].lower())
    rows = [line.startswith("|") for line in section.splitlines()]
    first = rows.index(True)
    last = [*rows, False].index(False, first)
    return "\n".join(section.splitlines()[first:last]) + "\n"


def limit(name: str) -> str:
    """One threshold, for a sentence."""
    return f"{getattr(DEFAULT_THRESHOLDS, name):g}"


def agents() -> str:
    """The agent tools that the skill can be installed for."""
    rows = [
        (agent.title, f"`{agent.name}`", f"`{agent.project}`", f"`~/{agent.user}`")
        for agent in AGENTS.values()
    ]
    return _table(("tool", "`--agent`", "in a project", "with `--user`"), rows)


def source(path: str) -> str:
    """A file of this repository, whole; tests run it."""
    return f"```python\n{(_ROOT / path).read_text(encoding='utf-8')}```\n"


def results() -> str:
    """What the search wins, as the README tells it."""
    readme = (_ROOT / "README.md").read_text(encoding="utf-8")
    part = readme.partition("## What it wins\n")[2].partition("\n## ")[0]
    # What is no page of the site is named instead of linked.
    return re.sub(r"\[([\w./]+)\]\(benchmarks/[^)]*\)", r"`\1`", part)


def starter(kind: str) -> str:
    """What ``init`` writes."""
    return f"```python\n{starter_contract('torch' if kind == 'torch' else 'onnx')}```\n"


def patches() -> str:
    """Every name of esp-ppq that is replaced."""
    rows = [
        (
            f"`{patch.module}.{patch.name}`",
            f"`{patch.by}`",
            patch.when.value,
            patch.why,
        )
        for patch in PATCHES
    ]
    return _table(("name", "by", "when", "why"), rows)


def _described(table: Mapping[str, str], head: str) -> str:
    return _table((head, "content"), ((f"`{name}`", _prose(text)) for name, text in table.items()))


def output_files() -> str:
    """What lies in an output folder."""
    return _described(files.OUTPUT_FILES, "file")


def iteration_files() -> str:
    """What an iteration writes."""
    return _described(files.ITERATION_FILES, "file")


def record_keys() -> str:
    """The keys of iteration_index.json, from the fields of its record."""
    rows = {"iteration_id": "", "status": "`ok` or `failed`"}
    for name, field in vars(IterationRecord)["__pydantic_fields__"].items():
        rows[field.serialization_alias or name] = field.description or ""
    return _described(rows, "key")


def metrics_keys() -> str:
    """The keys of metrics.json beside those that the evaluation returned."""
    return _described(metrics.KEYS, "key")


def applied_keys() -> str:
    """The keys of applied_setting_summary.json."""
    return _described(applied.KEYS, "key")


def float_reference_keys() -> str:
    """The keys of float_reference.json."""
    return _described(float_reference.KEYS, "key")


def device_keys() -> str:
    """The keys of device.json, from the attributes of a measurement."""
    median = "milliseconds of a run: the median of the runs; without runs, the sum of the layers"
    rows = {"ms": median, **_attributes(Measurement)}
    return _described(rows, "key")


PARTS: dict[str, Callable[..., str]] = {
    part.__name__: part
    for part in (
        agents,
        applied_keys,
        chip_limits,
        chip_rules,
        cli,
        device_keys,
        editable,
        esp_dl_later,
        esp_dl_missing,
        esp_dl_ops,
        esp_dl_version,
        exit_codes,
        float_reference_keys,
        iteration_files,
        lever_orders,
        levers,
        limit,
        measured,
        patches,
        metrics_keys,
        output_files,
        policy_parameters,
        quant_config,
        record_keys,
        results,
        setting,
        source,
        starter,
        thresholds,
    )
}
