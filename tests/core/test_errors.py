"""One form of an error for every door, and the hierarchy that the module draws."""

from __future__ import annotations

import json
import pickle

import pytest

from espdl_quantize.contract import ContractFaultsError, Fault
from espdl_quantize.core import (
    PLAIN,
    PYTHON,
    SHELL,
    Command,
    EspdlQuantizeError,
    FailedPass,
    Hint,
    InterruptedSearchError,
    IterationError,
    Option,
    OutputFolderError,
    PassError,
    UsageError,
    errors,
    hint_of,
)

HINT = Hint("give another ", Option.OUTPUT_DIR, ", or pass ", Option.OVERWRITE.of(True))
FAULTS = [Fault("device", "'tpu'", "cpu or cuda", "cpu")]
PASS = FailedPass("tqt", "tqt_optimization", "/a/Conv", ("/a/Conv", "/a/Relu"), ("/b/Conv",))


def every_error() -> list[EspdlQuantizeError]:
    plain = [
        kind("it broke", HINT)
        for kind in vars(errors).values()
        if isinstance(kind, type) and issubclass(kind, EspdlQuantizeError)
    ]
    return [*plain, PassError("it broke", HINT, PASS), ContractFaultsError("user_quant.py", FAULTS)]


@pytest.mark.parametrize("error", every_error(), ids=lambda error: type(error).__name__)
def test_an_error_is_the_same_after_its_json(error: EspdlQuantizeError) -> None:
    again = EspdlQuantizeError.from_json(json.loads(json.dumps(error.to_json())))
    # What a search was interrupted by is of no use to another process.
    expected = errors.InterruptedCommandError if isinstance(error, InterruptedSearchError) else None
    assert type(again) is (expected or type(error))
    assert (again.cause, again.hint.parts) == (error.cause, error.hint.parts)
    assert again.to_json() == error.to_json()
    assert again.to_json(SHELL) == error.to_json(SHELL)


def test_what_an_error_knows_beyond_its_words_stays() -> None:
    failed, faulty = every_error()[-2:]
    again = EspdlQuantizeError.from_json(failed.to_json())
    assert isinstance(again, PassError)
    assert again.failed_pass == PASS
    listed = EspdlQuantizeError.from_json(faulty.to_json())
    assert isinstance(listed, ContractFaultsError)
    assert listed.faults == tuple(FAULTS)


@pytest.mark.parametrize(
    ("form", "cause", "hint"),
    [
        (None, "it failed", ""),
        ([1], "it failed", ""),
        ({"cause": "c", "mend": "m"}, "c", "m"),
        ({"message": "c", "hint": "h", "kind": "of tomorrow"}, "c", "h"),
        ({"cause": "c", "hint": "h", "hint_parts": [{"option": "of_tomorrow"}]}, "c", "h"),
        (
            {"cause": "c", "hint": "h", "hint_parts": [{"command": "tune", "arguments": 1}]},
            "c",
            "h",
        ),
        ({"cause": "c", "hint": "h", "hint_parts": [{"option": "time", "value": []}]}, "c", "h"),
        ({"cause": "c", "hint": "h", "hint_parts": "x"}, "c", "h"),
    ],
)
def test_what_another_version_wrote_is_still_an_error(form: object, cause: str, hint: str) -> None:
    error = EspdlQuantizeError.from_json(form)
    assert (error.cause, error.hint) == (cause, hint)
    assert error.exit_code == errors.EXIT_REFUSED


def test_the_tree_at_the_head_of_the_module_is_the_hierarchy() -> None:
    drawn = (errors.__doc__ or "").splitlines()
    for error in every_error():
        (line,) = (line for line in drawn if type(error).__name__ in line.replace(".", " ").split())
        if type(error).__mro__[1] is EspdlQuantizeError:
            assert str(error.exit_code) in line.split()
            assert f"{error.kind}" in line or type(error) is EspdlQuantizeError


def test_a_hint_is_a_string_that_keeps_its_codes() -> None:
    assert HINT == "give another output_dir, or pass overwrite"
    longer = HINT + "; or wait"
    assert isinstance(longer, Hint)
    assert SHELL.spell(longer) == "give another --output-dir, or pass --overwrite; or wait"
    assert not Hint()
    assert UsageError("no").hint == ""
    copy = pickle.loads(pickle.dumps(OutputFolderError("taken", HINT)))
    assert copy.hint.parts == HINT.parts
    assert IterationError("c", HINT).reworded("d", HINT).hint.parts == HINT.parts


def test_python_reads_keyword_arguments() -> None:
    error = OutputFolderError("taken", HINT)
    assert str(error) == "taken -> give another output_dir, or pass overwrite=True"
    assert PLAIN.spell(Hint("see ", Command.COMPARE)) == "see 'compare'"
    assert PYTHON.spell(Hint("see ", Command.COMPARE)) == "see espdl_quantize.report.compare()"
    assert hint_of(error.to_json()).parts == HINT.parts
