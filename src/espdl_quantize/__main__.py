"""Lets ``python -m espdl_quantize`` do what ``espdl-quantize`` does."""

from espdl_quantize.cli import main

main()
