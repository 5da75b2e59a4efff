import ast
import importlib
import sys
from pathlib import Path
from types import ModuleType

import pytest

import espdl_quantize
from espdl_quantize.core import InstallationError
from espdl_quantize.ppq import (
    PATCHES,
    _installation,
    check_installation,
    esp_ppq_version,
    prepare_device,
)
from espdl_quantize.ppq._installation import (
    ANY_VERSION,
    REQUIRED,
    SUPPORTED_VERSIONS,
    check_version,
)
from tests.ppq.esp_ppq_names import PACKAGE, TABLE, exists, names_in, names_of_package, table


def test_the_installed_version_has_everything() -> None:
    check_installation()


def test_sympy_is_not_imported_with_onnxsim_and_can_be_later(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    seen: list[object] = []

    def note(name: str) -> None:
        seen.append((name, sys.modules.get("sympy", "free")))
        raise ImportError

    monkeypatch.setattr(importlib, "import_module", note)
    monkeypatch.delitem(sys.modules, "sympy", raising=False)
    _installation._import_onnxsim()
    assert seen == [("onnxsim", None)]
    assert "sympy" not in sys.modules
    # What is there already stays.
    sympy = ModuleType("sympy")
    monkeypatch.setitem(sys.modules, "sympy", sympy)
    _installation._import_onnxsim()
    assert len(seen) == 1
    assert sys.modules["sympy"] is sympy


def test_what_a_version_lacks_is_named_with_the_versions_that_work() -> None:
    lacking = (*REQUIRED, ("esp_ppq.core", "no_such_name"), ("esp_ppq.no_such_module", "x"))
    with pytest.raises(InstallationError) as caught:
        check_installation(lacking)
    text = str(caught.value)
    assert esp_ppq_version() in text
    assert "esp_ppq.core.no_such_name, esp_ppq.no_such_module.x" in text
    assert ">=1.3.12,<1.4" in text
    assert caught.value.exit_code == 6


def test_a_cuda_device_that_is_not_there_is_told() -> None:
    import torch

    if torch.cuda.is_available():
        pytest.skip("this machine has a CUDA device")
    prepare_device("cpu")
    with pytest.raises(InstallationError, match="no CUDA device"):
        prepare_device("cuda")


@pytest.mark.parametrize("version", ["1.3.11", "1.3.12rc1", "1.2", "1.4", "1.4.0rc1", "2.0.1"])
def test_a_version_outside_of_the_range_is_refused(
    version: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.delenv(ANY_VERSION, raising=False)
    with pytest.raises(InstallationError) as caught:
        check_version(version)
    text = str(caught.value)
    assert version in text
    assert SUPPORTED_VERSIONS in text
    assert f"{ANY_VERSION}=1" in text
    monkeypatch.setenv(ANY_VERSION, "0")
    with pytest.raises(InstallationError):
        check_version(version)
    monkeypatch.setenv(ANY_VERSION, "1")
    check_version(version)


@pytest.mark.parametrize(
    "version", ["1.3.12", "1.3.12.post1", "1.3.13rc1", "1.3.20", "1.3.12+cu121"]
)
def test_a_version_in_the_range_passes(version: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv(ANY_VERSION, raising=False)
    check_version(version)


def test_the_range_is_that_of_the_package() -> None:
    project = Path(__file__).parent.parent.parent / "pyproject.toml"
    assert f'"esp-ppq{SUPPORTED_VERSIONS}"' in project.read_text()


def test_the_table_names_all_that_the_source_uses() -> None:
    assert TABLE.read_text() == table(), "run python -m tests.ppq.esp_ppq_names"
    assert set(names_of_package()) <= set(REQUIRED)
    assert {(patch.module, patch.name) for patch in PATCHES} <= set(REQUIRED)


def test_names_are_found_however_the_source_reaches_them() -> None:
    names = names_in(
        """
import esp_ppq.lib as library
from esp_ppq.executor import TorchExecutor as Runner
from esp_ppq.parser.espdl import helper
from torch import Tensor

def run(graph, delegate: Runner):
    delegate.load_graph(graph)
    runner = Runner(graph=graph)
    runner.tracing_operation_meta()
    helper.Model.Model.GetRootAs(graph).Graph()
    return library.Quantizer, graph.outputs
"""
    )
    assert names == {
        ("esp_ppq.executor", "TorchExecutor"),
        ("esp_ppq.executor", "TorchExecutor.load_graph"),
        ("esp_ppq.executor", "TorchExecutor.tracing_operation_meta"),
        ("esp_ppq.lib", "Quantizer"),
        ("esp_ppq.parser.espdl", "helper"),
        ("esp_ppq.parser.espdl", "helper.Model"),
        ("esp_ppq.parser.espdl", "helper.Model.Model"),
        ("esp_ppq.parser.espdl", "helper.Model.Model.GetRootAs"),
    }
    assert not exists("esp_ppq.executor", "TorchExecutor.no_such_name")


def test_the_documentation_shows_every_patch(monkeypatch: pytest.MonkeyPatch) -> None:
    docs = Path(__file__).parent.parent.parent / "docs"
    assert "{{ patches }}" in (docs / "explanation/engine.md").read_text()
    monkeypatch.syspath_prepend(str(docs))
    table_of_docs = importlib.import_module("_generated").PARTS["patches"]()
    for patch in PATCHES:
        (line,) = (
            one for one in table_of_docs.splitlines() if f"| `{patch.module}.{patch.name}` |" in one
        )
        assert patch.by in line
        assert patch.why in line


def test_every_patch_has_its_replacement() -> None:
    for patch in PATCHES:
        module, function = patch.by.split(":")
        assert callable(getattr(importlib.import_module(module), function)), patch


def test_no_other_package_knows_esp_ppq() -> None:
    root = Path(espdl_quantize.__file__).parent
    for file in root.rglob("*.py"):
        if not file.is_relative_to(PACKAGE):
            assert not names_in(file.read_text()), f"{file} imports esp_ppq"


def test_nothing_but_the_table_changes_a_name_of_esp_ppq() -> None:
    for file in PACKAGE.rglob("*.py"):
        if file.name == "patches.py":
            continue
        tree = ast.parse(file.read_text())
        imported = {
            alias.asname or alias.name
            for node in ast.walk(tree)
            if isinstance(node, ast.ImportFrom) and str(node.module).startswith("esp_ppq")
            for alias in node.names
        }
        for node in ast.walk(tree):
            targets = node.targets if isinstance(node, ast.Assign) else []
            for target in targets:
                if isinstance(target, ast.Attribute):
                    assert ast.unparse(target).split(".")[0] not in imported, ast.unparse(node)
            if isinstance(node, ast.Call) and ast.unparse(node.func) == "setattr":
                owner = ast.unparse(node.args[0]).split(".")[0]
                assert owner not in imported, f"{file}: {ast.unparse(node)}"
