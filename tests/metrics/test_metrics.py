"""Metrics of records: the metric itself, and the same of many resamples at once."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from espdl_quantize.metrics import (
    F1,
    AveragePrecision,
    MeanCosine,
    TopK,
    WordErrorRate,
    coco_records,
    word_errors,
)
from espdl_quantize.stats import draw_samples, replicate


def images(count: int, seed: int = 0, thresholds: int = 1) -> list[dict[str, Any]]:
    """Judged detections of made-up images."""
    draw, records = np.random.default_rng(seed), []
    for _ in range(count):
        found = int(draw.integers(0, 6))
        records.append(
            {
                "scores": draw.random(found).tolist(),
                "labels": draw.integers(0, 3, found).tolist(),
                "hits": draw.integers(-1, 2, (found, thresholds)).tolist(),
                "truths": {int(name): int(draw.integers(1, 9)) for name in draw.integers(0, 3, 2)},
            }
        )
    return records


def texts(count: int) -> list[tuple[str, str]]:
    draw = np.random.default_rng(3)
    said = [" ".join(draw.choice(["on", "off", "up", "down"], 4)) for _ in range(count)]
    return list(zip(said[1:] + said[:1], said, strict=True))


MADE: list[tuple[Callable[[Any], float], list[Any]]] = [
    (AveragePrecision(), images(30, thresholds=3)),
    (AveragePrecision(scale=100.0, points="all"), images(30, seed=1)),
    (TopK(2), [([0.1, at % 3, 0.5], at % 2) for at in range(20)]),
    (F1(), [(at % 3 > 0, at % 2) for at in range(20)]),
    (MeanCosine(), [([1.0, at], [1.0, 2.0]) for at in range(20)]),
    (WordErrorRate(), texts(20)),
]


@pytest.mark.parametrize(("metric", "records"), MADE)
def test_resampling_at_once_is_resampling_one_by_one(metric: Any, records: list[Any]) -> None:
    at_once = replicate(metric, records, draws=60)
    one_by_one = replicate(lambda chosen: metric(chosen), records, draws=60)
    assert np.ptp(at_once) > 0
    np.testing.assert_allclose(at_once, one_by_one, rtol=1e-12)


def test_known_values() -> None:
    assert TopK(1)([([0.2, 0.8], 1), ([0.9, 0.1], 1)]) == 50.0
    assert TopK(2)([([0.2, 0.8], 1), ([0.9, 0.1], 1)]) == 100.0
    assert F1()([(1, 1), (1, 0), (0, 1), (0, 0)]) == 0.5
    assert MeanCosine()([([1, 0], [2, 0]), ([1, 0], [0, 1])]) == 0.5
    assert WordErrorRate()([("turn it off", "turn it on"), ("", "now")]) == 0.5
    found = {"scores": [0.9, 0.8], "labels": [1, 1], "hits": [1, 0], "truths": {1: 2}}
    assert AveragePrecision(points="all")([found]) == 0.5
    assert AveragePrecision()([found]) == pytest.approx(51 / 101)


def test_what_is_undefined_is_nan() -> None:
    assert np.isnan(F1()([(0, 0)]))
    assert np.isnan(WordErrorRate()([("now", "")]))
    nothing: dict[str, Any] = {"scores": [], "labels": [], "hits": [], "truths": {}}
    assert np.isnan(AveragePrecision()([nothing]))
    with pytest.raises(ValueError, match="points is 'voc'"):
        AveragePrecision(points="voc")


@given(st.text("ab ", max_size=12), st.text("ab ", max_size=12))
def test_word_errors_are_a_distance(one: str, other: str) -> None:
    apart = word_errors(one, other)
    assert apart == word_errors(other, one)
    assert (apart == 0) == (one.split() == other.split())
    assert apart <= max(len(one.split()), len(other.split()))


def test_the_same_number_of_samples_gives_the_same_draws() -> None:
    one, other = (np.concatenate(list(draw_samples(7, 120))) for _ in range(2))
    assert one.shape == (120, 7)
    assert (one == other).all()


def test_boxes_are_matched_as_coco_does() -> None:
    pytest.importorskip("pycocotools")
    from pycocotools.coco import COCO
    from pycocotools.cocoeval import COCOeval

    draw = np.random.default_rng(5)
    notes: list[dict[str, Any]] = []
    found: list[dict[str, Any]] = []
    for image in range(20):
        for _ in range(3):
            box, name = [*draw.uniform(0, 60, 2), *draw.uniform(10, 30, 2)], int(draw.integers(2))
            notes.append({"image_id": image, "category_id": name, "bbox": box})
            near = [float(value + draw.normal()) for value in box]
            found.append({**notes[-1], "bbox": near, "score": float(draw.random())})
    truth: dict[str, Any] = {
        "images": [{"id": image} for image in range(20)],
        "categories": [{"id": 0}, {"id": 1}],
        "annotations": notes,
    }
    value = AveragePrecision()(coco_records(truth, found))
    numbered = [
        {"iscrowd": 0, "id": at + 1, "area": note["bbox"][2] * note["bbox"][3], **note}
        for at, note in enumerate(notes)
    ]
    data = COCO()
    data.dataset = {**truth, "annotations": numbered}
    data.createIndex()
    judge = COCOeval(data, data.loadRes(found), "bbox")
    judge.evaluate()
    judge.accumulate()
    judge.summarize()
    assert value == pytest.approx(judge.stats[0])
    assert AveragePrecision()(coco_records(truth, [])) == 0.0
