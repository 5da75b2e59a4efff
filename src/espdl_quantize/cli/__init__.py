"""The command line: thin doors to the packages that do the work."""

from espdl_quantize.cli._app import app
from espdl_quantize.cli._main import main

__all__ = ["app", "main"]
