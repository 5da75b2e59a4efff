import json
from pathlib import Path
from typing import Any

import pytest

from espdl_quantize.core import OutputFolderError, UsageError
from espdl_quantize.mcp._roots import Roots
from espdl_quantize.mcp.artifacts import first_that_fit, list_folder, read_page


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    made = tmp_path / "iter_0"
    made.mkdir()
    return made


def page(folder: Path, name: str, **options: Any) -> Any:
    return read_page(folder, name, Roots([folder.parent]), **options)


def write(folder: Path, name: str, content: Any) -> None:
    (folder / name).write_text(json.dumps(content))


def test_a_page_is_bounded_whatever_is_in_the_file(folder: Path) -> None:
    write(folder, "layer_stats.json", [{"Op name": "a", "Float Hist": list(range(5000))}] * 400)
    found = page(folder, "layer_stats.json", limit=500)
    assert found.shortened
    assert found.total == 400
    assert 0 < len(found.rows) == found.next_offset < 400
    assert len(json.dumps(found.rows)) < 4_500
    wide = {f"key{n}": "x" * 1000 for n in range(1000)}
    write(folder, "layer_stats.json", [wide, {"Op name": "b"}])
    found = page(folder, "layer_stats.json")
    assert found.shortened
    assert len(json.dumps(found.rows)) < 4_500
    assert found.rows[1] == {"Op name": "b"}


def test_the_graph_says_the_type_of_ops_in_files_that_do_not(folder: Path) -> None:
    ops = [{"name": "a", "op_type": "Conv"}, {"name": "b", "op_type": "Gemm"}]
    write(folder, "simplified_ops.json", {"count": 2, "ops": ops})
    write(folder, "layerwise_error.json", {"a": 0.5, "b": 0.25, "c": None})
    assert page(folder, "layerwise_error.json", op_type="Gemm").rows == [{"op": "b", "value": 0.25}]
    assert page(folder, "simplified_ops.json", op_type="Conv").rows == ops[:1]
    jumps = [{"op_prev": "a", "op_next": "b", "delta": 1}, {"op_prev": "c", "op_next": "d"}]
    write(folder, "graphwise_jumps.json", jumps)
    assert page(folder, "graphwise_jumps.json", op="b").rows == jumps[:1]
    assert page(folder, "graphwise_jumps.json", op="nothing").total == 0


def test_a_name_with_brackets_is_a_name_before_it_is_a_pattern(folder: Path) -> None:
    write(folder, "layerwise_error.json", {"conv[0]": 0.5, "conv0": 0.25})
    assert page(folder, "layerwise_error.json", op="conv[0]").rows[0]["op"] == "conv[0]"


def test_a_log_is_read_by_lines(folder: Path) -> None:
    (folder / "console.log").write_bytes(b"one\ntwo \xff\nthree\n")
    found = page(folder, "console.log", offset=1, limit=1)
    assert found.rows == [{"line": 2, "text": "two �"}]
    assert (found.total, found.next_offset) == (3, 2)


def test_what_is_not_for_reading(folder: Path, tmp_path: Path) -> None:
    (folder / "model.espdl").write_bytes(b"\0" * 100)
    (folder / "broken.json").write_text("{")
    secret = tmp_path.parent / f"{tmp_path.name}-secret.json"
    secret.write_text("{}")
    (folder / "link.json").symlink_to(secret)
    names = [file.name for file in list_folder(folder, Roots([tmp_path]))]
    assert names == ["broken.json", "model.espdl"]
    with pytest.raises(UsageError, match="100 bytes"):
        page(folder, "model.espdl")
    with pytest.raises(OutputFolderError, match=r"broken.json cannot be read"):
        page(folder, "broken.json")
    for name in ("link.json", "..", "", "../iter_0/broken.json", str(folder / "broken.json")):
        with pytest.raises(UsageError, match="no file"):
            page(folder, name)


def test_lines_of_a_report_are_bounded_too() -> None:
    assert first_that_fit(["a" * 30_000, "b" * 30_000], 40_000) == ["a" * 30_000]
    assert len(first_that_fit(["a" * 90_000], 40_000)[0]) == 40_000
    assert first_that_fit(["a", "b"], 40_000) == ["a", "b"]
