"""What the tests of the command run it with, for those that take whole iterations."""

from tests.cli.conftest import command

__all__ = ["command"]
