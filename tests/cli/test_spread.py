"""How the draws of ``repeat`` are summed up."""

from espdl_quantize.cli.repeat import spread


def summary(low: float, high: float) -> dict[str, object]:
    mean = (low + high) / 2
    return {"draws": [1, 2], "mean": mean, "lowest": low, "highest": high} | {
        "standard_deviation": high - low
    }


def test_no_spread_is_said_in_words() -> None:
    assert spread(summary(77.375, 77.375), 77.375, 77.375) == "all 2 draws scored 77.375: no spread"


def test_the_ends_of_an_interval_are_told_apart() -> None:
    told = spread(summary(77.374, 77.376), 77.374, 77.376)
    assert told.startswith("mean 77.375 (95 % 77.374 to 77.376)")
    assert spread(summary(70, 80), 65.111, 84.999).startswith("mean 75 (95 % 65.111 to 84.999)")
