"""From which score on a label is kept, class by class, by the images whose true labels are known."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

LEVELS = 256  # of the scores of pixels, which are stored in 8 bits


def least_score(scores: np.ndarray, right: np.ndarray, precision: float) -> float | None:
    """Return the least score such that, of all that is not below it, at least a share is right.

    Args:
        scores: Of what was predicted, shape ``(M,)``.
        right: Whether each was right, boolean, shape ``(M,)``.
        precision: The share.

    Returns:
        The score, ``None`` if there is no such score.
    """
    order = np.argsort(-scores, kind='stable')
    scores, right = scores[order], right[order]
    ends = np.append(scores[1:] != scores[:-1], True) if len(scores) else np.zeros(0, bool)  # what ties stays together
    shares = np.cumsum(right) / np.arange(1, len(right) + 1)
    good = np.flatnonzero(ends & (shares >= precision))
    return float(scores[good[-1]]) if len(good) else None


def least_level(total: np.ndarray, right: np.ndarray, precision: float) -> int | None:
    """Return the same of pixels that were counted by the level of their score.

    Args:
        total: Pixels at each level, shape ``(LEVELS,)``.
        right: Those of them that were right.
        precision: The share.
    """
    above, correct = np.cumsum(total[::-1])[::-1], np.cumsum(right[::-1])[::-1]
    good = np.flatnonzero((above > 0) & (total > 0) & (correct >= precision * above))
    return int(good[0]) if len(good) else None


def matched(overlaps: np.ndarray, scores: Sequence[float], ignored: np.ndarray, least: float = 0.5) -> np.ndarray:
    """Pair the boxes of one class with the true ones, those of great scores first, each true one once, as COCO does.

    Args:
        overlaps: Shape ``(predicted, true)``: intersection over union; with those to be ignored, which hold many, over the
            predicted box.
        scores: Of the predicted.
        ignored: Which of the true are to be ignored, boolean; they pair with what found no other, any number of times.
        least: The overlap from which on two are a pair.

    Returns:
        For each predicted one 1 if it is right, 0 if not, -1 if it is of one to be ignored.
    """
    outcome = np.zeros(len(scores), int)
    near, free = overlaps >= least, ~ignored
    for index in np.argsort(-np.asarray(scores), kind='stable'):
        candidates = np.flatnonzero(near[index] & free)
        if len(candidates):
            free[candidates[overlaps[index, candidates].argmax()]] = False
            outcome[index] = 1
        elif (near[index] & ignored).any():
            outcome[index] = -1
    return outcome
