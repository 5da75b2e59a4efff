"""Work by op, milliseconds from it, and what a board's measurements change."""

import json
import math
from dataclasses import replace
from pathlib import Path

import pytest

from espdl_quantize.chip.cost import (
    KINDS,
    CalibrationError,
    Deployment,
    constants_of_json,
    cost_chips,
    load_constants,
    shipped_constants,
)
from espdl_quantize.chip.cost._latency import Measurement, calibrated, layer_milliseconds
from espdl_quantize.chip.cost._work import Caches, Operand, Operation, Work, work_of
from espdl_quantize.core import UsageError
from espdl_quantize.ppq import target_names

S3 = Caches(64 << 10)
CONSTANTS = shipped_constants("esp32s3")


def conv(
    size: int,
    channels_in: int,
    channels_out: int,
    kernel: int = 1,
    width: str = "S8",
    grouped: bool = False,
) -> Operation:
    bits = 8 if width == "S8" else 16
    weights = (kernel, kernel, channels_in, 1 if grouped else channels_out)
    return Operation(
        "Conv",
        width,
        (Operand(bits, (1, size, size, channels_in)), Operand(bits, weights, True)),
        (Operand(bits, (1, size, size, channels_out)),),
        (kernel, kernel),
        grouped,
    )


def used(work: Work) -> dict[str, float]:
    return {kind: count for kind, count in work.items() if count}


def test_a_conv_of_whole_vectors() -> None:
    assert used(work_of(conv(8, 16, 32, 3), S3)) == {
        "mac8": 64 * 9 * 16 * 2,
        "group": 64 * 2,
        "pixel": 64,
        "node": 1,
        "moved": 9 * 16 * 32,
    }


def test_a_channel_beyond_whole_vectors_costs_a_group_of_its_own() -> None:
    work = work_of(conv(8, 16, 33), S3)
    assert work["mac8_ragged"] == 64 * (16 * 2 + 1)
    assert work["group"] == 64 * 3
    ragged, whole = (work_of(conv(64, 64, channels), S3) for channels in (65, 64))
    assert CONSTANTS.milliseconds(ragged) > 1.5 * CONSTANTS.milliseconds(whole)


def test_sixteen_bits_have_half_the_lanes() -> None:
    narrow, wide = work_of(conv(8, 16, 32, 3), S3), work_of(conv(8, 16, 32, 3, "S16"), S3)
    assert wide["mac16"] == 2 * narrow["mac8"]
    assert wide["group"] == 2 * narrow["group"]


def test_a_depthwise_conv_is_no_product_of_channels() -> None:
    work = work_of(conv(8, 32, 32, 3, grouped=True), S3)
    assert work["depthwise"] == 64 * 9 * 2
    assert work["mac8"] == 0


def test_weights_beyond_the_cache_are_read_for_every_pixel() -> None:
    small, large = work_of(conv(8, 128, 128), S3), work_of(conv(8, 512, 512), S3)
    assert small["psram"] == 0
    assert large["psram"] == pytest.approx(63 * 512 * 512, rel=0.05)
    assert work_of(conv(8, 512, 512), S3, weights_in_flash=True)["flash"] > large["psram"]
    per_product = [CONSTANTS.milliseconds(work) / work["mac8"] for work in (small, large)]
    assert per_product[1] > 5 * per_product[0]


def elementwise(op_type: str, width: str, table: bool) -> Work:
    source = Operand(8 if width == "S8" else 16, (1, 64, 64, 64))
    return work_of(Operation(op_type, width, (source,), (source,), table=table), S3)


def test_a_table_replaces_floats() -> None:
    with_table, without = elementwise("Swish", "S8", True), elementwise("Swish", "S16", False)
    assert with_table["float"] == 0
    assert without["float"] == 64**3
    assert CONSTANTS.milliseconds(without) > 20 * CONSTANTS.milliseconds(with_table)


def test_internal_memory_needs_no_cache() -> None:
    source = Operand(8, (1, 256, 256, 16))
    inside = replace(source, internal=True)
    for operand, moved in ((source, True), (inside, False)):
        work = work_of(Operation("Relu", "S8", (operand,), (operand,)), S3)
        assert (work["moved"] > 0) is moved


def test_two_cores_share_a_high_conv_alone() -> None:
    both = Deployment(cores=2)
    for operation, shared in ((conv(32, 16, 16, 3), True), (conv(12, 16, 16, 3), False)):
        work = work_of(operation, S3)
        source = layer_milliseconds(operation, work, CONSTANTS, Deployment())
        two = layer_milliseconds(operation, work, CONSTANTS, both)
        assert (two < 0.8 * source) if shared else (two == source)


def test_every_chip_has_constants_and_two_have_milliseconds() -> None:
    assert set(cost_chips()) >= set(target_names())
    absolute = {chip for chip in cost_chips() if shipped_constants(chip).absolute}
    assert absolute == {"esp32s3", "esp32p4"}
    with pytest.raises(UsageError, match="give one of esp32s3"):
        shipped_constants("esp8266")


def test_an_interval_is_wider_where_less_is_known() -> None:
    low, high = CONSTANTS.interval(work_of(conv(32, 64, 64, 3), S3), 10.0)
    assert 5 < low < 10 < high < 20
    odd = {**dict.fromkeys(KINDS, 0.0), "float": 1e6}
    odd_low, odd_high = CONSTANTS.interval(odd, 10.0)
    assert odd_high > high
    assert odd_low < low


def works() -> list[Work]:
    made = [conv(s, c, c, k) for s, c, k in ((32, 32, 3), (16, 64, 1), (8, 512, 1), (16, 24, 3))]
    return [work_of(source, S3) for source in made] + [elementwise("Swish", "S16", False)]


def test_a_total_rescales_everything() -> None:
    whole = {kind: sum(work[kind] for work in works()) for kind in KINDS}
    published = CONSTANTS.milliseconds(whole)
    board = calibrated(CONSTANTS, [Measurement(whole, 1.6 * published)], "mine")
    assert board.milliseconds(whole) == pytest.approx(1.6 * published, rel=0.03)
    for work in works():
        assert board.milliseconds(work) > 1.1 * CONSTANTS.milliseconds(work)
    assert board.source == "calibrated on mine"
    assert board.residual is not None
    assert board.residual < 0.03
    low, high = board.interval(whole, 1.0)
    published_low, published_high = CONSTANTS.interval(whole, 1.0)
    assert high / low < published_high / published_low


def test_a_profile_by_layers_tells_the_kinds_apart() -> None:
    # A board whose PSRAM is three times as slow, and nothing else.
    slow = replace(
        CONSTANTS,
        nanoseconds={
            kind: value * (3 if kind in ("psram", "moved") else 1)
            for kind, value in CONSTANTS.nanoseconds.items()
        },
    )
    measured = [Measurement(work, slow.milliseconds(work), True) for work in works()]
    board = calibrated(CONSTANTS, measured, "slow PSRAM")
    for work in works():
        before = abs(math.log(CONSTANTS.milliseconds(work) / slow.milliseconds(work)))
        after = abs(math.log(board.milliseconds(work) / slow.milliseconds(work)))
        assert after < max(0.6 * before, 0.15)


def test_a_chip_without_figures_has_milliseconds_once_it_is_calibrated() -> None:
    plain = shipped_constants("esp32c3")
    work = works()[0]
    board = calibrated(plain, [Measurement(work, 50.0)], "my C3")
    assert board.absolute
    assert board.milliseconds(work) == pytest.approx(50.0, rel=0.05)


@pytest.mark.parametrize("time", [0.0, -1.0, math.nan, math.inf])
def test_a_time_that_is_none_is_refused(time: float) -> None:
    with pytest.raises(CalibrationError, match="measured time"):
        calibrated(CONSTANTS, [Measurement(works()[0], time)], "board")
    with pytest.raises(CalibrationError, match="nothing was measured"):
        calibrated(CONSTANTS, [], "board")


def test_constants_survive_their_json(tmp_path: Path) -> None:
    board = calibrated(CONSTANTS, [Measurement(works()[0], 3.0)], "mine", weights_in_flash=True)
    file = tmp_path / "board.json"
    file.write_text(json.dumps(board.to_json()))
    assert load_constants(file) == board


@pytest.mark.parametrize(
    "change",
    [
        {"nanoseconds": {}},
        {"nanoseconds": {**CONSTANTS.nanoseconds, "mac8": -1}},
        {"nanoseconds": {**CONSTANTS.nanoseconds, "mac8": math.inf}},
        {"covariance": [[1.0]]},
        {"covariance": 7},
        {"caches": {"data": 0, "inner": 0}},
        {"spread": "wide"},
    ],
)
def test_constants_that_make_no_sense_are_refused(change: dict[str, object]) -> None:
    with pytest.raises(CalibrationError):
        constants_of_json({**CONSTANTS.to_json(), **change})


def test_a_file_that_is_no_calibration_is_refused(tmp_path: Path) -> None:
    file = tmp_path / "board.json"
    with pytest.raises(CalibrationError, match="cannot be read"):
        load_constants(file)
    for content in ("[]", "{", "7"):
        file.write_text(content)
        with pytest.raises(CalibrationError):
            load_constants(file)
