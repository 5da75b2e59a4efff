"""The architecture, held by tests: who imports whom, and in how many rooms the code is.

What is not yet as it should be is listed or counted here, and may only become less.
"""

from __future__ import annotations

import ast
from collections.abc import Iterator
from functools import cache
from pathlib import Path

import pytest

import espdl_quantize

PACKAGE = Path(espdl_quantize.__file__).parent
TESTS = Path(__file__).parent
LAYERS = (
    "core",
    "stats",
    "metrics",
    "targets",
    "contract",
    "setting",
    "record",
    "ppq",
    "analysis",
    "chip",
    "deploy",
    "iteration",
    "gate",
    "worker",
    "search",
    "report",
    "tuning",
    "api",
    "skill",
    "mcp",
    "cli",
)
"""A package imports only those above it."""
IMPORTS_ESP_PPQ = "ppq"
KNOW_NO_TORCH = (
    "stats",
    "metrics",
    "worker",
    "record",
    "search",
    "report",
    "tuning",
    "skill",
    "mcp",
    "cli",
)

SINGLE_READERS = 0.0
"""The share of private modules that one module alone imports, at most: a piece
of one thing belongs into the file of that thing, and a piece that stands alone has a public name.
"""
POSITIONAL_BOOLS = 3
"""Functions with a bool that may be given by its place, at most: those that torch calls so."""
LONGEST_MODULE = 450
"""Lines."""

PRIVATE_IMPORTS = {
    "docs/test_site.py": {"chip._rules"},
    "security/test_written_paths.py": {"report._text_file"},
    "slow/test_fallback.py": {
        "ppq.fast._kernels",
        "ppq.fast.training._collect",
        "ppq.reuse._memory",
    },
    "slow/test_gpu_engine.py": {"ppq.fast._gpu"},
    "slow/test_iteration.py": {"ppq._spill"},
    "test_hints.py": {"mcp._roots", "mcp._spelling"},
}
"""By a file of tests, the private modules of other packages that it still imports."""


def module_of(file: Path) -> str:
    parts = file.relative_to(PACKAGE.parent).with_suffix("").parts
    return ".".join(parts[:-1] if parts[-1] == "__init__" else parts)


MODULES = {module_of(file): file for file in sorted(PACKAGE.rglob("*.py"))}


@cache
def tree_of(file: Path) -> ast.Module:
    return ast.parse(file.read_text(encoding="utf-8"))


@cache
def imports(file: Path) -> frozenset[str]:
    """Return what a file imports; of ``from a import b``, a.b as well where that is a module."""
    names: set[str] = set()
    for node in ast.walk(tree_of(file)):
        if isinstance(node, ast.Import):
            names |= {alias.name for alias in node.names}
        elif isinstance(node, ast.ImportFrom) and node.module:
            names.add(node.module)
            names |= {f"{node.module}.{alias.name}" for alias in node.names} & MODULES.keys()
    return frozenset(names)


def files(layer: str) -> list[Path]:
    folder = PACKAGE / layer
    return sorted(folder.rglob("*.py")) if folder.is_dir() else [PACKAGE / f"{layer}.py"]


def is_private(module: str) -> bool:
    return any(part.startswith("_") for part in module.split("."))


def test_every_package_is_a_layer() -> None:
    packages = {
        entry.stem for entry in PACKAGE.iterdir() if entry.name not in ("__pycache__", "py.typed")
    }
    assert packages - {"__init__", "__main__"} <= set(LAYERS)


@pytest.mark.parametrize("layer", LAYERS)
def test_a_layer_imports_only_those_above_it(layer: str) -> None:
    above = LAYERS[: LAYERS.index(layer) + 1]
    for file in files(layer):
        for name in imports(file):
            if name.startswith("espdl_quantize."):
                assert name.split(".")[1] in above, f"{file} imports {name}"


def importers(foreign: str) -> Iterator[Path]:
    """Yield the files that import a foreign package."""
    for file in MODULES.values():
        if foreign in {name.split(".")[0] for name in imports(file)}:
            yield file


def test_one_package_alone_imports_esp_ppq() -> None:
    packages = {file.relative_to(PACKAGE).parts[0] for file in importers("esp_ppq")}
    assert packages == {IMPORTS_ESP_PPQ}


def test_what_only_reads_folders_imports_no_torch() -> None:
    packages = {file.relative_to(PACKAGE).parts[0] for file in importers("torch")}
    assert packages.isdisjoint(KNOW_NO_TORCH)


def private_imports() -> dict[str, set[str]]:
    """Return the private modules that tests import, less those of the package that is tested."""
    by_file: dict[str, set[str]] = {}
    for file in sorted(TESTS.rglob("*.py")):
        name = file.relative_to(TESTS).as_posix()
        own = f"espdl_quantize.{name.partition('/')[0]}."
        foreign = {
            module.removeprefix("espdl_quantize.")
            for module in imports(file)
            if module.startswith("espdl_quantize.")
            and is_private(module)
            and not module.startswith(own)
        }
        if foreign:
            by_file[name] = foreign
    return by_file


def test_tests_import_no_private_module_of_another_package() -> None:
    for name, modules in private_imports().items():
        new = modules - PRIVATE_IMPORTS.get(name, set())
        assert not new, f"tests/{name} imports {sorted(new)}: test what the package shows"


def test_no_private_import_is_excused_that_is_gone() -> None:
    still = private_imports()
    gone = {
        name: sorted(modules - still.get(name, set()))
        for name, modules in PRIVATE_IMPORTS.items()
        if modules - still.get(name, set())
    }
    assert gone == {}, "delete these from PRIVATE_IMPORTS"


def readers() -> dict[str, set[str]]:
    """Return, by module, the modules that import it."""
    by_module: dict[str, set[str]] = {module: set() for module in MODULES}
    for module, file in MODULES.items():
        for name in imports(file) & MODULES.keys():
            by_module[name].add(module)
    return by_module


def test_few_private_modules_have_a_single_reader() -> None:
    private = {
        module: by
        for module, by in readers().items()
        if module.rpartition(".")[2].startswith("_") and not module.endswith("__main__")
    }
    # What a package shows its neighbours is imported by its __init__ alone, and is no room of one.
    single = {
        module: reader
        for module, by in private.items()
        for reader in by
        if len(by) == 1 and MODULES[reader].name != "__init__.py"
    }
    share = len(single) / len(private)
    assert share <= SINGLE_READERS, f"{share:.1%}: " + ", ".join(
        f"{module} <- {reader}" for module, reader in single.items()
    )


def positional_bools(file: Path) -> Iterator[str]:
    """Yield the functions that take a bool by its place."""
    for node in ast.walk(tree_of(file)):
        if not isinstance(node, (ast.FunctionDef, ast.AsyncFunctionDef)):
            continue
        arguments = [*node.args.posonlyargs, *node.args.args]
        missing = len(arguments) - len(node.args.defaults)
        defaults = [None] * missing + [*node.args.defaults]
        if any(
            (argument.annotation is not None and ast.unparse(argument.annotation) == "bool")
            or (isinstance(default, ast.Constant) and isinstance(default.value, bool))
            for argument, default in zip(arguments, defaults, strict=True)
        ):
            yield f"{file.relative_to(PACKAGE)}: {node.name}()"


def test_a_bool_is_given_by_its_name() -> None:
    named = [function for file in MODULES.values() for function in positional_bools(file)]
    assert len(named) <= POSITIONAL_BOOLS, "\n".join(named)


def test_no_module_is_long() -> None:
    lines = {
        module: len(file.read_text(encoding="utf-8").splitlines())
        for module, file in MODULES.items()
    }
    assert {module: count for module, count in lines.items() if count > LONGEST_MODULE} == {}
