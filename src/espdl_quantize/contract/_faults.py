"""A fault in a contract, described so that it can be fixed without reading this code."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import asdict, dataclass
from typing import Any

from espdl_quantize.core import ContractError, Hint, Json


@dataclass(frozen=True)
class Fault:
    """One fault: where it is, what was found there, what is expected, and an example."""

    key: str
    found: str
    expected: str
    example: str

    @property
    def name(self) -> str:
        """The key of QUANT_CONFIG, or the function, that it is about."""
        return self.key.removeprefix('QUANT_CONFIG["').removesuffix('"]').removesuffix("()")

    def __str__(self) -> str:
        return f"{self.key}: found {self.found}, expected {self.expected}, e.g. {self.example}"


class ContractFaultsError(ContractError):
    """Every fault that was found in a contract, together.

    Attributes:
        path: of the contract, or what else names it.
        faults: each on its own.
        rest: the contract with harmless values in the place of the faulty ones, a
            :class:`~espdl_quantize.contract.Contract`, so that what does not depend on them can be
            examined; None where too much does, and in another process.
    """

    kind = "contract_faults"

    def __init__(self, path: str, faults: Sequence[Fault], rest: Any = None) -> None:
        self.path, self.faults = path, tuple(faults)
        self.rest = rest
        count = "1 fault" if len(faults) == 1 else f"{len(faults)} faults"
        super().__init__(f"{path} has {count}: " + "; ".join(str(fault) for fault in faults))

    def details(self) -> Json:
        """Return each fault on its own."""
        return {"faults": [asdict(fault) for fault in self.faults]}

    @classmethod
    def restore(cls, cause: str, hint: Hint, form: Json) -> ContractFaultsError:
        """Make the error again, in its own words."""
        error = cls("", [Fault(**fault) for fault in form.get("faults") or ()])
        error.cause, error.hint, error.args = cause, hint, (cause, hint)
        return error
