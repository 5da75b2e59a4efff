"""What pyproject.toml cannot say: the skill's folder at the root becomes part of the package."""

import shutil
from pathlib import Path

from setuptools import setup
from setuptools.command.build_py import build_py

SKILL = Path("skill/espdl-quantize")
INSIDE = "espdl_quantize/skill/files/espdl-quantize"


class BuildWithSkill(build_py):
    """Copies the skill into the build; an editable installation reads it where it is."""

    def run(self):
        """Build, and copy."""
        super().run()
        if self.editable_mode:
            return
        goal = Path(self.build_lib, INSIDE)
        shutil.rmtree(goal, ignore_errors=True)
        shutil.copytree(SKILL, goal, ignore=shutil.ignore_patterns("__pycache__"))

    def get_outputs(self, include_bytecode=True):
        """Name what was built, the skill's files among it."""
        names = [file.relative_to(SKILL) for file in sorted(SKILL.rglob("*")) if file.is_file()]
        copied = [str(Path(self.build_lib, INSIDE, name)) for name in names]
        return super().get_outputs(include_bytecode) + copied


setup(cmdclass={"build_py": BuildWithSkill})
