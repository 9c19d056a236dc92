"""Which seconds are forged? AP at an IoU and AR at N proposals, by the rules of LAV-DF. numpy only.

The rules are those of LAV-DF (Cai et al. 2022, arXiv:2204.06228, section on evaluation metrics) and
AV-Deepfake1M (Cai et al. 2023, arXiv:2311.15308), read off their evaluation programs:

- IoU of two stretches of time is their common over their joint length; a hit is an IoU *above* the
  threshold, not at it.
- A true segment is found once, by the first proposal that hits it and has found no other, in order
  of confidence; true segments choose in the order they are listed. All other proposals, those in
  real clips among them, are false alarms.
- AP: over the proposals of all clips by confidence, the interpolated precision (the best at this
  recall or a higher one) integrated over recall.
- AR at N: the recall of each clip's N surest proposals, where one proposal may find several
  segments, over the segments of all clips, averaged over IoU 0.5, 0.55, ... 0.95.

Two oddities of those programs are not copied. They drop the piece of the curve before the first
proposal, so that one segment found perfectly has AP 0: here AP is higher by at most 1 / number of
segments. And AV-Deepfake1M's leaves clips without proposals out of AR: here their segments count
as missed.

`truth` has for each clip its true segments `(start, end)`, none for a real one, in seconds;
`proposals`, in the same order, `(start, end, confidence)`. NaN where there is no true segment.
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

Truth = Sequence[Sequence[tuple[float, float]]]
Proposals = Sequence[Sequence[tuple[float, float, float]]]
AP_IOUS = (0.5, 0.75, 0.9, 0.95)
AR_PROPOSALS = (50, 20, 10, 5)
RECALL_IOUS = tuple(round(0.5 + 0.05 * step, 2) for step in range(10))


def iou(proposals: np.ndarray, truth: np.ndarray) -> np.ndarray:
    """`[p, t]` in [0, 1] of `[p, 2]` and `[t, 2]` starts and ends in seconds; 0 where both are
    empty.
    """
    start = np.maximum(proposals[:, None, 0], truth[None, :, 0])
    end = np.minimum(proposals[:, None, 1], truth[None, :, 1])
    common = np.maximum(end - start, 0)
    lengths = (proposals[:, 1] - proposals[:, 0])[:, None] + (truth[:, 1] - truth[:, 0])[None]
    joint = lengths - common
    return np.divide(common, joint, out=np.zeros_like(common), where=joint > 0)


def average_precision_at_iou(truth: Truth, proposals: Proposals, threshold: float) -> float:
    """AP@`threshold`, in [0, 1]. Raises ValueError where the lists differ in length."""
    confidences, found = [], []
    segments = 0
    for true, ranked in _clips(truth, proposals):
        confidences.append(ranked[:, 2])
        found.append(_first_hits(iou(ranked, true) > threshold))
        segments += len(true)
    if not segments:
        return float("nan")
    order = np.argsort(-np.concatenate(confidences), kind="stable")
    hits = np.concatenate(found)[order]
    if not len(hits):
        return 0.0
    precision = np.cumsum(hits) / np.arange(1, len(hits) + 1)
    best = np.maximum.accumulate(precision[::-1])[::-1]
    return float(best[hits].sum() / segments)  # each hit adds 1 / segments of recall


def average_recall(
    truth: Truth, proposals: Proposals, count: int, ious: Sequence[float] = RECALL_IOUS
) -> float:
    """AR@`count`, in [0, 1]. Raises ValueError where the lists differ in length."""
    best = [
        iou(ranked[:count], true).max(axis=0, initial=0.0)
        for true, ranked in _clips(truth, proposals)
    ]
    reached = np.concatenate([*best, np.zeros(0)])
    if not len(reached):
        return float("nan")
    return float(np.mean(reached[None] > np.array(ious)[:, None]))


def _clips(truth: Truth, proposals: Proposals) -> list[tuple[np.ndarray, np.ndarray]]:
    """For each clip its true segments `[t, 2]` and its proposals `[p, 3]`, surest first."""
    clips = []
    for true, proposed in zip(truth, proposals, strict=True):
        rows = np.array(proposed, float).reshape(-1, 3)
        order = np.argsort(-rows[:, 2], kind="stable")
        clips.append((np.array(true, float).reshape(-1, 2), rows[order]))
    return clips


def _first_hits(hit: np.ndarray) -> np.ndarray:
    """Which of `[p, t]` proposals found a true segment: for each the first that is not taken."""
    taken = np.zeros(len(hit), bool)
    for column in hit.T:
        free = np.flatnonzero(column & ~taken)
        taken[free[:1]] = True
    return taken
