"""Average precision of detections."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from functools import cache
from typing import Any

from espdl_quantize.core import UsageError

_RECALLS = 101
"""Points of recall at which COCO reads the precision."""


class AveragePrecision:
    """Mean over classes, and over thresholds of overlap, of precision averaged over recall.

    A record is what became of the detections of one image: a dict with ``scores`` [detections],
    ``labels`` [detections], ``hits`` [detections] or [detections, thresholds], which is 1 where the
    detection found an object that no better one has found; and ``truths``, a dict from a class to
    how many objects of it there are. An entry -1 of ``hits`` leaves the detection out.

    Args:
        scale: 100 for percent.
        points: "coco" reads the precision at 101 points of recall, "all" takes the whole area
            (PASCAL VOC from 2010 on).
    """

    def __init__(self, scale: float = 1.0, points: str = "coco") -> None:
        if points not in ("coco", "all"):
            raise ValueError(f"points is {points!r}, expected 'coco' or 'all'")
        self._scale, self._points = scale, _RECALLS if points == "coco" else 0

    def __call__(self, records: Sequence[Any]) -> float:
        """Return the metric of some images; NaN where they have no object."""
        import numpy as np

        return float(self.resampled(records, np.ones((1, len(records)), np.int64))[0])

    def resampled(self, records: Sequence[Any], counts: Any) -> Any:
        """Return the metric on resamples.

        Args:
            records: one per image.
            counts: int array [draws, images], how often each image comes.

        Returns:
            A float array [draws].
        """
        import numpy as np

        counts = np.ascontiguousarray(counts, np.int64)
        per_class = []
        for images, hits, truths in _by_class(records):
            per_class.append(_kernel()(images, hits, truths, counts, self._points))
        if not per_class:
            return np.full(len(counts), np.nan)
        areas = np.stack(per_class)
        known = np.isfinite(areas)
        number = known.sum(0)
        total = np.where(known, areas, 0.0).sum(0)
        return self._scale * np.where(number > 0, total / np.maximum(number, 1), np.nan)


def _by_class(records: Sequence[Any]) -> list[tuple[Any, Any, Any]]:
    """Return by class the images of its detections, best first, their hits, and the objects."""
    import numpy as np

    scores, labels, hits, images = [], [], [], []
    for at, record in enumerate(records):
        values = np.asarray(record["scores"], np.float64).ravel()
        judged = np.asarray(record["hits"], np.int8)
        scores.append(values)
        labels.append(np.asarray(record["labels"], np.int64).ravel())
        hits.append(judged.reshape(len(values), -1) if len(values) else None)
        images.append(np.full(len(values), at, np.int64))
    width = max((mark.shape[1] for mark in hits if mark is not None), default=1)
    marks = [mark for mark in hits if mark is not None]
    every = np.concatenate(marks) if marks else np.zeros((0, width), np.int8)
    score, label, image = (np.concatenate(part) for part in (scores, labels, images))
    names = sorted({int(name) for record in records for name in record["truths"]})
    found = []
    for name in names:
        truths = np.array([int(record["truths"].get(name, 0)) for record in records], np.int64)
        mine = np.flatnonzero(label == name)
        order = mine[np.argsort(-score[mine], kind="stable")]
        found.append((image[order], np.ascontiguousarray(every[order]), truths))
    return found


@cache
def _kernel() -> Any:
    import numpy as np
    from numba import njit

    @njit(cache=True)
    def areas(images, hits, truths, counts, points):  # type: ignore[no-untyped-def]
        draws, found, limits = len(counts), len(images), hits.shape[1]
        result = np.empty(draws)
        precision, recall = np.empty(found), np.empty(found)
        for draw in range(draws):
            total = 0
            for at in range(len(truths)):
                total += truths[at] * counts[draw, at]
            if total == 0:
                result[draw] = np.nan
                continue
            area = 0.0
            for limit in range(limits):
                right, wrong, kept = 0.0, 0.0, 0
                for at in range(found):
                    weight = counts[draw, images[at]]
                    if weight == 0 or hits[at, limit] < 0:
                        continue
                    if hits[at, limit] > 0:
                        right += weight
                    else:
                        wrong += weight
                    precision[kept] = right / (right + wrong)
                    recall[kept] = right / total
                    kept += 1
                for at in range(kept - 2, -1, -1):
                    precision[at] = max(precision[at], precision[at + 1])
                if points == 0:
                    before = 0.0
                    for at in range(kept):
                        area += (recall[at] - before) * precision[at]
                        before = recall[at]
                else:
                    at = 0
                    for point in range(points):
                        while at < kept and recall[at] < point / (points - 1):
                            at += 1
                        if at == kept:
                            break
                        area += precision[at] / points
            result[draw] = area / limits
        return result

    return areas


def coco_records(truth: Mapping[str, Any], detections: Sequence[Mapping[str, Any]]) -> list[Any]:
    """Match detections with objects by pycocotools, as COCO does, into records.

    ``AveragePrecision()`` of them is COCO's mAP over overlaps of 0.5 to 0.95, all areas, at most
    100 detections per image. Needs the extra ``metrics``.

    Args:
        truth: a COCO data set with ``images``, ``annotations`` and ``categories``.
        detections: COCO results: dicts with image_id, category_id, bbox and score.

    Returns:
        A record per image, in the order of ``truth["images"]``.

    Raises:
        UsageError: pycocotools is not installed.
    """
    import contextlib
    import io

    import numpy as np

    try:
        from pycocotools.coco import COCO
        from pycocotools.cocoeval import COCOeval
    except ImportError as error:
        raise UsageError(
            "mAP on boxes needs pycocotools", "pip install 'espdl-quantize[metrics]'"
        ) from error
    records: dict[Any, Any] = {
        image["id"]: {"scores": [], "labels": [], "hits": [], "truths": {}}
        for image in truth["images"]
    }
    with contextlib.redirect_stdout(io.StringIO()):
        objects = COCO()
        objects.dataset = {
            **truth,
            "annotations": [
                {"iscrowd": 0, "id": at + 1, "area": note["bbox"][2] * note["bbox"][3], **note}
                for at, note in enumerate(truth["annotations"])
            ],
        }
        objects.createIndex()
        if not detections:
            for note in truth["annotations"]:
                _count(records[note["image_id"]], note["category_id"])
            return list(records.values())
        evaluation = COCOeval(objects, objects.loadRes([dict(each) for each in detections]), "bbox")
        evaluation.evaluate()
    whole, most = evaluation.params.areaRng[0], evaluation.params.maxDets[-1]
    for each in evaluation.evalImgs:
        if each is None or each["aRng"] != whole:
            continue
        record, name = records[each["image_id"]], each["category_id"]
        hits = (np.asarray(each["dtMatches"]) > 0).astype(np.int8)
        hits[np.asarray(each["dtIgnore"], bool)] = -1
        record["scores"] += list(each["dtScores"][:most])
        record["labels"] += [name] * len(each["dtScores"][:most])
        record["hits"] += hits.T[:most].tolist()
        _count(record, name, int((np.asarray(each["gtIgnore"]) == 0).sum()))
    return list(records.values())


def _count(record: Any, name: int, number: int = 1) -> None:
    if number:
        record["truths"][name] = record["truths"].get(name, 0) + number
