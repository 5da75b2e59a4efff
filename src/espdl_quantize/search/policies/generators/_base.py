"""What a generator of candidates is."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Iterator
from typing import TYPE_CHECKING, ClassVar

from espdl_quantize.core import Phase
from espdl_quantize.search._decisions import Proposal
from espdl_quantize.search.policies._parameters import PolicyParameters
from espdl_quantize.setting import Setting

if TYPE_CHECKING:
    from espdl_quantize.search._state import SearchState


class Generator(ABC):
    """One kind of change to best's setting."""

    pattern: ClassVar[str]

    @abstractmethod
    def candidates(self, state: SearchState, parameters: PolicyParameters) -> Iterator[Proposal]:
        """Yield proposals in a fixed order; those that were run before are sorted out later."""

    def _proposal(self, setting: Setting, reason: str) -> Proposal:
        return Proposal(setting=setting, phase=Phase.OPEN, pattern=self.pattern, reason=reason)
