import json
import unicodedata
from typing import Any

from hypothesis import example, given
from hypothesis import strategies as st

from espdl_quantize.mcp.texts import as_text, clean, dumped, fitted, quoted, without_nothing
from tests.matrix import examples

TEXT = st.text(max_size=3000)
JSON = st.recursive(
    st.none() | st.booleans() | st.integers() | TEXT,
    lambda inner: (
        st.lists(inner, max_size=40) | st.dictionaries(st.text(max_size=20), inner, max_size=20)
    ),
    max_leaves=60,
)


@given(TEXT)
def test_nothing_invisible_is_left(text: str) -> None:
    cleaned = clean(text)
    assert all(
        character in "\n\t" or unicodedata.category(character) not in ("Cc", "Cf", "Co", "Cs")
        for character in cleaned
    )
    assert clean(cleaned) == cleaned


def test_direction_marks_and_tags_go_and_other_scripts_stay() -> None:
    assert clean("a\u202eb\u2066c\u200bd\x1b[31me\ufeff\U000e0041") == "abcd[31me"
    assert clean("量化 é 😀\tx\r\ny") == "量化 é 😀\tx\ny"


@given(st.lists(TEXT))
def test_no_foreign_line_passes_for_the_servers(lines: list[str]) -> None:
    shown = quoted(lines)
    assert all(line.startswith("| ") for line in shown.split("\n")) or not lines


@given(st.dictionaries(st.text(max_size=20), JSON, max_size=10))
@example({"untrusted": [None, "x" * 5000]})
@example({"untrusted": 1})
@examples(25, whole=100)
def test_content_fits_whatever_it_is(content: dict[str, Any]) -> None:
    cut, is_cut = fitted(content, 3000)
    assert is_cut == (len(dumped(content)) > 3000)
    assert not is_cut or len(dumped(cut)) < len(dumped(content))
    assert len(as_text(content)) < 2300
    json.dumps(without_nothing(cut))


def test_a_key_that_is_of_no_use_cut_is_kept_whole() -> None:
    setting = {"rationale": "r" * 2000, "layers": [str(n) for n in range(100)]}
    cut, is_cut = fitted({"setting": setting, "log": ["x" * 500] * 100}, 8000, ["setting"])
    assert is_cut
    assert cut["setting"] == setting
    assert cut["log"][-1].endswith("more")
