"""What one test leaves behind in the process is put back for the next."""

import gc
import signal
import sys
from collections.abc import Iterator

import pytest
from hypothesis import HealthCheck, settings

from tests.matrix import run_whole
from tests.there import there

# How long an example takes depends on what else the machine does: it says nothing of the code.
settings.register_profile(
    "any machine", deadline=None, suppress_health_check=[HealthCheck.too_slow]
)
settings.load_profile("any machine")

if signal.getsignal(signal.SIGINT) is signal.SIG_IGN:
    # A background job of a shell ignores Ctrl-C, and so would every process that a test starts.
    signal.signal(signal.SIGINT, signal.default_int_handler)


def pytest_addoption(parser: pytest.Parser) -> None:
    parser.addoption("--matrix", action="store_true", help="run every combination of a matrix")


def pytest_configure(config: pytest.Config) -> None:
    run_whole(bool(config.getoption("--matrix")))


def pytest_collection_modifyitems(config: pytest.Config, items: list[pytest.Item]) -> None:
    """Leave out what tests/matrix.py has marked, unless all of it is asked for."""
    if config.getoption("--matrix"):
        return
    left_out = [item for item in items if item.get_closest_marker("matrix")]
    if left_out:
        config.hook.pytest_deselected(items=left_out)
        items[:] = [item for item in items if not item.get_closest_marker("matrix")]


@pytest.fixture(scope="module", autouse=True)
def small_heap() -> None:
    """esp-ppq collects garbage all the time; let it not look through what pytest has loaded."""
    gc.collect()
    gc.freeze()


@pytest.fixture(scope="module")
def short_training() -> Iterator[None]:
    """Let a search train by fewer steps: what it decides does not depend on them."""
    from espdl_quantize.search import sweep_setting

    with pytest.MonkeyPatch.context() as patch:
        # One object, which all rules compare with.
        patch.setitem(vars(sweep_setting("kl").tqt_optimization), "steps", 20)
        assert there(sweep_setting("mse").tqt_optimization).steps == 20
        yield


@pytest.fixture(autouse=True)
def tiny_numbers() -> Iterator[None]:
    """Let numbers below 1e-38 count again: an iteration turns them to zero for the process."""
    yield
    torch = sys.modules.get("torch")
    if torch is not None:
        torch.set_flush_denormal(False)
