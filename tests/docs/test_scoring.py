"""The metric of the detector that the pages show, on scenes whose answer is known."""

import importlib
import sys
from pathlib import Path
from typing import Any

import pytest
import torch

EXAMPLE = Path(__file__).parents[2] / "examples" / "scene_detector"


@pytest.fixture(autouse=True)
def example_on_path(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.syspath_prepend(str(EXAMPLE))
    for name in ("detections", "scenes", "scene_net"):
        monkeypatch.delitem(sys.modules, name, raising=False)


def example(name: str) -> Any:
    return importlib.import_module(name)


def test_precision_and_recall_make_the_score() -> None:
    detections, scenes = example("detections"), example("scenes")
    boxes = torch.tensor([[0.0, 0, 20, 20], [30, 30, 50, 50]])
    scene = scenes.Scene(torch.zeros(1, 64, 64), boxes, torch.tensor([3, 3]))
    first, second, off = boxes[0], boxes[1], torch.tensor([40.0, 0, 60, 20])

    def score(*objects: tuple[int, float, torch.Tensor]) -> float:
        labels, scores, where = zip(*objects, strict=True)
        given = detections.Detections(
            torch.stack(where), torch.tensor(scores), torch.tensor(labels)
        )
        return float(detections.mean_average_precision([given], [scene], 0.5))

    assert score((3, 0.9, first), (3, 0.8, second)) == pytest.approx(100)
    assert score((3, 0.9, first)) == pytest.approx(50)
    # Half of the items at precision 1, the rest at 2/3.
    assert score((3, 0.9, first), (3, 0.8, off), (3, 0.7, second)) == pytest.approx(500 / 6)
    assert score((3, 0.9, first), (3, 0.8, first)) == pytest.approx(50)
    assert score((4, 0.9, first)) == 0


def test_a_cell_is_decoded_around_its_centre() -> None:
    stride = example("scene_net").STRIDE
    logits, distances = torch.full((1, 10, 8, 8), -9.0), torch.zeros(1, 4, 8, 8)
    logits[0, 7, 2, 5], logits[0, 7, 2, 6] = 4.0, 3.0
    distances[0, :, 2, 5] = torch.tensor([1.0, 1.0, 1.5, 1.0])
    distances[0, :, 2, 6] = torch.tensor([2.0, 1.0, 0.5, 1.0])  # the same box, and so suppressed
    (detected,) = example("detections").detect(logits, distances)
    assert detected.labels.tolist() == [7]
    assert detected.scores.item() == pytest.approx(0.982, abs=1e-3)
    corners = [4.5 * stride, 1.5 * stride, 7 * stride, 3.5 * stride]
    assert detected.boxes[0].tolist() == pytest.approx(corners)
