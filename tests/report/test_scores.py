"""The words of a report suit its metric."""

from __future__ import annotations

from typing import Any

import pytest

from espdl_quantize.core import MetricUnit
from espdl_quantize.record import NO_LABELS
from espdl_quantize.report.scores import decides_classes, loss_name
from tests.search.made_runs import history, run


def words(metric: str, direction: str = "max", **fields: Any) -> tuple[bool, str]:
    past = history(run(0, 0.5, metric=metric, direction=direction, **fields))
    return decides_classes(past), loss_name(past)


@pytest.mark.parametrize(
    "metric", ["top1", "top-5", "TOP_10", "accuracy", "val_acc", "balanced_accuracy", "macro_f1"]
)
def test_classes_are_decided_by_their_names(metric: str) -> None:
    assert words(metric) == (True, "the accuracy lost to quantization")


@pytest.mark.parametrize(
    "metric",
    ["map50", "mAP", "average_precision", "mean_iou", "recall_at_1", "pck", "acceleration", "r2"],
)
def test_other_outputs_have_no_largest_class(metric: str) -> None:
    assert words(metric) == (False, f"the {metric} lost to quantization")


@pytest.mark.parametrize(
    ("metric", "classes"),
    [
        ("error_rate", True),
        ("top1_error_rate", True),
        ("equal_error_rate", False),
        ("word_error_rate", False),
        ("rmse", False),
    ],
)
def test_less_is_added(metric: str, classes: bool) -> None:
    assert words(metric, "min") == (classes, f"the {metric} that quantization added")


def test_a_rate_of_pairs_is_no_rate_of_classes() -> None:
    assert words("verified_pairs", metric_unit=MetricUnit.PERCENT)[0] is False
    assert words("heard_right", metric_unit=MetricUnit.PERCENT)[0] is True


def test_without_labels_nobody_knows_of_an_accuracy() -> None:
    unlabelled = {"evaluated_by": NO_LABELS}
    cosine = (False, "the cosine_with_float lost to quantization")
    assert words("cosine_with_float", **unlabelled) == cosine
    found = {"agreement_with_float": 98.0}
    assert words("cosine_with_float", metrics=found, **unlabelled) == (True, cosine[1])
    assert words("agreement_with_float", **unlabelled)[0]
