"""A contract for each network that no example has. They are run from the root of the repository."""
