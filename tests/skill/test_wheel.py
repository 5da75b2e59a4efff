"""The wheel holds the skill, and a package that was installed from it finds it."""

import shutil
import subprocess
import sys
import zipfile
from pathlib import Path

from espdl_quantize.skill import SKILL_NAME, skill_source

ROOT = Path(__file__).parent.parent.parent
INSIDE = f"espdl_quantize/skill/files/{SKILL_NAME}/"


def test_the_wheel_holds_the_skill(tmp_path: Path) -> None:
    tree = tmp_path / "tree"
    tree.mkdir()
    for name in ("pyproject.toml", "setup.py", "MANIFEST.in", "README.md", "LICENSE"):
        shutil.copy(ROOT / name, tree)
    for name in ("src", "skill"):
        ignored = shutil.ignore_patterns("__pycache__", "*.egg-info")
        shutil.copytree(ROOT / name, tree / name, ignore=ignored)
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
