"""The contracts that the documentation shows run, and print what it shows."""

import json
import re
from collections.abc import Callable
from pathlib import Path

import pytest

from espdl_quantize.record import IterationRecord
from tests.cli.conftest import Command
from tests.docs.test_shown_output import missing, plain
from tests.test_readme import PAGES, ROOT, blocks

pytestmark = pytest.mark.slow

DEMO = "examples/fashion_mnist/user_quant.py"


@pytest.fixture
def printed_by(command: Command, monkeypatch: pytest.MonkeyPatch) -> Callable[..., str]:
    """Return what runs the command in the project's folder and returns all that it prints."""

    def run(*arguments: str, columns: int = 240) -> str:
        monkeypatch.chdir(ROOT)
        done = command(*arguments, columns=columns)
        assert done.returncode == 0, done.stderr
        return plain(done.stdout + done.stderr)

    return run


def is_like(shown: str, printed: str) -> bool:
    """Tell whether a line was printed with numbers like these: what training finds depends a little
    on the order in which a processor adds."""
    number = re.compile(r"\d+(?:\.\d+)?(?:e-?\d+)?")
    wanted = [float(one) for one in number.findall(shown)]
    pattern = f"({number.pattern})".join(map(re.escape, number.split(shown)))
    matches = (match.groups() for match in re.finditer(pattern, printed))
    found = ([float(one) for one in match] for match in matches)
    return any(one == pytest.approx(wanted, rel=0.1) for one in found)


def test_a_line_is_like_another_of_near_numbers() -> None:
    assert is_like("top1 86.7", "top1 86.9 and more")
    assert is_like("top1 86.7 (+12.4), noise 0.08", "iter_1: top1 86.9 (+12.6), noise 0.082, best")
    assert not is_like("top1 86.7 (+12.4), noise 0.08", "top1 86.9 (+9.6), noise 0.082")
    assert not is_like("top1 86.7: new best", "top1 86.7: within noise")


def test_the_tutorial(tmp_path: Path, printed_by: Callable[..., str]) -> None:
    check, said, table, *_ = blocks(PAGES["docs/tutorial/demo.md"], "text")
    assert missing(check, printed_by("check", DEMO, columns=160)) == []
    # Nothing is trained in these, so that they take seconds.
    first = "".join(line + "\n" for line in table.splitlines()[1:6])
    assert first.count("│ new best") == 1
    printed = printed_by("tune", DEMO, "--output-dir", str(tmp_path), "--iterations", "5")
    assert missing(said, printed, is_like) == []
    assert missing(first, printed, is_like) == []


def test_the_detector_and_its_page(tmp_path: Path, printed_by: Callable[..., str]) -> None:
    folder = tmp_path / "iter_0"
    contract = "examples/scene_detector/user_quant.py"
    run = ("run", contract, "--output-dir", str(folder), "--baseline", "--in-process")
    printed = printed_by(*run)
    page = PAGES["docs/how-to/own-detector.md"]
    shown = next(b for b in blocks(page, "text") if b.startswith("scene_detector"))
    assert missing(shown, printed) == []
    metrics = json.loads((folder / "metrics.json").read_text())
    assert 0 < metrics["map75"] < metrics["map50"]

    index = json.loads((folder / "iteration_index.json").read_text())
    fields = vars(IterationRecord)["__pydantic_fields__"].items()
    described = {field.serialization_alias or name for name, field in fields}
    assert set(index) <= described | {"status"}


def test_the_recurrent_model_and_its_page(tmp_path: Path, printed_by: Callable[..., str]) -> None:
    folder = tmp_path / "iter_0"
    contract = "examples/fashion_gru/user_quant.py"
    run = ("run", contract, "--output-dir", str(folder), "--baseline", "--in-process")
    printed = printed_by(*run)
    (shown,) = blocks(PAGES["docs/how-to/several-inputs.md"], "text")
    assert missing(shown, printed) == []
    index = json.loads((folder / "iteration_index.json").read_text())
    # Frames are paired within their sequences: nearly all of 28 rows of 1,000 images.
    assert index["signals"]["samples"] > 27_000
    # A board copies the state's integers back as they are.
    card = json.loads((folder / "model_card.json").read_text())
    shape = [1, 1, 64]
    ends = [end for end in (*card["inputs"], *card["outputs"]) if end["shape"] == shape]
    assert [end["exponent"] for end in ends] == [-7, -7]
    printed_by("deploy", str(folder), "--project", str(tmp_path / "board"))
    assert (tmp_path / "board" / "main" / "model.espdl").is_file()


@pytest.mark.parametrize(
    ("page", "parts", "metric"),
    [
        ("audio", 1, "top1"),
        ("embeddings", 1, "cosine_with_float"),
        ("embeddings", 2, "equal_error_rate"),
    ],
)
def test_a_contract_within_a_page(
    page: str, parts: int, metric: str, tmp_path: Path, printed_by: Callable[..., str]
) -> None:
    text = PAGES[f"docs/how-to/{page}.md"]
    contract = tmp_path / "user_quant.py"
    contract.write_text("\n\n".join(blocks(text, "python")[:parts]))
    folder = tmp_path / "iter_0"
    run = ("run", str(contract), "--output-dir", str(folder), "--baseline", "--in-process")
    printed = printed_by(*run)
    assert missing(blocks(text, "text")[parts - 1], printed, is_like) == []
    assert "warning" not in printed
    index = json.loads((folder / "iteration_index.json").read_text())
    assert index["primary_metric"] == metric and index["sample_count"] >= 500
