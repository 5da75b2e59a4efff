"""Metrics that are a function of sums over the samples."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Sequence
from typing import Any


class _OfSums(ABC):
    """A metric of sums: a row of numbers per sample, and what their sums come to."""

    @abstractmethod
    def rows(self, records: Sequence[Any]) -> Any:
        """Return a float array [samples, sums]."""

    @abstractmethod
    def of_sums(self, sums: Any) -> Any:
        """Return the metric, a float array [draws], of sums [draws, sums]."""

    def __call__(self, records: Sequence[Any]) -> float:
        """Return the metric of some samples; NaN where it is undefined."""
        return float(self.of_sums(self.rows(records).sum(0)[None])[0])

    def resampled(self, records: Sequence[Any], counts: Any) -> Any:
        """Return the metric on resamples.

        Args:
            records: one per sample.
            counts: int array [draws, samples], how often each sample comes.

        Returns:
            A float array [draws].
        """
        import numpy as np

        return self.of_sums(counts.astype(np.float64) @ self.rows(records))


def _share(part: Any, whole: Any) -> Any:
    import numpy as np

    return np.where(whole > 0, part / np.where(whole > 0, whole, 1), np.nan)


class TopK(_OfSums):
    """Share of the samples whose class is among the k of the highest score.

    A record is ``(scores, label)``: a vector [classes] and the number of the class.

    Args:
        k: how many classes count; of equal scores the one with the lower number is first.
        scale: 100 for percent.
    """

    def __init__(self, k: int = 1, scale: float = 100.0) -> None:
        if k < 1:
            raise ValueError(f"k is {k}, expected one or more")
        self._k, self._scale = k, scale

    def rows(self, records: Sequence[Any]) -> Any:
        """Return whether each sample is right, and 1."""
        import numpy as np

        hits = []
        for scores, label in records:
            vector = np.asarray(scores, np.float64).ravel()
            best = np.argsort(-vector, kind="stable")[: self._k]
            hits.append((float(int(label) in best), 1.0))
        return np.array(hits, np.float64).reshape(-1, 2)

    def of_sums(self, sums: Any) -> Any:
        """Return the share."""
        return self._scale * _share(sums[:, 0], sums[:, 1])


class F1(_OfSums):
    """F1 of one class: the harmonic mean of precision and recall.

    A record is ``(said, is)``: whether the model says so, and whether it is so; or two vectors of
    such.
    """

    def rows(self, records: Sequence[Any]) -> Any:
        """Return true positives, false positives and false negatives."""
        import numpy as np

        rows = []
        for said, truth in records:
            mine, true = (np.asarray(value).astype(bool).ravel() for value in (said, truth))
            rows.append(((mine & true).sum(), (mine & ~true).sum(), (~mine & true).sum()))
        return np.array(rows, np.float64).reshape(-1, 3)

    def of_sums(self, sums: Any) -> Any:
        """Return F1; NaN where there is neither a positive nor one that is said."""
        right, wrong, missed = sums.T
        return _share(2 * right, 2 * right + wrong + missed)


class MeanCosine(_OfSums):
    """Mean cosine of the angle between two vectors; a record is ``(output, wanted)``."""

    def rows(self, records: Sequence[Any]) -> Any:
        """Return the cosine, and 1; of a vector of zeros it is 0."""
        import numpy as np

        rows = []
        for output, wanted in records:
            mine, true = (np.asarray(value, np.float64).ravel() for value in (output, wanted))
            length = float(np.linalg.norm(mine) * np.linalg.norm(true))
            rows.append((float(mine @ true) / length if length else 0.0, 1.0))
        return np.array(rows, np.float64).reshape(-1, 2)

    def of_sums(self, sums: Any) -> Any:
        """Return the mean."""
        return _share(sums[:, 0], sums[:, 1])


class WordErrorRate(_OfSums):
    """Word error rate: substituted, inserted and left out words over those that were said.

    A record is ``(heard, said)``, two texts or two lists of words.
    """

    def rows(self, records: Sequence[Any]) -> Any:
        """Return the errors and the words of each sample."""
        import numpy as np

        rows = [(word_errors(heard, said), len(_words(said))) for heard, said in records]
        return np.array(rows, np.float64).reshape(-1, 2)

    def of_sums(self, sums: Any) -> Any:
        """Return the rate; NaN where nothing was said."""
        return _share(sums[:, 0], sums[:, 1])


def word_errors(heard: str | Sequence[str], said: str | Sequence[str]) -> int:
    """Return the fewest words to put in, leave out or exchange (Levenshtein's distance)."""
    mine, true = _words(heard), _words(said)
    row = list(range(len(true) + 1))
    for at, word in enumerate(mine, start=1):
        before, row[0] = row[0], at
        for place, other in enumerate(true, start=1):
            before, row[place] = (
                row[place],
                min(row[place] + 1, row[place - 1] + 1, before + (word != other)),
            )
    return row[-1]


def _words(text: str | Sequence[str]) -> Sequence[str]:
    return text.split() if isinstance(text, str) else text
