"""Searches esp-ppq settings for the best accuracy that an ESP-DL chip can run.

Importing this package stays cheap: torch and esp-ppq load only where a model is quantized.
"""

__version__ = "0.1.0"
