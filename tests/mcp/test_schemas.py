"""The list of tools: short, and without losing what an argument may be."""

import json
from pathlib import Path
from typing import Any

import anyio
import pytest

from espdl_quantize.mcp._roots import Roots
from espdl_quantize.mcp.jobs import JobStore
from espdl_quantize.mcp.server import make_server
from espdl_quantize.setting import Setting
from espdl_quantize.setting.passes import PASSES


def listed(folder: Path, *, read_only: bool = False) -> dict[str, dict[str, Any]]:
    server = make_server(Roots([folder]), JobStore(folder, folder), read_only=read_only)
    forms = [
        tool.model_dump(mode="json", by_alias=True, exclude_none=True)
        for tool in anyio.run(server.list_tools)
    ]
    return {form["name"]: form for form in forms}


def test_the_list_is_short_and_has_the_fields_of_a_setting_once(tmp_path: Path) -> None:
    tools = listed(tmp_path)
    text = json.dumps(list(tools.values()), ensure_ascii=False, separators=(",", ":"))
    assert len(text) < 44_000
    assert text.count('"Training steps per block"') == 1
    names = tools["lint_setting"]["inputSchema"]["properties"]["setting"]["anyOf"][-1]
    assert set(names["properties"]) == set(Setting.model_fields)
    assert names["additionalProperties"] is False


def test_a_server_that_only_reads_has_them_where_a_setting_is_checked(tmp_path: Path) -> None:
    text = json.dumps(listed(tmp_path, read_only=True)["lint_setting"])
    assert text.count('"Training steps per block"') == 1


def _resolved(schema: dict[str, Any], name: str, field: str) -> dict[str, Any]:
    """Return what a reader takes a field for, who follows "as in"."""
    section = schema["properties"][name]
    if section["properties"][field]:
        return dict(section["properties"][field])
    other = section["description"].rpartition(" as in ")[2].rstrip(".")
    return _resolved(schema, other, field)


def test_every_type_default_range_and_choice_of_a_pass_can_be_read(tmp_path: Path) -> None:
    setting = listed(tmp_path)["run_iteration"]["inputSchema"]["properties"]["setting"]
    schema = setting["anyOf"][-1]
    whole = Setting.model_json_schema(by_alias=False)
    for name, spec in PASSES.items():
        wanted = whole["$defs"][spec.model.__name__]["properties"]
        assert set(schema["properties"][name]["properties"]) == set(wanted)
        for field, form in wanted.items():
            forms = [*form.get("anyOf", []), form]
            found = _resolved(schema, name, field)
            for key in ("type", "enum", "items", "minimum", "exclusiveMinimum", "maximum"):
                # A list of choices says its type.
                values = [one[key] for one in forms if key in one and one[key] != "null"]
                if values and not (key == "type" and "enum" in found):
                    assert found[key] == values[0], (name, field, key)
            assert found.get("default") == form.get("default"), (name, field)


@pytest.mark.parametrize("tool", ["run_iteration", "tune"])
def test_options_that_refer_to_another_tool_are_those_of_it(tmp_path: Path, tool: str) -> None:
    options = listed(tmp_path)[tool]["inputSchema"]["properties"]["options"]
    empty = [name for name, field in options["properties"].items() if not field]
    known = listed(tmp_path)["run_iteration"]["inputSchema"]["properties"]["options"]["properties"]
    assert bool(empty) == ("run_iteration's options" in options["description"])
    assert all(known[name].get("type") or known[name].get("enum") for name in empty)
