"""The whole path: every kind of file gets the answer, or the refusal, that fits it."""

from __future__ import annotations

import json
import os
import subprocess
import sys
import threading
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import cv2
import numpy as np
import pytest

import avfake
from avfake.bundle import Bundle
from avfake.detector import Detector
from avfake.faces import DlibFinder
from avfake.media import Clip
from avfake.types import Detection, Prediction, Progress
from tests.clips import (
    FACE_IN_PORTRAIT,
    grey_frames,
    moving_portrait,
    portrait,
    remux,
    texture,
    write_clip,
)


def reasons(prediction: Prediction) -> dict[str, str | None]:
    return {name: score.reason for name, score in prediction.branches.items()}


def voice(sample: Path, seconds: float = 3.0) -> np.ndarray:
    with Clip(sample) as clip:
        sound = clip.sound()
    assert sound is not None
    return sound.between(0.5, 0.5 + seconds)


# The sample: everything is there


def test_every_branch_answers_for_the_sample(sample_prediction: Prediction) -> None:
    assert sample_prediction.status == "ok"
    assert {name: score.status for name, score in sample_prediction.branches.items()} == {
        "visual": "ok",
        "audio": "ok",
        "lipsync": "ok",
    }
    assert sample_prediction.warnings == ()
    assert sample_prediction.verdict in ("likely fake", "likely real", "uncertain")
    assert sample_prediction.fake_probability is not None
    assert 0 <= sample_prediction.fake_probability <= 1


def test_the_samples_face_is_one_track_over_the_whole_clip(sample_prediction: Prediction) -> None:
    (track,) = sample_prediction.tracks
    assert (track.start, track.end) == (0.0, pytest.approx(5.96))
    assert len(track.times) == 150
    assert set(sample_prediction.track_logits) == {track.index}
    middle = (track.boxes[:, :2] + track.boxes[:, 2:]) / 2
    assert (np.abs(middle - [200, 134]) < 20).all()  # where the script puts the face


def test_windows_lie_within_the_clip(sample_prediction: Prediction) -> None:
    for name, score in sample_prediction.branches.items():
        assert score.windows, name
        for window in score.windows:
            assert -0.1 <= window.start < window.end <= 6.2
    for name in ("visual", "lipsync"):
        assert {w.track for w in sample_prediction.branches[name].windows} == {0}
    visual = sample_prediction.branches["visual"].windows
    assert [w.start for w in visual] == [0, 1, 2, 3, 4, 5]
    lipsync = sample_prediction.branches["lipsync"].windows
    assert [w.end - w.start for w in lipsync] == pytest.approx([2.0] * len(lipsync))


def test_verdict_and_thresholds_agree(sample_prediction: Prediction, bundle: Bundle) -> None:
    fake = sample_prediction.fake_probability
    assert fake is not None
    expected = (
        "likely fake"
        if fake >= bundle.threshold("likely_fake")
        else "likely real"
        if fake <= bundle.threshold("likely_real")
        else "uncertain"
    )
    assert sample_prediction.verdict == expected
    assert sample_prediction.bundle == bundle.to_dict()


def test_the_answer_is_json(sample_prediction: Prediction, sample_path: Path) -> None:
    answer = json.loads(json.dumps(sample_prediction.to_dict(), allow_nan=False))
    assert answer["path"] == str(sample_path)
    assert {"decode", "faces", "visual", "audio", "lipsync", "total"} <= set(answer["seconds"])
    assert all(value >= 0 for value in answer["seconds"].values())
    assert answer["media"]["video_codec"] == "h264"
    assert len(answer["tracks"][0]["boxes"]) == 150
    assert all(len(box) == 5 for box in answer["tracks"][0]["boxes"])


def test_the_same_file_gets_the_same_answer(
    detector: Detector, sample_path: Path, sample_prediction: Prediction
) -> None:
    """And a list of files the same as each alone, in order, whatever is among them."""
    again, missing = detector.predict([sample_path, "nobody.mp4"])
    assert again.logit == pytest.approx(sample_prediction.logit, abs=1e-5)
    assert again.tracks[0].boxes == pytest.approx(sample_prediction.tracks[0].boxes)
    assert (missing.status, missing.reason) == ("error", "not_found")


SHARED = """
import sys, threading
from avfake.detector import Detector

detector = Detector.from_pretrained(sys.argv[1])
alone, shared = detector.predict(sys.argv[2]).logit, []
workers = [
    threading.Thread(target=lambda: shared.append(detector.predict(sys.argv[2]).logit))
    for _ in range(2)
]
for worker in workers:
    worker.start()
for worker in workers:
    worker.join()
assert len(shared) == 2 and all(abs(logit - alone) < 1e-4 for logit in shared), (alone, shared)
"""


def test_threads_may_share_a_detector(bundle_folder: str, sample_path: Path) -> None:
    """In a Python of its own: a library that minds threads may take the process with it."""
    done = subprocess.run(
        [sys.executable, "-c", SHARED, bundle_folder, str(sample_path)],
        capture_output=True,
        text=True,
    )
    assert done.returncode == 0, done.stderr[-2000:]


def test_predict_takes_strings_and_loads_the_default_once(sample_path: Path) -> None:
    from avfake.detector import _default_detector

    assert avfake.predict([]) == []
    first = _default_detector()
    assert avfake.predict(os.fspath(sample_path.parent)).reason == "not_a_file"
    assert _default_detector() is first
    assert first.bundle.name == "default"


# Something is missing


def test_a_clip_without_sound(detector: Detector, sample_path: Path, tmp_path: Path) -> None:
    answer = detector.predict(remux(sample_path, tmp_path / "mute.mp4", with_sound=False))
    assert answer.status == "ok"
    assert reasons(answer) == {"visual": None, "audio": "no_sound", "lipsync": "no_sound"}


def test_a_silent_clip_has_no_speech(detector: Detector, tmp_path: Path) -> None:
    frames, _ = moving_portrait(40, 25)
    path = write_clip(tmp_path / "silent.mp4", frames, sound=np.zeros(32_000))
    answer = detector.predict(path)
    assert answer.status == "ok"
    assert reasons(answer) == {"visual": None, "audio": "no_speech", "lipsync": "no_speech"}


def test_a_voice_over_a_landscape(detector: Detector, sample_path: Path, tmp_path: Path) -> None:
    path = write_clip(tmp_path / "clip.mp4", [texture(180, 320)] * 75, sound=voice(sample_path))
    answer = detector.predict(path)
    assert answer.status == "ok"
    assert reasons(answer) == {"visual": "no_face", "audio": None, "lipsync": "no_face"}
    assert answer.tracks == ()


def test_too_short_for_lips_is_said(detector: Detector, sample_path: Path, tmp_path: Path) -> None:
    """1.6 s of face and speech: enough for picture and voice, not for a window of lips."""
    frames, _ = moving_portrait(40, 25)
    path = write_clip(tmp_path / "clip.mp4", frames, sound=voice(sample_path, 1.6))
    assert reasons(detector.predict(path)) == {
        "visual": None,
        "audio": None,
        "lipsync": "too_short",
    }


@pytest.mark.parametrize(("name", "codec"), [("voice.wav", "pcm_s16le"), ("voice.m4a", "aac")])
def test_a_sound_file(
    detector: Detector, sample_path: Path, tmp_path: Path, name: str, codec: str
) -> None:
    path = write_clip(tmp_path / name, sound=voice(sample_path), audio_codec=codec)
    answer = detector.predict(path)
    assert answer.status == "ok"
    assert reasons(answer) == {"visual": "no_picture", "audio": None, "lipsync": "no_picture"}


def test_the_voice_alone_gets_the_same_audio_answer(
    detector: Detector, sample_path: Path, sample_prediction: Prediction, tmp_path: Path
) -> None:
    """A branch hears the sound, not the file it came in."""
    with Clip(sample_path) as clip:
        sound = clip.sound()
    assert sound is not None
    path = write_clip(tmp_path / "voice.flac", sound=sound.samples, audio_codec="flac")
    alone = detector.predict(path).branches["audio"].logit
    assert alone == pytest.approx(sample_prediction.branches["audio"].logit, abs=0.05)


def test_a_still_image(detector: Detector, tmp_path: Path) -> None:
    path = tmp_path / "portrait.png"
    cv2.imwrite(str(path), cv2.cvtColor(portrait(), cv2.COLOR_RGB2BGR))
    answer = detector.predict(path)
    assert answer.status == "ok"
    assert reasons(answer) == {"visual": None, "audio": "no_sound", "lipsync": "no_sound"}
    (track,) = answer.tracks
    middle = (track.boxes[0, :2] + track.boxes[0, 2:]) / 2
    expected = (FACE_IN_PORTRAIT[:2] + FACE_IN_PORTRAIT[2:]) / 2
    assert middle == pytest.approx(expected, abs=12)


def test_a_photograph_lying_on_its_side_is_turned_by_its_exif_note(
    detector: Detector, tmp_path: Path
) -> None:
    """As phones store portraits: the pixels lie, a tag says how to turn them."""
    lying = np.ascontiguousarray(np.rot90(portrait()))
    _, data = cv2.imencode(".jpg", cv2.cvtColor(lying, cv2.COLOR_RGB2BGR))
    # Big-endian TIFF with one entry: orientation (0x0112), a short, one value, 6.
    exif = b"Exif\0\0MM\0*\0\0\0\x08\0\x01\x01\x12\0\x03\0\0\0\x01\0\x06\0\0\0\0\0\0"
    segment = b"\xff\xe1" + (len(exif) + 2).to_bytes(2, "big") + exif
    path = tmp_path / "phone.jpg"
    path.write_bytes(data.tobytes()[:2] + segment + data.tobytes()[2:])
    assert detector.predict(path).branches["visual"].status == "ok"


def test_nothing_to_judge_abstains(detector: Detector, tmp_path: Path) -> None:
    answer = detector.predict(write_clip(tmp_path / "clip.mp4", grey_frames([90] * 30)))
    assert (answer.status, answer.reason) == ("abstain", "no_evidence")
    assert answer.fake_probability is None
    assert answer.verdict is None
    assert reasons(answer) == {"visual": "no_face", "audio": "no_sound", "lipsync": "no_sound"}
    assert answer.message is not None
    assert "clip.mp4" in answer.message


# Something is wrong


def test_bad_files_are_errors_with_a_sentence(detector: Detector, tmp_path: Path) -> None:
    (tmp_path / "text.mp4").write_text("no clip at all")
    (tmp_path / "empty.mp4").touch()
    answers = detector.predict(
        [tmp_path / "text.mp4", tmp_path / "empty.mp4", tmp_path, tmp_path / "nobody.mp4"]
    )
    assert [a.status for a in answers] == ["error"] * 4
    assert [a.reason for a in answers] == ["not_media", "empty_file", "not_a_file", "not_found"]
    for answer in answers:
        assert answer.fake_probability is None
        assert answer.branches == {}
        assert answer.message is not None
        assert answer.message.endswith(".")
        json.dumps(answer.to_dict(), allow_nan=False)


def test_a_clip_cut_short_is_judged_with_a_warning(
    detector: Detector, sample_path: Path, tmp_path: Path
) -> None:
    data = sample_path.read_bytes()
    path = tmp_path / "short.mp4"
    path.write_bytes(data[: len(data) * 6 // 10])
    answer = detector.predict(path)
    assert answer.status == "ok"
    assert answer.warnings == ("partial_decode",)
    assert 1 < answer.tracks[0].end < 5


def test_a_clip_of_which_nothing_decodes_is_an_error(detector: Detector, tmp_path: Path) -> None:
    """The index is whole and the pictures are zeros."""
    frames, _ = moving_portrait(30, 25)
    path = write_clip(tmp_path / "clip.mp4", frames)
    data = bytearray(path.read_bytes())
    first = data.index(b"mdat") + 4
    data[first:] = bytes(len(data) - first)
    path.write_bytes(data)
    answer = detector.predict(path)
    assert (answer.status, answer.reason) == ("error", "nothing_decoded")


class _Broken:
    """A graph that always fails."""

    def run(self, *_: object) -> list[np.ndarray]:
        raise RuntimeError("no such kernel")


def test_a_branch_that_breaks_costs_the_others_nothing(
    bundle: Bundle, sample_path: Path, sample_prediction: Prediction
) -> None:
    detector = Detector(bundle)
    detector._audio._session = _Broken()  # type: ignore[assignment]
    answer = detector.predict(sample_path)
    assert answer.branches["audio"].status == "failed"
    assert answer.branches["audio"].reason == "inference_error"
    assert answer.branches["visual"].logit == pytest.approx(
        sample_prediction.branches["visual"].logit, abs=1e-5
    )
    assert answer.status == "ok"


class _Striking(DlibFinder):
    """Breaks on its third search."""

    def __init__(self) -> None:
        super().__init__()
        self.calls = 0

    def find_as_is(self, picture: np.ndarray) -> list[Detection]:
        self.calls += 1
        if self.calls == 3:
            raise RuntimeError("strike")
        return super().find_as_is(picture)


def test_a_finder_that_breaks_leaves_no_thread_behind(bundle: Bundle, sample_path: Path) -> None:
    before = set(threading.enumerate())
    answer = Detector(bundle, _Striking()).predict(sample_path)
    assert (answer.status, answer.reason) == ("error", "internal_error")
    assert "RuntimeError" in (answer.message or "")
    left = {thread.name for thread in set(threading.enumerate()) - before}
    assert not {name for name in left if name.startswith("avfake")}


# Lip-sync: a known shift of the sound is told


def shifts_told(detector: Detector, source: Path, folder: Path, delays: Sequence[float]) -> None:
    """The reported offset moves by as much as the sound is moved."""
    told = []
    for delay in delays:
        answer = detector.predict(remux(source, folder / f"late-{delay}.mkv", delay))
        score = answer.branches["lipsync"]
        assert score.status == "ok", score
        told.append(score.details["offset_ms"])
    moved = np.diff(told)
    assert moved == pytest.approx(1000 * np.diff(delays), abs=60), told


def test_sound_muxed_late_is_told_on_the_sample(
    detector: Detector, sample_path: Path, tmp_path: Path
) -> None:
    shifts_told(detector, sample_path, tmp_path, [0.0, 0.2])


REAL_CLIPS = ("talking/retalking/vr1.mp4", "talking/web/p06.mp4", "talking/hdtf")


@pytest.mark.slow
@pytest.mark.parametrize("name", REAL_CLIPS)
def test_sound_muxed_late_is_told_on_real_clips(
    detector: Detector, packs: Path, tmp_path: Path, name: str
) -> None:
    path = packs / name
    if path.is_dir():
        path = sorted(path.iterdir())[0]
    if not path.is_file():
        pytest.skip(f"the packs hold no {name}")
    shifts_told(detector, path, tmp_path, [0.0, 0.2])


@pytest.mark.slow
def test_true_fakes_rank_above_real_ones(detector: Detector, packs: Path) -> None:
    """Over all of dev, clips and stills, whatever branches see them: what a detector is for."""
    from evaluation.metrics.classification import auc
    from evaluation.protocols import read_manifest, select

    manifest = select(read_manifest(packs / "SOURCES.tsv"), ["split=dev"])
    logits = np.array(
        [detector.predict(packs / path).logit for path in manifest["path"]], np.float64
    )
    judged = ~np.isnan(logits)
    assert judged.mean() > 0.9
    assert auc(manifest["label"].to_numpy()[judged], logits[judged]) > 0.65


# A deadline: only the first seconds


def test_looking_at_the_beginning_alone_saves_its_time(detector: Detector, tmp_path: Path) -> None:
    frames, _ = moving_portrait(400, 25)
    path = write_clip(tmp_path / "clip.mp4", frames)
    whole, start = (detector.predict(path, longest) for longest in (None, 2.0))
    assert whole.seconds["total"] > 2 * start.seconds["total"]
    assert (whole.warnings, start.warnings) == ((), ("truncated",))
    assert start.status == "ok"
    assert start.tracks[0].end == pytest.approx(2.0)
    assert max(window.end for window in start.branches["visual"].windows) <= 3.0
    assert start.media == whole.media


def test_a_clip_that_is_shorter_gets_the_same_answer(
    detector: Detector, sample_path: Path, sample_prediction: Prediction
) -> None:
    (again,) = detector.predict([sample_path], longest=7.0)
    assert again.logit == pytest.approx(sample_prediction.logit, abs=1e-6)
    assert again.warnings == ()
    assert [score.windows for score in again.branches.values()] == [
        score.windows for score in sample_prediction.branches.values()
    ]


@pytest.mark.parametrize("longest", [0.0, -1.0, float("nan")])
def test_no_time_at_all_is_a_mistake(detector: Detector, longest: float) -> None:
    with pytest.raises(ValueError, match="more than 0 seconds"):
        detector.predict("clip.mp4", longest)


def test_progress_is_told_from_the_sound_to_the_branches(
    detector: Detector, sample_path: Path
) -> None:
    told: list[Progress] = []
    detector.predict(sample_path, tell=told.append)
    stages = [progress.stage for progress in told]
    assert list(dict.fromkeys(stages)) == ["sound", "faces", "branches"]
    shares = [progress.share for progress in told]
    assert shares == sorted(shares)
    assert (shares[0], shares[-1]) == (0.0, 1.0)
    assert len(set(shares)) > 4


def test_models_that_give_no_number_are_an_error(
    bundle: Bundle, sample_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    detector = Detector(bundle)
    monkeypatch.setattr(detector._fusion, "fuse", lambda scores: float("nan"))
    answer = detector.predict(sample_path)
    assert (answer.status, answer.reason, answer.logit) == ("error", "inference_error", None)


@pytest.mark.parametrize("path", [None, b"clip.mp4", 7, [b"clip.mp4"], ["clip.mp4", None]])
def test_what_is_no_path_is_a_mistake_of_the_program(detector: Detector, path: Any) -> None:
    with pytest.raises(TypeError, match="a path is a str"):
        detector.predict(path)
