"""The wheel and the sdist hold all that the package reads; the containers name what is there."""

import json
import re
import shutil
import subprocess
import sys
import tarfile
import zipfile
from pathlib import Path

from espdl_quantize.skill import SKILL_NAME, skill_source

ROOT = Path(__file__).parent.parent.parent
INSIDE = f"espdl_quantize/skill/files/{SKILL_NAME}/"


def copy_of_the_source(tree: Path) -> Path:
    tree.mkdir()
    for name in ("pyproject.toml", "setup.py", "MANIFEST.in", "README.md", "LICENSE"):
        shutil.copy(ROOT / name, tree)
    for name in ("src", "skill"):
        ignored = shutil.ignore_patterns("__pycache__", "*.egg-info")
        shutil.copytree(ROOT / name, tree / name, ignore=ignored)
    return tree


def files_of_the_package() -> set[str]:
    folder = ROOT / "src"
    return {
        file.relative_to(folder).as_posix()
        for file in (folder / "espdl_quantize").rglob("*")
        if file.is_file() and "__pycache__" not in file.parts
    }


def test_the_wheel_holds_the_skill(tmp_path: Path) -> None:
    tree = copy_of_the_source(tmp_path / "tree")
    built = subprocess.run(
        [
            *(sys.executable, "-m", "pip", "wheel", "--no-deps", "--no-build-isolation"),
            *("--disable-pip-version-check", "--no-index", "-w", str(tmp_path), str(tree)),
        ],
        capture_output=True,
        text=True,
    )
    assert built.returncode == 0, built.stderr
    (wheel,) = tmp_path.glob("*.whl")
    installed = tmp_path / "site"
    with zipfile.ZipFile(wheel) as archive:
        assert files_of_the_package() <= set(archive.namelist())
        held = {name[len(INSIDE) :] for name in archive.namelist() if name.startswith(INSIDE)}
        archive.extractall(installed)
    source = skill_source()
    wanted = {
        file.relative_to(source).as_posix()
        for file in source.rglob("*")
        if file.is_file() and "__pycache__" not in file.parts
    }
    assert held == wanted
    found = subprocess.run(
        [sys.executable, "-c", "from espdl_quantize.skill import *; print(skill_source())"],
        env={"PYTHONPATH": str(installed)},
        cwd=tmp_path,
        capture_output=True,
        text=True,
    )
    assert found.stdout.strip() == str(installed / INSIDE.rstrip("/")), found.stderr


def test_the_sdist_holds_all_that_a_wheel_is_built_from(tmp_path: Path) -> None:
    tree = copy_of_the_source(tmp_path / "tree")
    program = "from setuptools.build_meta import *; import sys; build_sdist(sys.argv[1])"
    subprocess.run(
        [sys.executable, "-c", program, str(tmp_path)], cwd=tree, check=True, capture_output=True
    )
    (sdist,) = tmp_path.glob("*.tar.gz")
    with tarfile.open(sdist) as archive:
        held = {name.partition("/")[2] for name in archive.getnames()}
    assert {f"src/{name}" for name in files_of_the_package()} <= held
    assert {"setup.py", "pyproject.toml", "skill/espdl-quantize/SKILL.md"} <= held


def test_the_dockerfile_copies_what_is_there() -> None:
    text = (ROOT / "Dockerfile").read_text(encoding="utf-8").replace("\\\n", " ")
    steps = [line for line in text.splitlines() if line and not line.startswith("#")]
    known = ("FROM", "ARG", "WORKDIR", "COPY", "RUN", "ENV", "USER", "ENTRYPOINT", "CMD")
    assert {step.split()[0] for step in steps} == set(known)
    # A tag that moves builds another container tomorrow, and root writes the user's files.
    assert re.fullmatch(r"FROM python:3\.\d+-slim", steps[0])
    assert steps.index("USER user") < steps.index('ENTRYPOINT ["espdl-quantize"]')
    copied = [name for step in steps if step.startswith("COPY") for name in step.split()[1:-1]]
    assert all((ROOT / name).exists() for name in copied)
    ignored = (ROOT / ".dockerignore").read_text(encoding="utf-8").splitlines()
    assert {f"!{name}" for name in copied} <= set(ignored)
    for name in re.findall(r"\.\[([\w,]+)\]", text)[0].split(","):
        assert f"\n{name} = [" in (ROOT / "pyproject.toml").read_text(encoding="utf-8")


def test_the_devcontainer_sets_up_by_make() -> None:
    form = json.loads((ROOT / ".devcontainer" / "devcontainer.json").read_text(encoding="utf-8"))
    assert re.search(r":3\.1[0-2]$", form["image"])
    assert form["postCreateCommand"].split()[:2] == ["make", "setup"]
    assert "\nsetup:" in (ROOT / "Makefile").read_text(encoding="utf-8")
