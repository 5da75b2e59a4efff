"""What an examination of a contract found: faults, warnings and notes, each with its remedy."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from espdl_quantize.core.enums import Word
from espdl_quantize.core.errors import (
    EXIT_CONTRACT,
    ContractError,
    EspdlQuantizeError,
    Json,
)
from espdl_quantize.core.hints import PLAIN, Hint, Spelling, join_hints


class FindingKind(Word):
    """How much a finding weighs."""

    FAULT = "fault"
    """Nothing that is worth its time can come of a run."""
    WARNING = "warning"
    """Something is odd: the figures are in the message, and the reader judges."""
    NOTE = "note"
    """What was done or assumed, and may be good to know."""


@dataclass(frozen=True)
class Finding:
    """One thing that was found.

    Attributes:
        kind: fault, warning or note.
        code: a stable name of the cause in lower case with underscores, for programs.
        subject: the thing that it is about, such as an op, an input or a function.
        message: what was found and what is expected, with the figures.
        hint: what to do about it, options and commands as codes.
        figures: the numbers and names of the message, for programs.
        error: what a fault is raised as; made of the other fields where there is none.
    """

    kind: FindingKind
    code: str
    subject: str
    message: str
    hint: str = ""
    figures: Mapping[str, Any] = field(default_factory=dict)
    error: EspdlQuantizeError | None = field(default=None, compare=False, repr=False)

    @classmethod
    def of_error(cls, error: EspdlQuantizeError, code: str, subject: str) -> Finding:
        """Return the fault that an error tells of."""
        return cls(FindingKind.FAULT, code, subject, error.cause, error.hint, error=error)

    @property
    def is_fault(self) -> bool:
        """Whether it is a fault."""
        return self.kind == FindingKind.FAULT

    @property
    def exit_code(self) -> int:
        """The exit code that a fault ends the command with."""
        return EXIT_CONTRACT if self.error is None else self.error.exit_code

    @property
    def line(self) -> str:
        """The message, which begins with the subject where it does not name it."""
        if self.error is not None or not self.subject or self.subject in self.message:
            return self.message
        return f"{self.subject}: {self.message}"

    def as_error(self) -> EspdlQuantizeError:
        """Return a fault as an error."""
        return self.error or ContractError(self.line, self.hint)

    def to_json(self, spelling: Spelling = PLAIN) -> Json:
        """Return it as every door writes it."""
        hint = self.hint if isinstance(self.hint, Hint) else Hint(self.hint)
        return {
            "kind": str(self.kind),
            "code": self.code,
            "subject": self.subject,
            "message": self.message,
            "hint": spelling.spell(hint),
            "hint_parts": hint.to_json(),
            "figures": dict(self.figures),
        }

    @classmethod
    def from_json(cls, form: Any) -> Finding:
        """Make a finding of what :meth:`to_json` returned; what is missing is left out."""
        form = form if isinstance(form, dict) else {}
        try:
            hint = Hint.from_json(form.get("hint_parts"))
        except ValueError:
            hint = Hint(str(form.get("hint") or ""))
        kinds = set(FindingKind)
        kind = str(form.get("kind"))
        figures = form.get("figures")
        return cls(
            FindingKind(kind) if kind in kinds else FindingKind.FAULT,
            str(form.get("code") or ""),
            str(form.get("subject") or ""),
            str(form.get("message") or ""),
            hint,
            figures if isinstance(figures, dict) else {},
        )


class FindingsError(EspdlQuantizeError):
    """Several faults that were found in one go; it ends the command as the first of them would.

    Attributes:
        findings: the faults.
    """

    kind = "findings"

    def __init__(self, findings: Sequence[Finding]) -> None:
        self.findings = tuple(findings)
        causes = [finding.line for finding in self.findings]
        hints = dict.fromkeys(finding.hint for finding in self.findings)
        super().__init__(f"{len(causes)} faults: {'; '.join(causes)}", join_hints(hints))
        if self.findings:
            self.exit_code = self.findings[0].exit_code

    def reworded(self, cause: str, hint: str) -> FindingsError:
        """Return the same faults in other words."""
        error = FindingsError(self.findings)
        error.cause, error.hint = cause, hint if isinstance(hint, Hint) else Hint(hint)
        error.args, error.__cause__ = (cause, hint), self.__cause__
        return error

    def details(self) -> Json:
        """Return each fault on its own."""
        return {"findings": [finding.to_json() for finding in self.findings]}

    @classmethod
    def restore(cls, cause: str, hint: Hint, form: Json) -> FindingsError:
        """Make the error again, in its own words."""
        error = cls([Finding.from_json(each) for each in form.get("findings") or ()])
        error.cause, error.hint, error.args = cause, hint, (cause, hint)
        if isinstance(form.get("exit_code"), int):
            error.exit_code = form["exit_code"]
        return error


def error_of(findings: Iterable[Finding]) -> EspdlQuantizeError | None:
    """Return the error that the faults among some findings come to; None where there is none.

    What was one error stays that error; several become a :class:`FindingsError`.
    """
    faults = [finding for finding in findings if finding.is_fault]
    if not faults:
        return None
    raised = {id(fault.error): fault.error for fault in faults}
    if len(raised) == 1 and (len(faults) == 1 or faults[0].error is not None):
        return faults[0].as_error()
    return FindingsError(faults)
