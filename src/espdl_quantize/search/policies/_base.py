"""What a policy of open exploration is: it looks at the evidence and names the next setting."""

from __future__ import annotations

from abc import ABC, abstractmethod
from typing import TYPE_CHECKING, ClassVar

from espdl_quantize.search._decisions import Proposal

if TYPE_CHECKING:
    from espdl_quantize.search._state import SearchState


class Policy(ABC):
    """Proposes settings. It keeps no memory: all that it knows is in the state.

    A new policy is a subclass in a file of its own and a line in :data:`POLICIES`.

    Attributes:
        name: as on the command line.
    """

    name: ClassVar[str]

    @abstractmethod
    def propose(self, state: SearchState) -> Proposal | None:
        """Propose a setting that was never run; None where none is left."""
