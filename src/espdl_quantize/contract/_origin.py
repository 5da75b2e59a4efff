"""What a score was measured with, so that scores which do not compare are not ranked together."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass, fields
from typing import NamedTuple

_SHOWN = 12
"""Characters of a key that are shown; they differ where keys do."""


class Conflict(NamedTuple):
    """One thing in which two origins differ."""

    name: str
    mine: str
    theirs: str

    @property
    def is_of_chips(self) -> bool:
        """Return whether the chips differ, and not what was quantized for them."""
        return self.name == "target_chip"

    def shown(self) -> tuple[str, str]:
        """Return both values as they are shown: a key by its beginning."""
        if self.is_of_chips:
            return repr(self.mine), repr(self.theirs)
        return self.mine[:_SHOWN], self.theirs[:_SHOWN]


@dataclass(frozen=True)
class Origin:
    """Chip, contract and model behind a score; None where a folder does not say.

    Attributes:
        target_chip: the chip that was quantized for.
        float_reference_key: stands for the contract and the float model.
    """

    target_chip: str | None = None
    float_reference_key: str | None = None

    def conflicts(self, other: Origin) -> list[Conflict]:
        """Return what differs.

        What one side does not say differs from nothing: folders of older versions have no key.
        """
        conflicts = []
        for field in fields(self):
            mine, theirs = getattr(self, field.name), getattr(other, field.name)
            if mine is not None and theirs is not None and mine != theirs:
                conflicts.append(Conflict(field.name, mine, theirs))
        return conflicts


def common_origin(scored: Iterable[Origin]) -> Origin:
    """Return the origin that the scored iterations of one folder are held against.

    It is the first one's. What that one does not say is taken from the first later one that fits.
    """
    common = Origin()
    for origin in scored:
        if not common.conflicts(origin):
            common = Origin(
                common.target_chip or origin.target_chip,
                common.float_reference_key or origin.float_reference_key,
            )
    return common
