"""The latency model keeps its goals on models that it has not seen, and ships what is fitted."""

import numpy as np
import pytest

from benchmarks.latency import (
    CHIPS,
    Unseen,
    constants_of,
    interval_of,
    leave_out,
    load,
    samples_of,
)
from espdl_quantize.chip.cost import shipped_constants

FIGURES = load(None)
SAMPLES = samples_of(FIGURES)


@pytest.fixture(scope="module")
def unseen() -> list[Unseen]:
    return leave_out(SAMPLES)


def test_all_published_latencies_are_there() -> None:
    assert len(FIGURES["models"]) == 48
    assert sum(sample.is_kernel for sample in SAMPLES) == 12


@pytest.mark.parametrize(("chip", "median"), [("esp32p4", 0.105), ("esp32s3", 0.15)])
def test_errors_on_families_left_out(unseen: list[Unseen], chip: str, median: float) -> None:
    errors = [abs(model.error) for model in unseen if model.sample.chip == chip]
    assert np.median(errors) <= median
    assert np.quantile(errors, 0.9) <= 0.35


def test_the_ratio_of_two_widths(unseen: list[Unseen]) -> None:
    times = {model.sample.name: model.milliseconds for model in unseen}
    ratio = times["pp_ocr_v6_rec_s16"] / times["pp_ocr_v6_rec_s8"]
    assert ratio == pytest.approx(383.3 / 168.9, rel=0.2)


def test_the_interval_holds_nine_of_ten(unseen: list[Unseen]) -> None:
    for chip in CHIPS:
        here = [model for model in unseen if model.sample.chip == chip]
        spread, factor = interval_of(here)
        inside = [
            abs(model.logarithm) <= factor * np.sqrt(spread**2 + model.variance) for model in here
        ]
        assert np.mean(inside) >= 0.85


def test_the_package_ships_what_is_fitted() -> None:
    fitted = constants_of(SAMPLES, FIGURES)["chips"]
    for chip, value in fitted.items():
        shipped = shipped_constants(chip)
        assert dict(shipped.nanoseconds) == pytest.approx(value["nanoseconds"], rel=1e-3)
        assert shipped.spread == pytest.approx(value["spread"], abs=1e-3)
        assert shipped.second_core == pytest.approx(value["second_core"], abs=2e-3)
