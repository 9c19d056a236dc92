"""Branch scores -> one calibrated answer, and the stretches of time behind it."""

from __future__ import annotations

from collections.abc import Mapping

import numpy as np

from avfake.bundle import Bundle
from avfake.types import BRANCHES, SUSPICIOUS, BranchScore, Segment, Window, probability


class Fusion:
    """The bundle's fusion head and its thresholds."""

    def __init__(self, bundle: Bundle) -> None:
        self._session = bundle.session("fusion", 1)
        self._fake = bundle.threshold("likely_fake")
        self._real = bundle.threshold("likely_real")

    def fuse(self, scores: Mapping[str, BranchScore]) -> float | None:
        """Calibrated log-odds that the clip is fake; None where no branch has an answer."""
        logits = np.zeros((1, len(BRANCHES)), np.float32)
        present = np.zeros((1, len(BRANCHES)), np.float32)
        for column, branch in enumerate(BRANCHES):
            logit = scores[branch].logit
            if logit is not None:
                logits[0, column], present[0, column] = logit, 1.0
        if not present.any():
            return None
        fused = self._session.run(["logit"], {"logits": logits, "present": present})[0]
        return float(fused[0])

    def verdict(self, logit: float) -> str:
        """ "likely fake", "likely real" or, between the bundle's thresholds, "uncertain"."""
        fake = probability(logit)
        if fake >= self._fake:
            return "likely fake"
        return "likely real" if fake <= self._real else "uncertain"

    def segments(self, scores: Mapping[str, BranchScore]) -> tuple[Segment, ...]:
        """Runs of windows that a branch finds likely fake, joined where they touch."""
        found: list[Segment] = []
        for branch, score in scores.items():
            tracks = {window.track for window in score.windows}
            for track in tracks:
                windows = [w for w in score.windows if w.track == track]
                found += self._runs(branch, windows)
        return tuple(sorted(found, key=lambda s: (s.start, s.branch)))

    def _runs(self, branch: str, windows: list[Window]) -> list[Segment]:
        runs: list[list[Window]] = []
        for window in sorted(windows, key=lambda w: w.start):
            if probability(window.logit) < SUSPICIOUS:
                continue
            if runs and window.start <= max(w.end for w in runs[-1]) + 1e-6:
                runs[-1].append(window)
            else:
                runs.append([window])
        return [
            Segment(
                run[0].start,
                max(window.end for window in run),
                branch,
                float(np.mean([window.logit for window in run])),
            )
            for run in runs
        ]
