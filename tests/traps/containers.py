"""Containers that lie, odd clocks and turns, more or fewer streams than usual, and cuts."""

from __future__ import annotations

import struct
from collections.abc import Sequence
from fractions import Fraction
from functools import partial
from pathlib import Path

import av
import cv2
import numpy as np

from tests.clips import grey_frames, remux, write_clip
from tests.traps.making import (
    OUTCOMES,
    SAMPLE,
    add,
    box,
    element,
    face,
    lie,
    matroska,
    number,
    overwritten,
    sample,
    trap,
    written,
)

# Counts, lengths and notes that lie


def counts(factor: float, folder: Path) -> Path:
    """An index that claims other numbers of frames than there are."""
    path = sample(folder / "clip.mp4")

    def multiplied(payload: bytes) -> bytes:
        count = struct.unpack_from(">I", payload, 8)[0]
        return overwritten(8, struct.pack(">I", int(count * factor)))(payload)

    return lie(path, "moov/trak/mdia/minf/stbl/stsz", multiplied)


add(partial(counts, 1000), "ok", "error/not_media", "error/nothing_decoded", name="frames_x1000")
add(partial(counts, 0.1), "ok", "abstain/no_evidence", name="frames_a_tenth")
add(partial(counts, 0), "ok", "abstain/no_evidence", name="frames_none")


def duration(value: int, folder: Path) -> Path:
    path = sample(folder / "clip.mp4")
    new = overwritten(16, struct.pack(">I", value))
    lie(path, "moov/mvhd", new)
    lie(path, "moov/trak/mdia/mdhd", new)
    return lie(path, "moov/trak/tkhd", overwritten(20, struct.pack(">I", value)))


add(partial(duration, 0), "ok", name="duration_0")
add(partial(duration, 0x7FFFFFFF), "ok", name="duration_years")
add(partial(duration, 0xFFFFFFFF), "ok", name="duration_unknown")


@trap("ok")
def avi_header_lies(folder: Path) -> Path:
    """Frame counts of the main and of the stream header, both a million times too large."""
    path = sample(folder / "clip.avi")
    data = bytearray(path.read_bytes())
    for name, offset in ((b"avih", 24), (b"strh", 40)):
        struct.pack_into("<I", data, data.index(name) + offset, 0x7FFFFFFF)
    path.write_bytes(data)
    return path


@trap("error/not_media")
def index_bomb(folder: Path) -> Path:
    """1.6 kB that claim forty million frames of one size in one chunk: 3 GB of index."""
    path = write_clip(folder / "clip.mp4", grey_frames([90] * 5))
    path = remux(path, folder / "bomb.mp4")  # which has its index at the end
    table = "moov/trak/mdia/minf/stbl"
    lie(path, f"{table}/stsz", lambda _: struct.pack(">III", 0, 1, 40_000_000))
    lie(path, f"{table}/stsc", lambda _: struct.pack(">IIIII", 0, 1, 1, 40_000_000, 1))
    return lie(path, f"{table}/stts", lambda _: struct.pack(">IIII", 0, 1, 40_000_000, 1))


@trap("error/not_media")
def index_bomb_in_a_fragment(folder: Path) -> Path:
    options = {"movflags": "+frag_keyframe+empty_moov+default_base_moof"}
    path = sample(folder / "clip.mp4", **options)
    return lie(path, "moof/traf/trun", overwritten(4, struct.pack(">I", 1 << 26)))


def metadata(value: bytes, folder: Path) -> Path:
    path = folder / "clip.mp4"
    sample(path)
    text = box("\u00a9nam", b"").replace("\u00a9".encode(), b"\xa9")[4:]  # Latin-1, as boxes are
    item = struct.pack(">HH", len(value) & 0xFFFF, 0) + value
    note = struct.pack(">I", 8 + len(item)) + text[-4:] + item
    return lie(path, "moov", lambda payload: payload + box("udta", note))


add(partial(metadata, b"\xff\xfe\xc3\x28 \x80"), "ok", name="metadata_not_utf8")
add(partial(metadata, b"x" * 0xFFFF), "ok", name="metadata_long")


@trap("ok")
def metadata_of_50_mb(folder: Path) -> Path:
    path = sample(folder / "clip.mkv")
    with av.open(str(path)) as given, av.open(str(folder / "big.mkv"), "w") as out:
        streams = {s.index: out.add_stream_from_template(s) for s in given.streams}
        out.metadata["comment"] = "x" * 50_000_000
        for packet in given.demux():
            if packet.dts is not None:
                packet.stream = streams[packet.stream.index]
                out.mux(packet)
    return folder / "big.mkv"


def foreign(names: dict[bytes, bytes], folder: Path) -> Path:
    """Codecs that no decoder knows."""
    path = sample(folder / "clip.mp4")
    data = path.read_bytes()
    for known, unknown in names.items():
        data = data.replace(known, unknown)
    path.write_bytes(data)
    return path


PICTURE_CODEC = {b"avc1": b"zzz1", b"avcC": b"zzzC"}
SOUND_CODEC = {b"mp4a": b"zzza", b"esds": b"zzzs"}
add(partial(foreign, PICTURE_CODEC), "ok", "abstain/no_evidence", name="codec_of_picture_unknown")
add(partial(foreign, SOUND_CODEC), "ok", name="codec_of_sound_unknown")
add(partial(foreign, PICTURE_CODEC | SOUND_CODEC), "error/no_streams", name="codecs_unknown")


@trap("error/encrypted")
def encrypted(folder: Path) -> Path:
    """Common Encryption (ISO/IEC 23001-7): decoders make corrupt pictures of it."""
    return sample(
        folder / "clip.mp4",
        encryption_scheme="cenc-aes-ctr",
        encryption_key="00112233445566778899aabbccddeeff",
        encryption_kid="112233445566778899aabbccddeeff00",
    )


@trap("error/encrypted")
def encrypted_webm(folder: Path) -> Path:
    cipher = element("5035", number("47E1", 5), element("47E2", b"0123456789abcdef"))
    encoding = element("6240", number("5031", 0), number("5032", 1), number("5033", 1), cipher)
    noise = np.random.default_rng(0).bytes(500)
    blocks = [(40 * i, b"\1" + bytes(8) + noise) for i in range(25)]
    return matroska(folder / "clip.webm", blocks, "V_VP9", extra=element("6D80", encoding))


# How it is turned


def turned(matrix: Sequence[int], folder: Path) -> Path:
    """The sample with a display matrix: nine int32, 16.16 and 2.30 fixed point."""
    path = sample(folder / "clip.mp4")
    return lie(path, "moov/trak/tkhd", overwritten(40, struct.pack(">9i", *matrix)))


ONE, LAST = 1 << 16, 1 << 30
MATRICES = {
    "0": [ONE, 0, 0, 0, ONE, 0, 0, 0, LAST],
    "90": [0, ONE, 0, -ONE, 0, 0, 0, 0, LAST],
    "180": [-ONE, 0, 0, 0, -ONE, 0, 0, 0, LAST],
    "270": [0, -ONE, 0, ONE, 0, 0, 0, 0, LAST],
    "45": [46341, 46341, 0, -46341, 46341, 0, 0, 0, LAST],
    "zero": [0] * 9,
    "extreme": [-(1 << 31), (1 << 31) - 1, -1, (1 << 31) - 1, -(1 << 31), 1, -1, 1, -(1 << 31)],
    "sheared": [ONE, 3 * ONE, 0, 2 * ONE, ONE, 0, 0, 0, LAST],
    "flat": [ONE, 0, 0, ONE, 0, 0, 0, 0, LAST],
    "mirrored": [-ONE, 0, 0, 0, ONE, 0, 0, 0, LAST],
}
for key, matrix in MATRICES.items():
    add(partial(turned, matrix), "ok", "abstain/no_evidence", name=f"turned_{key}")
for key in ("0", "45", "zero"):
    OUTCOMES[f"turned_{key}"] = {"ok"}


# Clocks


def clock(times: Sequence[int], folder: Path) -> Path:
    """A portrait in motion-JPEG, a frame at each of `times` (milliseconds)."""
    frame = cv2.imencode(".jpg", face()[..., ::-1])[1].tobytes()
    return matroska(folder / "clip.mkv", [(time, frame) for time in times], shape=(240, 320))


STEADY = [40 * i for i in range(50)]
DAY = 86_400_000
for key, times in {
    "variable": sorted(np.random.default_rng(0).choice(2000, 50, replace=False).tolist()),
    "negative": [t - 1000 for t in STEADY],
    "late": [t + 20 * DAY for t in STEADY],
    "jumps_a_day": [t + DAY * (i > 25) for i, t in enumerate(STEADY)],
    "jumps_days_and_back": [t + 3 * DAY * (i == 25) for i, t in enumerate(STEADY)],
    "jumps_at_once": [DAY, *STEADY],
    "backwards": STEADY[::-1],
    "stands": [0] * 50,
    "absurd": [t + (1 << 60) * (i > 25) for i, t in enumerate(STEADY)],
    "absurd_at_once": [(1 << 61), *STEADY],
    "a_frame_a_minute": [60_000 * i for i in range(3)],
    "one_frame": [0],
}.items():
    add(partial(clock, times), "ok", name=f"clock_{key}")
for key in ("jumps_at_once", "absurd_at_once", "absurd", "late"):
    OUTCOMES[f"clock_{key}"] |= {"error/nothing_decoded"}


@trap("ok")
def clock_begins_again(folder: Path) -> Path:
    """Two films in a row, as transport streams may be joined; players show both."""
    plain = remux(sample(folder / "clip.mp4"), folder / "clip.ts", with_sound=False).read_bytes()
    return written(plain + plain, "clip.ts", folder)


@trap("ok")
def streams_go_on_as_others(folder: Path) -> Path:
    """A broadcast whose streams get other numbers midway: the first ones are looked at."""
    numbers = {"mpegts_start_pid": "1200", "mpegts_pmt_start_pid": "3000"}
    data = sample(folder / "one.ts").read_bytes()
    return written(data + sample(folder / "other.ts", **numbers).read_bytes(), "clip.ts", folder)


@trap("ok")
def fragments(folder: Path) -> Path:
    """Each frame in a fragment of its own, as live streams are recorded."""
    options = {"movflags": "+frag_every_frame+empty_moov+default_base_moof"}
    return sample(folder / "clip.mp4", **options)


def edits(entries: Sequence[tuple[int, int]], folder: Path) -> Path:
    """The sample with another edit list: (duration, first media time) each."""
    path = sample(folder / "clip.mp4")
    table = b"".join(struct.pack(">IiI", *entry, ONE) for entry in entries)
    new = struct.pack(">II", 0, len(entries)) + table
    return lie(path, "moov/trak/edts", lambda _: box("elst", new))


for key, entries in {
    "delayed": [(1000, -1), (2000, 0)],
    "cut": [(1000, 12_800)],
    "repeated": [(1000, 0)] * 5,
    "backwards": [(500, 19_200), (500, 6_400), (500, 0)],
    "absurd": [(0xFFFFFFFF, -1), (0xFFFFFFFF, 0x7FFFFFFF)],
}.items():
    add(partial(edits, entries), "ok", "abstain/no_evidence", name=f"edits_{key}")
# Each edit makes the decoder begin again at its key frame: 1.3 million frames in 400 kB.
MANY = [(1, i * 100) for i in range(20_000)]
add(partial(edits, MANY), "error/decode_too_slow", "error/timeout", name="edits_many")


@trap("ok", "abstain/no_evidence")
def day_long(folder: Path) -> Path:
    """A frame a second for 24 hours in 1.3 MB; the limit of an hour makes it bearable."""
    grey = write_clip(folder / "grey.mp4", grey_frames([90] * 10), fps=1)
    with av.open(str(grey)) as given:
        packets = [bytes(p) for p in given.demux(video=0) if p.dts is not None]
    path = folder / "day.mp4"
    with av.open(str(grey)) as given, av.open(str(path), "w") as out:
        stream = out.add_stream_from_template(given.streams.video[0])
        for second in range(86_400):
            packet = av.Packet(packets[min(second, 9)])
            packet.stream, packet.time_base = stream, Fraction(1)
            packet.pts = packet.dts = second
            packet.is_keyframe = second == 0
            out.mux(packet)
    return path


# Streams, more or fewer than usual


@trap("ok")
def two_pictures(folder: Path) -> Path:
    """Two video tracks: the first is the sample's, the other grey."""
    sample(folder / "one.mp4")
    other = write_clip(folder / "two.mp4", grey_frames([90] * 50))
    path = folder / "clip.mp4"
    with (
        av.open(str(folder / "one.mp4")) as one,
        av.open(str(other)) as two,
        av.open(str(path), "w") as out,
    ):
        streams = {s: out.add_stream_from_template(s) for g in (one, two) for s in g.streams}
        for given in (one, two):
            for packet in given.demux():
                if packet.dts is not None:
                    packet.stream = streams[packet.stream]
                    out.mux(packet)
    return path


@trap("ok")
def sound_only(folder: Path) -> Path:
    with av.open(str(SAMPLE)) as given, av.open(str(folder / "clip.mp4"), "w") as out:
        stream = out.add_stream_from_template(given.streams.audio[0])
        for packet in given.demux(audio=0):
            if packet.dts is not None:
                packet.stream = stream
                out.mux(packet)
    return folder / "clip.mp4"


@trap("ok")
def picture_only(folder: Path) -> Path:
    return remux(SAMPLE, folder / "clip.mp4", with_sound=False)


@trap("ok")
def silent(folder: Path) -> Path:
    return write_clip(folder / "clip.mp4", [face()] * 25, sound=np.zeros(16_000, np.float32))


@trap("abstain/no_evidence")
def black(folder: Path) -> Path:
    return write_clip(
        folder / "clip.mp4", grey_frames([0] * 25), sound=np.zeros(16_000, np.float32)
    )


# Cut short

CUTS = (1, 10, 25, 50, 75, 90, 99)
KINDS = ("mp4", "web.mp4", "mkv", "avi", "ts")


def cut(percent: int, kind: str, folder: Path) -> Path:
    """The first `percent` of the sample; "web.mp4" has its index first, "mp4" last."""
    options = {"movflags": "+faststart"} if kind == "web.mp4" else {}
    path = sample(folder / f"clip.{kind}", **options)
    data = path.read_bytes()
    path.write_bytes(data[: len(data) * percent // 100])
    return path


for kind_name in KINDS:
    for percent in CUTS:
        ends = {"ok", "abstain/no_evidence", "error/not_media", "error/nothing_decoded"}
        ends |= {"error/no_streams"}
        if kind_name == "mp4":
            ends = {"error/not_media"}
        elif percent >= 75:
            ends = {"ok"}
        add(partial(cut, percent, kind_name), *ends, name=f"cut_{percent}_{kind_name}")


def flipped(data: bytes, seed: int) -> bytes:
    """The bytes with eight bits turned over, the same ones for the same seed."""
    rng = np.random.default_rng(seed)
    damaged = bytearray(data)
    for place in rng.integers(0, len(data), 8):
        damaged[place] ^= 1 << int(rng.integers(8))
    return bytes(damaged)
