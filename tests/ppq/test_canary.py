"""The comparison of the engines on a tiny network: it notices a wrong number, and runs seldom."""

from __future__ import annotations

import json
import math
import threading
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from esp_ppq.executor import torch as executor

from espdl_quantize.ppq import FastEngine, ReferenceEngine, canary
from espdl_quantize.ppq.canary import Outcome, cache_folder, find_difference, forget, key
from espdl_quantize.ppq.fast import _kernels, observer_kernels, observers, writing
from espdl_quantize.ppq.fast.training import block
from espdl_quantize.ppq.fast.training.parameters import Parameters


@pytest.fixture(scope="module")
def network(tmp_path_factory: pytest.TempPathFactory) -> canary._Network:
    return canary._Network(tmp_path_factory.mktemp("network"))


@pytest.fixture(scope="module")
def plain(network: canary._Network) -> Outcome:
    with canary._left_alone():
        return network.outcome(ReferenceEngine())


def fast(network: canary._Network) -> Outcome:
    with canary._left_alone():
        engine = FastEngine(check=False)
        outcome = network.outcome(engine)
    assert not engine.records, engine.warnings
    return outcome


def test_the_engines_agree(network: canary._Network, plain: Outcome) -> None:
    assert canary._apart(plain, fast(network)) == ""
    # The wide steps did move exponents: a network whose exponents stay loses far less.
    before, after = plain.losses[::2], plain.losses[1::2]
    assert all(math.isfinite(loss) for loss in plain.losses)
    assert any(abs(b - a) > 0.1 * a for a, b in zip(before, after, strict=True))


def scaled(factor: float) -> Callable[..., Any]:
    def change(original: Callable[..., Any]) -> Callable[..., Any]:
        return lambda *given: original(*given) * factor

    return change


def widened(original: Callable[..., Any]) -> Callable[..., Any]:
    return lambda *given: tuple(4 * value for value in original(*given))


def without_last_byte(original: Callable[..., Any]) -> Callable[..., Any]:
    return lambda builder, data: original(builder, data[:-1] + b"\0")


def half_the_gradient(original: Callable[..., Any]) -> Callable[..., Any]:
    def change(*given: Any, **named: Any) -> Any:
        dx, dweight = original(*given, **named)
        dweight[::2] = -dweight[::2]
        return dx, dweight

    return change


def slower(original: Callable[..., Any]) -> Callable[..., Any]:
    def change(parameters: Any) -> None:
        parameters._rate *= 0.9
        original(parameters)

    return change


@pytest.mark.parametrize(
    ("owner", "name", "change", "says"),
    [
        (observer_kernels, "mse_of_range", scaled(-1.0), "the exponents differ (mse"),
        (observers, "order_statistics", widened, "the exponents differ"),
        (_kernels, "backward", scaled(-1.0), "the losses"),
        (block, "convolution_gradients", half_the_gradient, "the losses"),
        (Parameters, "step", slower, "the losses"),
        (writing, "prepend", without_last_byte, "the exported files differ"),
    ],
)
def test_a_wrong_number_is_noticed(
    owner: Any,
    name: str,
    change: Any,
    says: str,
    network: canary._Network,
    plain: Outcome,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(owner, name, change(getattr(owner, name)))
    assert says in canary._apart(plain, fast(network))


@pytest.fixture
def cache(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Return an empty cache, in which nothing is known yet."""
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))
    monkeypatch.setattr(canary, "_difference", canary._difference.__wrapped__)
    return tmp_path / "cache/espdl-quantize/engine"


@pytest.fixture
def verdicts(monkeypatch: pytest.MonkeyPatch) -> list[tuple[str, bool]]:
    """Stand in for the comparison: return what is to come out of it, one after the other."""
    given: list[tuple[str, bool]] = []
    monkeypatch.setattr(canary, "compare", lambda: given.pop(0))
    return given


def test_a_verdict_is_kept_for_other_processes(
    cache: Path, verdicts: list[tuple[str, bool]]
) -> None:
    verdicts.append(("the weights differ", True))
    assert [find_difference() for _ in range(3)] == ["the weights differ"] * 3
    assert [file.name for file in cache.iterdir()] == [f"{key()}.json"]


def test_another_environment_is_compared_anew(
    cache: Path, verdicts: list[tuple[str, bool]], monkeypatch: pytest.MonkeyPatch
) -> None:
    verdicts += [("", True), ("the weights differ", True)]
    assert find_difference() == ""
    monkeypatch.setattr(canary, "_processor", lambda: "another one")
    assert find_difference() == "the weights differ"
    assert len(list(cache.iterdir())) == 2


@pytest.mark.parametrize("content", [b"", b"\xff{", b"[]", b'{"difference": 1}', b'{"other": ""}'])
def test_a_broken_verdict_is_found_again(
    content: bytes, cache: Path, verdicts: list[tuple[str, bool]]
) -> None:
    cache.mkdir(parents=True)
    (cache / f"{key()}.json").write_bytes(content)
    verdicts.append(("", True))
    assert find_difference() == ""
    assert json.loads((cache / f"{key()}.json").read_text()) == {"difference": ""}


def test_what_may_be_a_matter_of_the_moment_is_not_kept(
    cache: Path, verdicts: list[tuple[str, bool]]
) -> None:
    verdicts += [("no memory", False), ("", True)]
    assert find_difference() == "no memory"
    assert find_difference() == ""


def test_no_cache_costs_time_and_nothing_else(
    tmp_path: Path, cache: Path, verdicts: list[tuple[str, bool]], monkeypatch: pytest.MonkeyPatch
) -> None:
    # A file where the folder should be: neither root nor another user can write there.
    (tmp_path / "cache").write_text("")
    verdicts += [("", True), ("", True)]
    assert [find_difference() for _ in range(2)] == ["", ""]

    def homeless() -> Path:
        raise RuntimeError("no home")

    monkeypatch.setenv("XDG_CACHE_HOME", "relative")
    monkeypatch.setattr(Path, "home", homeless)
    assert cache_folder() is None
    verdicts.append(("", True))
    assert find_difference() == ""


def test_threads_compare_once_and_leave_one_whole_file(
    cache: Path, verdicts: list[tuple[str, bool]]
) -> None:
    verdicts.append(("", True))
    answers: list[str] = []
    threads = [threading.Thread(target=lambda: answers.append(find_difference())) for _ in range(8)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert answers == [""] * 8
    assert [file.name for file in cache.iterdir()] == [f"{key()}.json"]


def test_a_process_asks_once(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path))
    calls: list[int] = []

    def compare() -> tuple[str, bool]:
        calls.append(1)
        return "", False

    monkeypatch.setattr(canary, "compare", compare)
    try:
        for _ in range(3):
            find_difference()
        assert len(calls) == 1
    finally:
        forget()


def test_an_engine_that_differs_leaves_everything_to_esp_ppq_and_says_so(
    cache: Path, verdicts: list[tuple[str, bool]]
) -> None:
    verdicts += [("the weights differ", True)]
    original = executor.PPQuantFunction
    engine = FastEngine()
    with engine.install():
        assert executor.PPQuantFunction is original
    (warning,) = engine.warnings
    assert "comparison with plain esp-ppq" in warning
    assert "the weights differ" in warning


def test_a_failure_of_either_engine_is_no_verdict(monkeypatch: pytest.MonkeyPatch) -> None:
    def failing(engine: Any) -> Any:
        def outcome(network: Any, other: Any) -> Outcome:
            if isinstance(other, engine):
                raise ValueError("boom")
            return Outcome({}, [], {}, {}, {}, b"")

        return outcome

    for engine in (ReferenceEngine, FastEngine):
        monkeypatch.setattr(canary._Network, "outcome", failing(engine))
        difference, is_certain = canary.compare()
        assert "boom" in difference
        assert not is_certain
