"""The architecture, held by a test: a package imports only those above it in this list."""

import ast
from pathlib import Path

import pytest

import espdl_quantize

PACKAGE = Path(espdl_quantize.__file__).parent
LAYERS = (
    "core",
    "stats",
    "targets",
    "contract",
    "setting",
    "record",
    "ppq",
    "analysis",
    "chip",
    "deploy",
    "iteration",
    "worker",
    "search",
    "report",
    "tune",
    "skill",
    "mcp",
    "cli",
)
KNOW_NO_ESP_PPQ = (
    "stats",
    "contract",
    "worker",
    "record",
    "search",
    "report",
    "tune",
    "skill",
    "mcp",
    "cli",
)
KNOW_NO_TORCH = ("stats", "worker", "record", "search", "report", "tune", "skill", "mcp", "cli")


def imports(file: Path) -> set[str]:
    found: set[str] = set()
    for node in ast.walk(ast.parse(file.read_text())):
        if isinstance(node, ast.Import):
            found |= {alias.name for alias in node.names}
        elif isinstance(node, ast.ImportFrom) and node.module:
            found.add(node.module)
    return found


def files(layer: str) -> list[Path]:
    folder = PACKAGE / layer
    return sorted(folder.rglob("*.py")) if folder.is_dir() else [PACKAGE / f"{layer}.py"]


def test_every_package_is_a_layer() -> None:
    found = {
        entry.stem for entry in PACKAGE.iterdir() if entry.name not in ("__pycache__", "py.typed")
    }
    assert found - {"__init__", "__main__"} <= set(LAYERS)


@pytest.mark.parametrize("layer", LAYERS)
def test_a_layer_imports_only_those_above_it(layer: str) -> None:
    above = LAYERS[: LAYERS.index(layer) + 1]
    for file in files(layer):
        for name in imports(file):
            if name.startswith("espdl_quantize."):
                assert name.split(".")[1] in above, f"{file} imports {name}"


@pytest.mark.parametrize(
    ("layers", "foreign"), [(KNOW_NO_ESP_PPQ, "esp_ppq"), (KNOW_NO_TORCH, "torch")]
)
def test_what_a_layer_knows_nothing_of(layers: tuple[str, ...], foreign: str) -> None:
    for layer in layers:
        for file in files(layer):
            names = {name.split(".")[0] for name in imports(file)}
            assert foreign not in names, f"{file} imports {foreign}"
