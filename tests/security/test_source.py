"""Files are data: nothing in the source runs, unpickles or shells out what it has read."""

from __future__ import annotations

import ast
from collections.abc import Iterator
from pathlib import Path

import pytest

ROOT = Path(__file__).parent.parent.parent
FOLDERS = ("src", "examples", "skill", "benchmarks")

FORBIDDEN_MODULES = {"pickle", "cPickle", "dill", "marshal", "shelve", "yaml", "cloudpickle"}
FORBIDDEN_CALLS = {"eval", "exec", "os.system", "os.popen", "yaml.load", "__import__"}


def sources() -> list[Path]:
    found = [file for folder in FOLDERS for file in sorted((ROOT / folder).rglob("*.py"))]
    assert len(found) > 100
    return found


def faults(source: str) -> Iterator[str]:
    for node in ast.walk(ast.parse(source)):
        if isinstance(node, (ast.Import, ast.ImportFrom)):
            names = [alias.name for alias in node.names]
            if isinstance(node, ast.ImportFrom):
                names = [node.module or ""]
            for name in names:
                if name.split(".")[0] in FORBIDDEN_MODULES:
                    yield f"line {node.lineno} imports {name}"
        elif isinstance(node, ast.Call):
            name, given = ast.unparse(node.func), {one.arg: one.value for one in node.keywords}
            if name in FORBIDDEN_CALLS:
                yield f"line {node.lineno} calls {name}"
            if name == "torch.load" and not is_constant(given.get("weights_only"), True):
                yield f"line {node.lineno} calls torch.load without weights_only=True"
            if name.endswith((".load", "fromfile")) and is_constant(
                given.get("allow_pickle"), True
            ):
                yield f"line {node.lineno} allows pickles"
            if "shell" in given and not is_constant(given["shell"], False):
                yield f"line {node.lineno} runs a shell"


def is_constant(node: ast.expr | None, value: object) -> bool:
    return isinstance(node, ast.Constant) and node.value is value


@pytest.mark.parametrize("file", sources(), ids=lambda file: str(file.relative_to(ROOT)))
def test_nothing_that_was_read_is_executed(file: Path) -> None:
    assert list(faults(file.read_text(encoding="utf-8"))) == []


@pytest.mark.parametrize(
    "source",
    [
        "import pickle",
        "from yaml import load",
        "eval(text)",
        "import os\nos.system('ls')",
        "torch.load(path)",
        "torch.load(path, weights_only=False)",
        "numpy.load(path, allow_pickle=True)",
        "subprocess.run(command, shell=True)",
    ],
)
def test_the_rules_find_what_they_forbid(source: str) -> None:
    assert list(faults(source))
