"""The detector: load the models once, then path -> Prediction."""

from __future__ import annotations

import logging
import math
import os
import time
from functools import cache
from typing import overload

from avfake.analysis import Analysis
from avfake.branches import AudioBranch, LipSyncBranch, VisualBranch
from avfake.bundle import Bundle, load_bundle
from avfake.faces import FaceFinder, load_finder
from avfake.fusion import Fusion
from avfake.limits import DEFAULT_LIMITS, Limits, is_memory_fault
from avfake.media import Clip
from avfake.tracks import Tracker
from avfake.types import AvfakeError, Prediction, Tell

Pathlike = str | os.PathLike[str]
log = logging.getLogger(__name__)


class Detector:
    """Scores clips with one bundle. Threads may share it; each call does one clip at a time.

    `threads`: cores for the networks, 0 for all; `limits`: what one file may ask for.
    """

    def __init__(
        self,
        bundle: Bundle,
        finder: FaceFinder | None = None,
        threads: int = 0,
        limits: Limits = DEFAULT_LIMITS,
    ) -> None:
        self.bundle = bundle
        self.limits = limits
        self.finder = finder or load_finder(bundle=bundle)
        self.visual = VisualBranch(bundle, threads)  # may be asked about single crops
        self._audio = AudioBranch(bundle, threads)
        self._lipsync = LipSyncBranch(bundle, threads)
        self._fusion = Fusion(bundle)

    @classmethod
    def from_pretrained(
        cls,
        name_or_folder: Pathlike = "default",
        face_model: str | None = None,
        threads: int = 0,
        limits: Limits = DEFAULT_LIMITS,
    ) -> Detector:
        """Load a bundle by name or from a folder, with the face finder called `face_model`
        ("dlib", the path of a YuNet ONNX file, or None for the bundle's own).

        Raises AvfakeError where a file is missing or damaged, and names it.
        """
        bundle = load_bundle(name_or_folder)
        return cls(bundle, load_finder(face_model, bundle), threads, limits)

    @overload
    def predict(
        self, path: Pathlike, longest: float | None = None, tell: Tell = ...
    ) -> Prediction: ...
    @overload
    def predict(
        self,
        path: list[Pathlike] | tuple[Pathlike, ...],
        longest: float | None = None,
        tell: Tell = ...,
    ) -> list[Prediction]: ...
    def predict(
        self,
        path: Pathlike | list[Pathlike] | tuple[Pathlike, ...],
        longest: float | None = None,
        tell: Tell = lambda progress: None,
    ) -> Prediction | list[Prediction]:
        """Score one file, or each of several in turn.

        `longest`: seconds to look at, for who is short of time: the clip is decoded and judged no
        further, as if it ended there, and has the warning "truncated". None for all of it. `tell`
        hears of each file's progress as it is judged.

        A file that cannot be judged gives a Prediction with status "error" (or "abstain" where it
        holds neither face nor speech) and a reason; it raises nothing and costs no other file.
        What nobody foresaw is an "internal_error", with its trace in the log. What is no path
        raises TypeError.
        """
        if longest is not None and not longest > 0:
            raise ValueError(f"longest must be more than 0 seconds, not {longest}")
        if isinstance(path, list | tuple):
            for one in path:
                _check_type(one)
            return [self._predict(one, longest, tell) for one in path]
        _check_type(path)
        return self._predict(path, longest, tell)

    def _predict(self, path: Pathlike, longest: float | None, tell: Tell) -> Prediction:
        started = time.perf_counter()
        tracker = Tracker(self.finder)
        try:
            with Clip(path, longest, self.limits) as clip:
                analysis = Analysis(clip, tracker, self.visual, self._audio, self._lipsync, tell)
                scores = analysis.run()
        except AvfakeError as error:
            return self._error(path, error.reason, str(error), started)
        except Exception as error:
            name = os.path.basename(os.fspath(path))
            if is_memory_fault(error):
                log.info("%s: %s", path, error)
                text = f"{name} asks for more memory than there is."
                return self._error(path, "out_of_memory", text, started)
            log.exception("%s", path)
            text = f"{name} could not be judged: {type(error).__name__}."
            return self._error(path, "internal_error", text, started)
        logit = self._fusion.fuse(scores)
        if logit is not None and not math.isfinite(logit):
            text = f"{clip.path.name} could not be judged: these models give no number for it."
            return self._error(path, "inference_error", text, started)
        reason = message = None
        if logit is None:
            why = "; ".join(f"{name}: {score.note()}" for name, score in scores.items())
            if any(score.status == "failed" for score in scores.values()):
                text = f"{clip.path.name} could not be judged ({why})."
                return self._error(path, "inference_error", text, started)
            reason = "no_evidence"
            message = f"There is nothing in {clip.path.name} to judge ({why})."
        warnings = [*clip.warnings]
        if tracker.left_out:
            warnings.append("faces_left_out")
        if any(score.status == "failed" for score in scores.values()):
            warnings.append("branch_failed")
        return Prediction(
            path=os.fspath(path),
            status="abstain" if logit is None else "ok",
            reason=reason,
            message=message,
            logit=logit,
            verdict=None if logit is None else self._fusion.verdict(logit),
            branches=scores,
            tracks=tuple(tracker.tracks()),
            track_logits=analysis.track_logits,
            segments=self._fusion.segments(scores),
            media=clip.info,
            warnings=tuple(warnings),
            bundle=self.bundle.to_dict(),
            seconds=analysis.seconds | {"total": time.perf_counter() - started},
        )

    def _error(self, path: Pathlike, reason: str, message: str, started: float) -> Prediction:
        return Prediction(
            os.fspath(path),
            "error",
            reason,
            message,
            bundle=self.bundle.to_dict(),
            seconds={"total": time.perf_counter() - started},
        )


@overload
def predict(path: Pathlike) -> Prediction: ...
@overload
def predict(path: list[Pathlike] | tuple[Pathlike, ...]) -> list[Prediction]: ...
def predict(
    path: Pathlike | list[Pathlike] | tuple[Pathlike, ...],
) -> Prediction | list[Prediction]:
    """Score one file, or several, with the default models (see `Detector.predict`)."""
    return _default_detector().predict(path)


def _check_type(path: object) -> None:
    if not isinstance(path, str | os.PathLike):
        raise TypeError(f"a path is a str or an os.PathLike, not {type(path).__name__}")


@cache
def _default_detector() -> Detector:
    return Detector.from_pretrained()
