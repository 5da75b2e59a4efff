"""What has to be there in a test, for the type checker and for the reader of a failure."""

from __future__ import annotations

from typing import TypeVar

ValueT = TypeVar("ValueT")


def there(value: ValueT | None) -> ValueT:
    """Return what must not be None."""
    assert value is not None
    return value
