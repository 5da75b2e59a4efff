"""Every command that takes --esp-dl-version refuses what is none, before it reads or writes."""

from __future__ import annotations

from pathlib import Path

import pytest
from typer.testing import CliRunner

from espdl_quantize.cli import app
from espdl_quantize.cli._options import version_of_esp_dl
from espdl_quantize.core import ContractError
from espdl_quantize.targets.ops import oldest_version, version_text

COMMANDS = {
    "check": ["check", "none.py"],
    "run": ["run", "none.py", "--output-dir", "outputs/iter_0", "--baseline"],
    "tune": ["tune", "none.py"],
    "verify": ["verify", "none.py"],
    "deploy": ["deploy", "outputs", "--project", "board"],
}


@pytest.mark.parametrize("name", COMMANDS)
@pytest.mark.parametrize(
    ("version", "told"),
    [
        ("3.3", "'3.3' is no version of ESP-DL, expected three numbers"),
        ("", "'' is no version"),
        ("latest", "'latest' is no version"),
        ("^3.3.9", "is no version"),
        ("3.3.9; rm", "is no version"),
        ('3.3.9"\nidf: "*', "is no version"),
        ("9" * 4000, "is no version"),
        ("3.3.99999", "is no version"),
        ("2.9.9", f"needs {version_text(oldest_version())} or later"),
        ("0.0.0", "cannot load what esp-ppq exports"),
    ],
)
def test_what_is_no_version_is_refused_first(
    name: str, version: str, told: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    done = CliRunner().invoke(app, [*COMMANDS[name], f"--esp-dl-version={version}"])
    assert isinstance(done.exception, ContractError), done.output
    assert told in done.exception.cause
    assert done.exception.hint
    assert len(str(done.exception)) < 400
    assert not list(tmp_path.iterdir())


def test_a_version_is_passed_on_as_it_is_written() -> None:
    assert version_of_esp_dl(None) is None
    for version in ("3.3.9", "v3.3.9", " 3.3.9 ", "03.3.9"):
        assert version_of_esp_dl(version) == "3.3.9"
    # What a later one has is not known; it is taken.
    assert version_of_esp_dl("4.0.0") == "4.0.0"
