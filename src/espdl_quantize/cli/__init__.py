"""The command line: thin doors to the packages that do the work, a module per command."""

from espdl_quantize.cli._app import app, main

__all__ = ["app", "main"]
