"""Finds every name of esp-ppq that a source file relies on, from its syntax tree.

``python -m tests.ppq.esp_ppq_names`` writes the table of :mod:`espdl_quantize.ppq.names` anew.

Seen are what is imported, the attributes that are read of it (``helper.Model.Model.GetRootAs``),
and those of instances of an imported class: of an argument with that annotation, or of a variable
that such a class was called for. Attributes that only exist on an instance cannot be looked up on
its class, and are left out.
"""

from __future__ import annotations

import ast
import importlib
from collections.abc import Iterator
from pathlib import Path

import espdl_quantize.ppq as ppq

PACKAGE = Path(ppq.__file__).parent
TABLE = PACKAGE / "names.py"
Name = tuple[str, str]
"""A module, and a dotted name below it."""


class _Names(ast.NodeVisitor):
    def __init__(self) -> None:
        self.names: set[Name] = set()
        self._bound: dict[str, Name] = {}
        """What a local name stands for."""
        self._instances: dict[str, Name] = {}
        """Of which class a local name is an instance."""

    def visit_ImportFrom(self, node: ast.ImportFrom) -> None:
        if _is_esp_ppq(node.module):
            for alias in node.names:
                self._bound[alias.asname or alias.name] = (str(node.module), alias.name)
                self.names.add((str(node.module), alias.name))

    def visit_Import(self, node: ast.Import) -> None:
        for alias in node.names:
            if _is_esp_ppq(alias.name):
                assert alias.asname, "a dotted import without a name is not followed"
                self._bound[alias.asname] = (alias.name, "")

    def visit_Attribute(self, node: ast.Attribute) -> None:
        path: list[str] = []
        value: ast.expr = node
        while isinstance(value, ast.Attribute):
            path.insert(0, value.attr)
            value = value.value
        if isinstance(value, ast.Name):
            owner = self._bound.get(value.id) or self._instances.get(value.id)
            if owner is not None:
                module, name = owner
                self.names.add((module, ".".join([name, *path] if name else path)))
        self.generic_visit(node)

    def visit_Assign(self, node: ast.Assign) -> None:
        made = self._class_of(node.value.func) if isinstance(node.value, ast.Call) else None
        for target in node.targets:
            if isinstance(target, ast.Name) and made is not None:
                self._instances[target.id] = made
        self.generic_visit(node)

    def visit_arg(self, node: ast.arg) -> None:
        kind = self._class_of(node.annotation)
        if kind is not None:
            self._instances[node.arg] = kind

    def _class_of(self, node: ast.expr | None) -> Name | None:
        bound = self._bound.get(node.id) if isinstance(node, ast.Name) else None
        return bound if bound is not None and bound[1][:1].isupper() else None


def _is_esp_ppq(module: str | None) -> bool:
    return module is not None and module.split(".")[0] == "esp_ppq"


def exists(module: str, name: str) -> bool:
    """Tell whether a name is there in the installed esp-ppq."""
    try:
        value = importlib.import_module(module)
        for part in name.split(".") if name else ():
            value = getattr(value, part)
    except (ImportError, AttributeError):
        return False
    return True


def names_in(source: str) -> set[Name]:
    """Return the names that a source text relies on."""
    visitor = _Names()
    tree = ast.parse(source)
    # Imports first: a function may stand above that of another function.
    for node in ast.walk(tree):
        if isinstance(node, (ast.Import, ast.ImportFrom)):
            visitor.visit(node)
    visitor.visit(tree)
    return visitor.names


def names_of_package() -> list[Name]:
    """Return all names that the package relies on and that can be looked up, in order."""
    return sorted(name for name in _in_files() if exists(*name))


def _in_files() -> Iterator[Name]:
    names: set[Name] = set()
    for file in PACKAGE.rglob("*.py"):
        if file != TABLE:
            names |= names_in(file.read_text())
    yield from names


def table() -> str:
    """Return the text of the module with the table."""
    lines = "".join(f'    ("{module}", "{name}"),\n' for module, name in names_of_package())
    return (
        '"""The names of esp-ppq that this package imports, and their attributes that it uses.\n\n'
        "Written by ``python -m tests.ppq.esp_ppq_names`` from the package's own source, and held\n"
        "against it by a test.\n"
        '"""\n\nfrom __future__ import annotations\n\n'
        f"USED: tuple[tuple[str, str], ...] = (\n{lines})\n"
        '"""Module, and dotted name below it."""\n'
    )


if __name__ == "__main__":
    TABLE.write_text(table())
