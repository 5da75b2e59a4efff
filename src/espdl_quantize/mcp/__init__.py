"""A server of the Model Context Protocol: the command's work as tools for an agent."""

from espdl_quantize.mcp._serve import serve

__all__ = ["serve"]
