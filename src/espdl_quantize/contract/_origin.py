"""What a score was measured with, so that scores which do not compare are not ranked together."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from typing import NamedTuple

_SHOWN = 12
"""Characters of a key that are shown; they differ where keys do."""

_NONE_NAMED = "none"
"""Shown where no version of ESP-DL was named."""


class Conflict(NamedTuple):
    """One thing in which two origins differ."""

    name: str
    mine: str
    theirs: str

    @property
    def is_of_chips(self) -> bool:
        """Return whether the chips differ, and not what was quantized for them."""
        return self.name == "target_chip"

    @property
    def is_of_versions(self) -> bool:
        """Return whether another version of ESP-DL was named, or none."""
        return self.name == "esp_dl_version"

    def shown(self) -> tuple[str, str]:
        """Return both values as they are shown: a key by its beginning."""
        if self.is_of_chips:
            return repr(self.mine), repr(self.theirs)
        if self.is_of_versions:
            return self.mine, self.theirs
        return self.mine[:_SHOWN], self.theirs[:_SHOWN]


@dataclass(frozen=True)
class Origin:
    """Chip, contract and model behind a score; None where a folder does not say.

    Attributes:
        target_chip: the chip that was quantized for.
        float_reference_key: stands for the contract and the float model.
        esp_dl_version: that was named; it is part of the key, and says why keys differ.
    """

    target_chip: str | None = None
    float_reference_key: str | None = None
    esp_dl_version: str | None = None

    def conflicts(self, other: Origin) -> list[Conflict]:
        """Return what differs.

        What one side does not say differs from nothing: folders of older versions have no key.
        """
        conflicts = []
        for name in ("target_chip", "float_reference_key"):
            mine, theirs = getattr(self, name), getattr(other, name)
            if mine is not None and theirs is not None and mine != theirs:
                conflicts.append(Conflict(name, mine, theirs))
        versions = self.esp_dl_version, other.esp_dl_version
        if versions[0] != versions[1] and [each.name for each in conflicts] == [
            "float_reference_key"
        ]:
            return [Conflict("esp_dl_version", *(each or _NONE_NAMED for each in versions))]
        return conflicts


def common_origin(scored: Iterable[Origin]) -> Origin:
    """Return the origin that the scored iterations of one folder are held against.

    It is the first one's. What that one does not say is taken from the first later one that fits.
    """
    common = Origin()
    for origin in scored:
        if not common.conflicts(origin):
            keyed = common if common.float_reference_key else origin
            common = Origin(
                common.target_chip or origin.target_chip,
                keyed.float_reference_key,
                keyed.esp_dl_version,
            )
    return common
