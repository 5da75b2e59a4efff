"""Measurements of the product; run them as modules from the root of the repository."""
