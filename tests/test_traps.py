"""Whatever the file, the answer is ok, abstain or error with a reason; and it comes soon."""

from __future__ import annotations

import http.server
import json
import os
import subprocess
import sys
import threading
import time
from collections.abc import Iterator
from pathlib import Path

import av
import pytest

from avfake.bundle import Bundle
from avfake.detector import Detector
from avfake.limits import Limits
from avfake.media import Clip
from avfake.types import AvfakeError, Prediction
from avfake.workers import Job, Models, judge_each
from tests.traps import COSTLY, CUTS, KINDS, LISTS, OUTCOMES, TRAPS, flipped, playlist, sample

QUICK = {
    "error/not_found",
    "error/not_a_file",
    "error/not_readable",
    "error/empty_file",
    "error/file_too_large",
    "error/not_media",
    "error/no_streams",
    "error/too_large",
    "error/encrypted",
}
"""What is refused before anything is judged takes less than a second of one core, and waits for
nothing: a machine that is busy with other things makes it longer."""


WHOLE = {"link", "two_pictures", "zeros_after_the_end", "metadata_long", "metadata_not_utf8"}
WHOLE |= {"turned_0", "turned_45", "turned_flat", "turned_zero"}
WHOLE |= {name for name in TRAPS if name.startswith(("name_", "duration_"))}
"""Traps about a film to which nothing has happened: all of it is judged, and nothing else."""


@pytest.fixture(scope="module")
def plain(detector: Detector, tmp_path_factory: pytest.TempPathFactory) -> Prediction:
    return detector.predict(sample(tmp_path_factory.mktemp("plain") / "clip.mp4"))


def ending(prediction: Prediction) -> str:
    return "/".join(filter(None, (prediction.status, prediction.reason)))


@pytest.mark.skipif(not hasattr(os, "mkfifo"), reason="a system without FIFOs and devices")
@pytest.mark.parametrize("name", sorted(set(TRAPS) - COSTLY))
def test_each_trap_ends_as_it_must(
    detector: Detector, plain: Prediction, tmp_path: Path, name: str
) -> None:
    path = TRAPS[name](tmp_path)
    started, began = time.process_time(), time.monotonic()
    prediction = detector.predict(path)
    spent, waited = time.process_time() - started, time.monotonic() - began
    assert ending(prediction) in OUTCOMES[name]
    assert (prediction.logit is None) == (prediction.status != "ok")
    if prediction.status == "error":
        assert prediction.message is not None
        assert prediction.message.endswith(".")
    if ending(prediction) in QUICK:
        assert spent < 1
        assert waited < 10
    json.dumps(prediction.to_dict(), allow_nan=False)
    if name in WHOLE:
        assert prediction.logit == plain.logit


def test_a_million_frames_by_edits_end_with_the_time_for_decoding(
    bundle: Bundle, tmp_path: Path
) -> None:
    detector = Detector(bundle, limits=Limits(decode_seconds=1.0))
    path = TRAPS["edits_many"](tmp_path)
    started = time.process_time()
    assert ending(detector.predict(path)) == "error/decode_too_slow"
    assert time.process_time() - started < 10


def test_a_day_is_judged_by_its_beginning(bundle: Bundle, tmp_path: Path) -> None:
    detector = Detector(bundle, limits=Limits(seconds=300.0))
    path = TRAPS["day_long"](tmp_path)
    assert path.stat().st_size < 2_000_000
    started = time.process_time()
    prediction = detector.predict(path)
    assert ending(prediction) == "abstain/no_evidence"
    assert prediction.warnings == ("truncated",)
    assert time.process_time() - started < 10


@pytest.mark.slow
@pytest.mark.parametrize("name", sorted(COSTLY - {"edits_many"}))
def test_each_costly_trap_ends_as_it_must(name: str, tmp_path: Path) -> None:
    job = Job(TRAPS[name](tmp_path), timeout=300)
    ((_, prediction),) = judge_each([job], Models(threads=1), 1, memory=2 << 30)
    assert ending(prediction) in OUTCOMES[name]


@pytest.mark.parametrize("kind", KINDS)
def test_a_clip_in_any_container_is_judged_without_a_warning(
    detector: Detector, tmp_path: Path, kind: str
) -> None:
    whole = detector.predict(sample(tmp_path / f"clip.{kind}"))
    assert whole.status == "ok"
    assert whole.warnings == ()


@pytest.mark.parametrize("kind", ["web.mp4", "mkv"])
def test_what_is_missing_at_the_end_is_told(detector: Detector, tmp_path: Path, kind: str) -> None:
    """Where the container knows how long the clip was."""
    cut = detector.predict(TRAPS[f"cut_50_{kind}"](tmp_path))
    assert cut.warnings == ("partial_decode",)


@pytest.mark.parametrize(
    ("name", "warning"),
    [
        ("two_pictures", "streams_left_out"),
        ("frames_a_tenth", "partial_decode"),
        ("clock_absurd", "partial_decode"),
        ("clock_begins_again", "partial_decode"),
        ("clock_stands", "partial_decode"),
        ("clock_jumps_a_day", "truncated"),
        ("clock_a_frame_a_minute", "gap"),
        ("still_animated_png", "truncated"),
    ],
)
def test_what_was_not_looked_at_is_told(
    detector: Detector, tmp_path: Path, name: str, warning: str
) -> None:
    assert detector.predict(TRAPS[name](tmp_path)).warnings == (warning,)


@pytest.mark.parametrize("name", ["turned_45", "turned_zero", "turned_flat"])
def test_a_matrix_that_names_no_angle_turns_nothing(
    detector: Detector, plain: Prediction, tmp_path: Path, name: str
) -> None:
    assert detector.predict(TRAPS[name](tmp_path)).media == plain.media


@pytest.mark.parametrize(
    ("name", "missing"),
    [
        ("sound_only", {"visual": "no_picture", "lipsync": "no_picture"}),
        ("codec_of_picture_unknown", {"visual": "no_picture", "lipsync": "no_picture"}),
        ("picture_only", {"audio": "no_sound", "lipsync": "no_sound"}),
        ("codec_of_sound_unknown", {"audio": "no_sound", "lipsync": "no_sound"}),
        ("silent", {"audio": "no_speech", "lipsync": "no_speech"}),
        ("black", {"visual": "no_face", "audio": "no_speech", "lipsync": "no_face"}),
    ],
)
def test_what_a_clip_does_not_hold_is_not_judged(
    detector: Detector, tmp_path: Path, name: str, missing: dict[str, str]
) -> None:
    branches = detector.predict(TRAPS[name](tmp_path)).branches
    assert {key: b.reason for key, b in branches.items() if b.status == "absent"} == missing
    assert all(branches[key].status == "ok" for key in branches.keys() - missing.keys())


@pytest.mark.parametrize(
    ("name", "spans"),
    [
        ("edits_delayed", [(1.0, 2.9)]),
        ("edits_cut", [(0.0, 1.0)]),
        ("edits_repeated", [(0.0, 4.9)]),
        ("size_shrinks", [(0.0, 0.8), (0.8, 1.6)]),
        ("size_turns", [(0.0, 0.8), (0.8, 1.6)]),
        ("streams_go_on_as_others", [(0.0, 2.6)]),
        ("fragments", [(0.0, 2.6)]),
    ],
)
def test_faces_are_found_when_and_as_long_as_a_player_shows_them(
    detector: Detector, tmp_path: Path, name: str, spans: list[tuple[float, float]]
) -> None:
    tracks = detector.predict(TRAPS[name](tmp_path)).tracks
    found = [(track.start, track.end) for track in tracks]
    assert found == [pytest.approx(span, abs=0.15) for span in spans]


@pytest.mark.parametrize(("name", "degrees"), [("turned_90", 90), ("turned_270", 270)])
def test_width_and_height_are_those_of_the_upright_picture(
    tmp_path: Path, name: str, degrees: int
) -> None:
    with Clip(TRAPS[name](tmp_path)) as clip:
        assert clip.info.rotation == degrees
        picture = next(iter(clip.pictures(1)))
        assert clip.info.height is not None
        assert clip.info.width is not None
        assert picture.luma.shape == (clip.info.height, clip.info.width)


def test_every_cut_of_every_container_is_a_trap() -> None:
    assert {f"cut_{percent}_{kind}" for percent in CUTS for kind in KINDS} <= set(TRAPS)


# Damage by chance


def test_flipped_bits_cost_no_more_than_their_file(tmp_path: Path) -> None:
    """Fifty-two files of each kind; a decoder that crashes would cost its worker and no more."""
    jobs = []
    for kind in ("mp4", "mkv", "avi", "ts"):
        data = sample(tmp_path / f"clip.{kind}", seconds=0.6).read_bytes()
        for seed in range(52):
            path = tmp_path / f"flipped-{seed}.{kind}"
            path.write_bytes(flipped(data, seed))
            jobs.append(Job(path))
    answers = list(judge_each(jobs, Models(threads=1), 1, memory=Limits.memory))
    assert len(answers) == len(jobs) == 208
    for job, prediction in answers:
        assert prediction.reason not in ("internal_error", "timeout", "worker_exited"), job.path
        assert (prediction.logit is None) == (prediction.status != "ok")
    for kind in (".mp4", ".mkv", ".avi", ".ts"):
        assert any(p.status == "ok" for job, p in answers if Path(job.path).suffix == kind)


# Nobody is let in


@pytest.fixture
def server() -> Iterator[tuple[str, list[str]]]:
    """An address that counts who comes: its URL and the paths that were asked for."""
    asked: list[str] = []

    class Counting(http.server.BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            asked.append(self.path)
            self.send_error(404)

        def log_message(self, *_: object) -> None:
            pass

    with http.server.HTTPServer(("127.0.0.1", 0), Counting) as serving:
        thread = threading.Thread(target=serving.serve_forever, daemon=True)
        thread.start()
        yield f"http://127.0.0.1:{serving.server_port}", asked
        serving.shutdown()
        thread.join()


def test_no_list_makes_the_decoder_open_an_address(
    tmp_path: Path, server: tuple[str, list[str]]
) -> None:
    url, asked = server
    path = playlist(LISTS["ffconcat"], tmp_path, f"{url}/clip.ts")
    with open(path, "rb") as file, pytest.raises(av.error.FFmpegError):
        av.open(file, options={"safe": "0", "protocol_whitelist": "http,tcp"})
    assert asked  # this is what it does when it is let
    asked.clear()
    for name in LISTS:
        path = playlist(LISTS[name], tmp_path, f"{url}/clip.ts")
        for suffix in (".mp4", ".m3u8", ".ffconcat", ".mpd", ".sdp", ".txt"):
            with pytest.raises(AvfakeError, match=r"no video") as caught:
                Clip(path.rename(path.with_suffix(suffix)))
            path = path.with_suffix(suffix)
            assert caught.value.reason == "not_media"
    assert asked == []


def test_no_list_makes_the_decoder_open_a_file(tmp_path: Path) -> None:
    """Named is a FIFO: it can be opened for writing as soon as somebody opens it for reading."""
    fifo = tmp_path / "named.ts"
    os.mkfifo(fifo)
    stop, visits = threading.Event(), []

    def watch() -> None:
        while not stop.wait(0.002):
            try:
                os.close(os.open(fifo, os.O_WRONLY | os.O_NONBLOCK))
            except OSError:  # nobody reads
                continue
            visits.append(1)

    thread = threading.Thread(target=watch)
    thread.start()
    try:
        control = playlist(LISTS["ffconcat"], tmp_path, str(fifo))
        with pytest.raises(av.error.FFmpegError):
            av.open(str(control), options={"safe": "0"})
        assert visits
        visits.clear()
        for name in LISTS:
            path = playlist(LISTS[name], tmp_path, str(fifo))
            with pytest.raises(AvfakeError, match=r"no video"):
                Clip(path)
        assert not visits
    finally:
        stop.set()
        thread.join()


@pytest.mark.parametrize(
    "path",
    [
        "{}/clip.mp4",
        "concat:{}/a.ts|{}/b.ts",
        "subfile,,start,0,end,0,,:{}/a.ts",
        "async:{}/a.ts",
        "pipe:0",
        "file:///etc/passwd",
        "data:video/mp4;base64,AAAA",
    ],
)
def test_an_address_is_a_plain_name(
    detector: Detector, server: tuple[str, list[str]], path: str
) -> None:
    url, asked = server
    assert detector.predict(path.replace("{}", url)).reason == "not_found"
    assert asked == []


def test_a_pattern_names_no_row_of_pictures(detector: Detector, tmp_path: Path) -> None:
    for number in range(3):
        TRAPS["still_grey_16_bit"](tmp_path).rename(tmp_path / f"img{number:03d}.png")
    assert detector.predict(tmp_path / "img000.png").status == "ok"
    assert detector.predict(tmp_path / "img%03d.png").reason == "not_found"


@pytest.mark.parametrize("name", ["still_with_damaged_exif", "metadata_not_utf8", "cut_50_mkv"])
def test_the_command_says_nothing_beside_its_answer(tmp_path: Path, name: str) -> None:
    """No library's remarks on the damage, and no trace."""
    command = [sys.executable, "-m", "avfake.cli", "predict", "--json", str(TRAPS[name](tmp_path))]
    done = subprocess.run(command, capture_output=True, text=True)
    assert done.stderr == ""
    assert json.loads(done.stdout)["status"] == "ok"


# What it costs


MEASURE = """
import resource, sys
from avfake.media import Clip
from avfake.types import AvfakeError
before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
for path in sys.argv[1:]:
    try:
        with Clip(path) as clip:
            clip.sound()
            for _ in clip.pictures(10):
                pass
    except AvfakeError as error:
        print(error.reason, (resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before) >> 10)
"""


@pytest.mark.skipif(sys.platform != "linux", reason="counts memory as Linux does")
def test_refusing_what_is_too_large_takes_no_memory(tmp_path: Path) -> None:
    """Without limits, these take 1.4 GB, 0.6 GB, 0.2 GB and 0.2 GB."""
    expected = {
        "still_bomb_png": ("too_large", 50),
        "still_with_a_long_text": ("not_media", 100),
        "huge": ("too_large", 120),
        "grows_huge": ("too_large", 250),
    }
    paths = []
    for name in expected:
        (tmp_path / name).mkdir()
        paths.append(str(TRAPS[name](tmp_path / name)))
    done = subprocess.run(
        [sys.executable, "-c", MEASURE, *paths], capture_output=True, text=True, check=True
    )
    for line, (reason, megabytes) in zip(done.stdout.splitlines(), expected.values(), strict=True):
        assert line.split()[0] == reason
        assert int(line.split()[1]) < megabytes, done.stdout


@pytest.mark.skipif(not hasattr(os, "mkfifo"), reason="a system without FIFOs")
def test_a_fifo_is_not_even_opened(tmp_path: Path) -> None:
    """Who waits for a reader of it must not believe that one has come."""
    path = TRAPS["fifo"](tmp_path)
    writer = threading.Thread(target=lambda: os.close(os.open(path, os.O_WRONLY)), daemon=True)
    writer.start()
    with pytest.raises(AvfakeError) as caught:
        Clip(path)
    assert caught.value.reason == "not_a_file"
    writer.join(0.2)
    assert writer.is_alive()  # it still waits
    os.close(os.open(path, os.O_RDONLY | os.O_NONBLOCK))
    writer.join(5)
    assert not writer.is_alive()
