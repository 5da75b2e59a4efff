"""What is said of the source is so: the picture of the packages, and every name and file."""

import ast
import importlib
import importlib.util
import re
from pathlib import Path
from types import ModuleType

import pytest

from tests.test_layers import LAYERS, PACKAGE, files, imports

ROOT = Path(__file__).parents[2]
ARCHITECTURE = (ROOT / "docs" / "explanation" / "architecture.md").read_text(encoding="utf-8")
CONTRIBUTING = (ROOT / "CONTRIBUTING.md").read_text(encoding="utf-8")
PAGES = {"architecture": ARCHITECTURE, "contributing": CONTRIBUTING}

NAMES = sorted(
    set(re.findall(rf"`((?:{'|'.join(LAYERS)})(?:\.(?!json`)[A-Za-z_]+)+)`", ARCHITECTURE))
)
PLACES = [
    (symbol, path)
    for page in PAGES.values()
    for symbol, path in re.findall(r"`(\w+)`[^`|;]* in `([\w/]+\.py)`", page)
]
PATHS = sorted(
    {
        path
        for page in PAGES.values()
        for path in re.findall(r"`((?!iter_)\w[\w.-]*/[\w./-]*|\w+\.py)`", page)
        if path not in ("site/", "best/")
    }
)


PICTURE = (ROOT / "docs" / "assets" / "architecture.svg").read_text(encoding="utf-8")


def drawing() -> ModuleType:
    path = ROOT / "docs" / "draw_packages.py"
    spec = importlib.util.spec_from_file_location("draw_packages", path)
    assert spec is not None and spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


def packages_imported_by(file: Path) -> set[str]:
    tree = ast.parse(file.read_text(encoding="utf-8"))
    names = set(imports(file))
    for node in ast.walk(tree):
        if isinstance(node, ast.ImportFrom) and node.module == "espdl_quantize":
            names |= {f"espdl_quantize.{alias.name}" for alias in node.names}
    inside = {name.split(".")[1] for name in names if name.startswith("espdl_quantize.")}
    return inside.intersection(LAYERS)


def test_the_picture_has_every_package_in_its_order() -> None:
    drawn = re.findall(r'id="package-(\w+)" x="0" y="(\d+)"', PICTURE)
    assert tuple(name for name, _ in sorted(drawn, key=lambda box: int(box[1]))) == LAYERS
    section = ARCHITECTURE.split("<!-- generated: packages -->")[1].split("<!-- end -->")[0]
    assert tuple(re.findall(r"^\| `(\w+)` \| \S", section, flags=re.MULTILINE)) == LAYERS


def test_the_picture_has_every_import_and_no_other() -> None:
    real = {
        (layer, name)
        for layer in LAYERS
        for file in files(layer)
        for name in packages_imported_by(file) - {layer}
    }
    drawn = set(re.findall(r'class="import" id="(\w+)-imports-(\w+)"', PICTURE))
    assert drawn == real, "run: python docs/draw_packages.py"


def test_what_is_drawn_is_up_to_date() -> None:
    stale = [path.name for path, text in drawing().wanted().items() if path.read_text() != text]
    assert not stale, "run: python docs/draw_packages.py"


@pytest.mark.parametrize("name", NAMES)
def test_a_public_name_on_the_page_exists(name: str) -> None:
    module, _, attribute = name.rpartition(".")
    assert attribute in importlib.import_module(f"espdl_quantize.{module}").__all__


@pytest.mark.parametrize(("symbol", "path"), PLACES)
def test_what_is_to_be_changed_is_in_the_file_that_is_named(symbol: str, path: str) -> None:
    names: set[str] = set()
    for node in ast.parse((PACKAGE / path).read_text(encoding="utf-8")).body:
        if isinstance(node, (ast.FunctionDef, ast.ClassDef)):
            names.add(node.name)
        elif isinstance(node, (ast.Assign, ast.AnnAssign)):
            targets = node.targets if isinstance(node, ast.Assign) else [node.target]
            names.update(ast.unparse(target) for target in targets)
    assert symbol in names


@pytest.mark.parametrize("path", PATHS)
def test_every_file_that_is_named_exists(path: str) -> None:
    assert any((folder / path).exists() for folder in (ROOT, PACKAGE)), path


def test_the_pages_name_something() -> None:
    assert len(NAMES) > 20
    assert len(PLACES) >= 5
    assert len(PATHS) > 30
