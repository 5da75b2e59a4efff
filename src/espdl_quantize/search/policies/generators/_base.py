"""What a generator of candidates is."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Iterator
from dataclasses import dataclass
from typing import ClassVar

from espdl_quantize.search.policies._base import PolicyContext
from espdl_quantize.search.policies._parameters import PolicyParameters
from espdl_quantize.setting import Setting


@dataclass(frozen=True)
class Candidate:
    """A setting that could be next.

    Attributes:
        setting: best's setting with a change.
        pattern: the kind of move.
        reason: what of the artifacts or of the history suggests it.
    """

    setting: Setting
    pattern: str
    reason: str


class Generator(ABC):
    """One kind of move from best's setting."""

    pattern: ClassVar[str]

    @abstractmethod
    def candidates(
        self, context: PolicyContext, parameters: PolicyParameters
    ) -> Iterator[Candidate]:
        """Yield candidates in a fixed order; those that were run before are sorted out later."""

    def _candidate(self, setting: Setting, reason: str) -> Candidate:
        return Candidate(setting, self.pattern, reason)
