"""Awkward files, each made on the spot: what strangers, damage and malice put before a decoder.

`TRAPS` names a maker for each: it takes an empty folder and returns the path to judge. `OUTCOMES`
says how each must end: "ok", "abstain" or "error" with its reason code. Whoever wants many files
calls the makers of `FILES` (those that are regular files, made in a moment) as often as needed.
"""

from __future__ import annotations

import os
import socket
import struct
import zlib
from collections.abc import Callable, Iterator, Sequence
from fractions import Fraction
from functools import partial
from pathlib import Path

import av
import cv2
import numpy as np
from av.bitstream import BitStreamFilterContext
from PIL import Image, PngImagePlugin

from tests.clips import grey_frames, portrait, remux, texture, write_clip

SAMPLE = Path(__file__).parent.parent / "examples" / "sample.mp4"
Maker = Callable[[Path], Path]
TRAPS: dict[str, Maker] = {}
OUTCOMES: dict[str, set[str]] = {}
SECONDS = 2.5
"""Of the sample that most traps are made of: enough for a face, a voice and a mouth's window."""


def add(maker: Maker, *outcomes: str, name: str | None = None) -> None:
    key = name or getattr(maker, "__name__", "")
    TRAPS[key], OUTCOMES[key] = maker, set(outcomes)


def trap(*outcomes: str) -> Callable[[Maker], Maker]:
    """Enter the maker below under its own name; it may end in any of `outcomes`."""

    def enter(maker: Maker) -> Maker:
        add(maker, *outcomes)
        return maker

    return enter


def sample(path: Path, seconds: float = SECONDS, **options: str) -> Path:
    """The beginning of the sample clip, its packets as they are, in a container of that name."""
    with av.open(str(SAMPLE)) as given, av.open(str(path), "w", options=options) as out:
        streams = {s.index: out.add_stream_from_template(s) for s in given.streams}
        video = given.streams.video[0]
        start_codes = BitStreamFilterContext("h264_mp4toannexb", video)  # AVI wants them
        for packet in given.demux():
            if packet.dts is None or packet.dts * packet.time_base >= seconds:
                continue
            plain = path.suffix != ".avi" or packet.stream is not video
            for part in [packet] if plain else start_codes.filter(packet):
                part.stream = streams[packet.stream.index]
                out.mux(part)
    return path


# MP4 boxes (ISO/IEC 14496-12) and Matroska elements (RFC 8794), as far as lies need them


def boxes(data: bytes) -> Iterator[tuple[bytes, int, int]]:
    """(name, start, end) of each box in a row; the payload begins 8 bytes after the start."""
    start = 0
    while start + 8 <= len(data):
        size, name = struct.unpack_from(">I4s", data, start)
        if size < 8 or start + size > len(data):
            return
        yield name, start, start + size
        start += size


def changed(data: bytes, way: str, change: Callable[[bytes], bytes]) -> bytes:
    """The file with the payload of the first box at `way` ("moov/trak/tkhd") changed.

    Sizes are mended; chunk offsets are not, so `moov` has to come last where a size changes.
    """
    name, _, rest = way.partition("/")
    for found, start, end in boxes(data):
        if found == name.encode():
            payload = data[start + 8 : end]
            new = changed(payload, rest, change) if rest else change(payload)
            return data[:start] + box(name, new) + data[end:]
    raise LookupError(way)


def box(name: str, payload: bytes) -> bytes:
    return struct.pack(">I4s", len(payload) + 8, name.encode()) + payload


def lie(path: Path, way: str, change: Callable[[bytes], bytes]) -> Path:
    """`changed`, in a file that holds the truth so far."""
    path.write_bytes(changed(path.read_bytes(), way, change))
    return path


def overwritten(offset: int, new: bytes) -> Callable[[bytes], bytes]:
    return lambda payload: payload[:offset] + new + payload[offset + len(new) :]


def element(code: str, *parts: bytes) -> bytes:
    """A Matroska element with its size in eight bytes."""
    payload = b"".join(parts)
    return bytes.fromhex(code) + struct.pack(">Q", len(payload) | 1 << 56) + payload


def number(code: str, value: int) -> bytes:
    return element(code, struct.pack(">Q", value))


def matroska(
    path: Path,
    blocks: Sequence[tuple[int, bytes]],
    codec: str = "V_MJPEG",
    shape: tuple[int, int] = (64, 64),
    extra: bytes = b"",
    sound_rate: float | None = None,
) -> Path:
    """A file of one track, written byte by byte: each block has its time in ms and its data."""
    head = element("1A45DFA3", element("4282", b"matroska"), number("4287", 4), number("4285", 2))
    if sound_rate is None:
        kind = number("83", 1) + element("E0", number("B0", shape[1]), number("BA", shape[0]))
    else:
        rate = element("B5", struct.pack(">d", sound_rate))
        kind = number("83", 2) + element("E1", rate, number("9F", 1), number("6264", 8))
    track = element(
        "AE", number("D7", 1), number("73C5", 1), element("86", codec.encode()), kind, extra
    )
    info = element("1549A966", number("2AD7B1", 1_000_000))
    clusters, part, begin = [], [], None
    for time, data in blocks:
        if begin is None or not -30_000 < time - begin < 30_000:
            if part:
                clusters.append(element("1F43B675", *part))
            begin = max(time, 0)
            part = [number("E7", begin)]
        part.append(element("A3", b"\x81" + struct.pack(">h", time - begin) + b"\x80" + data))
    clusters.append(element("1F43B675", *part))
    body = element("18538067", info, element("1654AE6B", track), *clusters)
    path.write_bytes(head + body)
    return path


def jpeg(shape: tuple[int, int] = (64, 64), level: int = 90) -> bytes:
    return cv2.imencode(".jpg", np.full((*shape, 3), level, np.uint8))[1].tobytes()


def face(shape: tuple[int, int] = (240, 320)) -> np.ndarray:
    """uint8 RGB [*shape, 3]: a portrait in the middle of soft blobs."""
    picture = texture(*shape)
    side = min(shape) * 9 // 10
    small = cv2.resize(portrait(), (side, side), interpolation=cv2.INTER_AREA)
    top, left = (shape[0] - side) // 2, (shape[1] - side) // 2
    picture[top : top + side, left : left + side] = small
    return picture


# Names that mean something to somebody, and what is no file


def named(name: str | bytes, folder: Path) -> Path:
    """The sample under an odd name."""
    sample(folder / "plain.mp4")
    odd = os.path.join(os.fsencode(folder), os.fsencode(name))
    os.rename(folder / "plain.mp4", odd)
    return Path(os.fsdecode(odd))


for key, name in {
    "name_not_utf8": b"clip\xff\xfe.mp4",
    "name_of_concat": "concat:a.mp4|b.mp4",
    "name_of_subfile": "subfile,,start,0,end,0,,:a.mp4",
    "name_of_http": "http:",
    "name_of_file": "file:a.mp4",
    "name_of_pipe": "pipe:0",
    "name_of_a_sequence": "img%03d.png",
    "name_of_stdin": "-",
    "name_with_newline": "two\nlines \x1b[31m.mp4",
    "name_very_long": "x" * 250 + ".mp4",
}.items():
    add(partial(named, name), "ok", name=key)


@trap("error/not_a_file")
def fifo(folder: Path) -> Path:
    os.mkfifo(folder / "fifo.mp4")
    return folder / "fifo.mp4"


@trap("error/not_a_file")
def device(folder: Path) -> Path:
    (folder / "zero.mp4").symlink_to("/dev/zero")
    return folder / "zero.mp4"


@trap("error/not_a_file")
def directory(folder: Path) -> Path:
    (folder / "folder.mp4").mkdir()
    return folder / "folder.mp4"


@trap("error/not_a_file")
def unix_socket(folder: Path) -> Path:
    here = os.getcwd()
    os.chdir(folder)  # the name of a socket has 108 bytes at most
    try:
        with socket.socket(socket.AF_UNIX) as made:
            made.bind("socket.mp4")
    finally:
        os.chdir(here)
    return folder / "socket.mp4"


@trap("error/not_found")
def dangling_link(folder: Path) -> Path:
    (folder / "link.mp4").symlink_to("nowhere.mp4")
    return folder / "link.mp4"


@trap("error/not_readable")
def circular_link(folder: Path) -> Path:
    (folder / "circle.mp4").symlink_to("circle.mp4")
    return folder / "circle.mp4"


@trap("ok")
def link(folder: Path) -> Path:
    (folder / "link.mp4").symlink_to(sample(folder / "clip.mp4"))
    return folder / "link.mp4"


# What is no clip


def written(data: bytes, name: str, folder: Path) -> Path:
    (folder / name).write_bytes(data)
    return folder / name


HLS = "#EXTM3U\n#EXT-X-TARGETDURATION:10\n#EXTINF:10,\n{0}\n#EXT-X-ENDLIST\n"
CONCAT = "ffconcat version 1.0\nfile '{0}'\n"
DASH = """<?xml version="1.0"?><MPD xmlns="urn:mpeg:dash:schema:mpd:2011" type="static"
mediaPresentationDuration="PT6S"><Period><AdaptationSet mimeType="video/mp4"><Representation id="1"
bandwidth="1"><BaseURL>{0}</BaseURL></Representation></AdaptationSet></Period></MPD>"""
SDP = "v=0\no=- 0 0 IN IP4 127.0.0.1\ns=x\nc=IN IP4 127.0.0.1\nt=0 0\nm=video 9 RTP/AVP 96\n"
LISTS = {"ffconcat": CONCAT, "hls": HLS, "dash": DASH, "sdp": SDP}


def playlist(text: str, folder: Path, target: str | None = None) -> Path:
    """Text that makes FFmpeg open what it names, under the name of a clip."""
    if target is None:
        target = str(sample(folder / "named.mp4"))
    return written(text.format(target).encode(), "list.mp4", folder)


for key, text in LISTS.items():
    add(partial(playlist, text), "error/not_media", name=f"list_{key}")
for key, data in {
    "nothing": b"",
    "one_byte": b"\0",
    "zeros": bytes(1 << 20),
    "noise": np.random.default_rng(0).bytes(1 << 20),
    "text": b"Once upon a time. " * 500,
    "page": b"<!DOCTYPE html><html><body>404</body></html>",
    "zip": b"PK\x03\x04" + bytes(300),
    "gif": b"GIF89a" + bytes(300),
    "svg": b'<svg xmlns="http://www.w3.org/2000/svg"><image href="file:///etc/passwd"/></svg>',
    "only_ftyp": box("ftyp", b"isom\0\0\2\0isommp42"),
}.items():
    reason = "empty_file" if not data else "not_media"
    add(partial(written, data, "clip.mp4"), f"error/{reason}", name=f"bytes_{key}")


@trap("error/not_media")
def sparse(folder: Path) -> Path:
    """Fifteen GB of nothing, in no space."""
    with open(folder / "sparse.mp4", "wb") as out:
        out.truncate(15 << 30)
    return folder / "sparse.mp4"


@trap("error/file_too_large")
def sparse_beyond_the_limit(folder: Path) -> Path:
    path = sample(folder / "clip.mp4")
    os.truncate(path, 17 << 30)
    return path


@trap("ok")
def zeros_after_the_end(folder: Path) -> Path:
    path = sample(folder / "clip.mp4")
    os.truncate(path, 4 << 30)
    return path


@trap("error/no_streams", "error/nothing_decoded", "error/not_media")
def data_elsewhere(folder: Path) -> Path:
    """QuickTime's way to say that the pictures lie in another file: its data reference."""
    sample(folder / "named.mov")
    path = sample(folder / "clip.mov")
    target = str(folder / "named.mov").encode()
    alias = struct.pack(">IIHH", 1, 0, 0, 0) + bytes(150) + struct.pack(">hH", 18, len(target))
    alias += target + bytes(len(target) % 2) + struct.pack(">hH", -1, 0)
    entry = struct.pack(">I4sI", len(alias) + 12, b"alis", 0) + alias
    for track in ("moov/trak", "moov/trak"):
        way = f"{track}/mdia/minf/dinf/dref"
        lie(path, way, lambda _: struct.pack(">II", 0, 1) + entry)
    data = path.read_bytes()
    start = data.index(b"mdat")
    size = struct.unpack_from(">I", data, start - 4)[0]
    path.write_bytes(data[: start + 4] + bytes(size - 8) + data[start - 4 + size :])
    return path


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
    path = remuxed_last(path, folder / "bomb.mp4")
    table = "moov/trak/mdia/minf/stbl"
    lie(path, f"{table}/stsz", lambda _: struct.pack(">III", 0, 1, 40_000_000))
    lie(path, f"{table}/stsc", lambda _: struct.pack(">IIIII", 0, 1, 1, 40_000_000, 1))
    return lie(path, f"{table}/stts", lambda _: struct.pack(">IIII", 0, 1, 40_000_000, 1))


@trap("error/not_media")
def index_bomb_in_a_fragment(folder: Path) -> Path:
    options = {"movflags": "+frag_keyframe+empty_moov+default_base_moof"}
    path = sample(folder / "clip.mp4", **options)
    return lie(path, "moof/traf/trun", overwritten(4, struct.pack(">I", 1 << 26)))


def remuxed_last(source: Path, path: Path) -> Path:
    """The same with its index at the end."""
    with av.open(str(source)) as given, av.open(str(path), "w") as out:
        streams = {s.index: out.add_stream_from_template(s) for s in given.streams}
        for packet in given.demux():
            if packet.dts is not None:
                packet.stream = streams[packet.stream.index]
                out.mux(packet)
    return path


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


# Pictures of odd sizes and kinds


@trap("error/too_large")
def huge(folder: Path) -> Path:
    """16384x8192 in 395 kB of H.264, for which a decoder would take 1.4 GB."""
    return grey_h264(folder / "huge.mp4", 16_384, 8_192)


@trap("error/too_large")
def grows_huge(folder: Path) -> Path:
    """Midway, the pictures become larger than allowed; so far they were small."""
    small = grey_h264(folder / "small.ts", 320, 240, 10)
    large = grey_h264(folder / "large.ts", 8_192, 6_144)
    return written(small.read_bytes() + large.read_bytes(), "clip.ts", folder)


def grey_h264(path: Path, width: int, height: int, count: int = 1) -> Path:
    options = {"preset": "ultrafast", "crf": "40", "threads": "2"}
    with av.open(str(path), "w") as out:
        stream = out.add_stream("libx264", rate=25, options=options)
        stream.width, stream.height, stream.pix_fmt = width, height, "yuv420p"
        frame = av.VideoFrame(width, height, "yuv420p")
        for plane in frame.planes:
            plane.update(bytes([128]) * plane.buffer_size)
        for index in range(count):
            frame.pts, frame.time_base = index, Fraction(1, 25)
            out.mux(stream.encode(frame))
        out.mux(stream.encode())
    return path


def sizes(shapes: Sequence[tuple[int, int]], folder: Path) -> Path:
    """Motion-JPEG whose pictures change their size from one to the next."""
    frames = [cv2.imencode(".jpg", face(shape)[..., ::-1])[1].tobytes() for shape in shapes]
    blocks = [(40 * i, frame) for i, frame in enumerate(frames)]
    return matroska(folder / "clip.mkv", blocks, shape=shapes[0])


add(partial(sizes, [(240, 320)] * 20 + [(120, 160)] * 20), "ok", name="size_shrinks")
add(partial(sizes, [(240, 320)] * 20 + [(320, 240)] * 20), "ok", name="size_turns")
add(partial(sizes, [(240, 320)] * 9 + [(6000, 8000)]), "error/too_large", name="size_jumps")


def kind(options: dict[str, object], shape: tuple[int, int], folder: Path) -> Path:
    name = str(options.get("name", "clip.mp4"))
    picture = face(shape) if min(shape) > 30 else texture(*shape)
    rest = {key: value for key, value in options.items() if key != "name"}
    return write_clip(folder / name, [picture] * 12, **rest)  # type: ignore[arg-type]


FFV1 = {"name": "clip.mkv", "video_codec": "ffv1"}
for key, (options, shape) in {
    "odd_size": ({"pix_fmt": "yuv444p"}, (241, 321)),
    "odd_size_420": (FFV1 | {"pix_fmt": "yuv420p"}, (241, 321)),
    "10_bit": ({"pix_fmt": "yuv420p10le"}, (240, 320)),
    "full_range": ({"full_range": True}, (240, 320)),
    "444": ({"pix_fmt": "yuv444p"}, (240, 320)),
    "422_10_bit": ({"pix_fmt": "yuv422p10le"}, (240, 320)),
    "grey": (FFV1 | {"pix_fmt": "gray"}, (240, 320)),
    "grey_16_bit": (FFV1 | {"pix_fmt": "gray16le"}, (240, 320)),
    "rgb": (FFV1 | {"pix_fmt": "bgr0"}, (240, 320)),
    "rgb_48": (FFV1 | {"pix_fmt": "gbrp16le"}, (240, 320)),
    "alpha": (FFV1 | {"pix_fmt": "yuva420p"}, (240, 320)),
    "rgba": ({"name": "clip.mov", "video_codec": "png", "pix_fmt": "rgba"}, (240, 320)),
    "one_bit": ({"name": "clip.mov", "video_codec": "png", "pix_fmt": "monob"}, (240, 320)),
    "raw_upside_down": (
        {"name": "clip.avi", "video_codec": "rawvideo", "pix_fmt": "bgr24"},
        (240, 320),
    ),
}.items():
    add(partial(kind, options, shape), "ok", name=f"kind_{key}")
OUTCOMES["kind_one_bit"] |= {"abstain/no_evidence"}
for key, options, shape in (
    ("2x2", {}, (2, 2)),
    ("1x1", FFV1 | {"pix_fmt": "yuv444p"}, (1, 1)),
    ("1x4000", FFV1 | {"pix_fmt": "yuv444p"}, (1, 4000)),
    ("4000x2", FFV1 | {"pix_fmt": "yuv444p"}, (4000, 2)),
):
    add(partial(kind, options, shape), "abstain/no_evidence", name=f"size_{key}")


@trap("ok")
def kind_hlg(folder: Path) -> Path:
    """Hybrid log-gamma in BT.2020, ten bits, as phones film."""
    with av.open(str(folder / "clip.mp4"), "w") as out:
        stream = out.add_stream("libx264", rate=25)
        stream.width, stream.height, stream.pix_fmt = 320, 240, "yuv420p10le"
        context = stream.codec_context
        context.color_trc, context.color_primaries, context.colorspace = 18, 9, 9
        frame = av.VideoFrame.from_ndarray(face(), format="rgb24").reformat(format="yuv420p10le")
        for index in range(12):
            frame.pts, frame.time_base = index, Fraction(1, 25)
            out.mux(stream.encode(frame))
        out.mux(stream.encode())
    return folder / "clip.mp4"


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


@trap("ok", "abstain/no_evidence")
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


# Sound


def wave(samples: np.ndarray, rate: int, folder: Path, code: int = 3, channels: int = 1) -> Path:
    """A WAV file of its own header; `code` 3 is IEEE float, 1 is PCM."""
    data = samples.tobytes()
    size = samples.dtype.itemsize
    head = struct.pack(
        "<HHIIHH",
        code,
        channels,
        rate,
        min(rate * size * channels, 0xFFFFFFFF),
        size * channels,
        size * 8,
    )
    body = b"WAVEfmt " + struct.pack("<I", len(head)) + head
    body += b"data" + struct.pack("<I", len(data)) + data
    return written(b"RIFF" + struct.pack("<I", len(body)) + body, "clip.wav", folder)


def tone(count: int, rate: int) -> np.ndarray:
    return (0.3 * np.sin(2 * np.pi * 220 * np.arange(count) / rate)).astype(np.float32)


NOT_NUMBERS = np.tile(np.array([np.nan, np.inf, -np.inf, 1e38, 0.1], np.float32), 10_000)
for key, (samples, rate, code, channels) in {
    "not_numbers": (NOT_NUMBERS, 16_000, 3, 1),
    "192_khz": (tone(384_000, 192_000), 192_000, 3, 1),
    "8_channels": (tone(8 * 32_000, 16_000), 16_000, 3, 8),
    "17_channels": (tone(17 * 32_000, 16_000), 16_000, 3, 17),
    "1_hz": (tone(60_000, 220), 1, 3, 1),
    "4_ghz": (tone(60_000, 220), 0xFFFFFFFF, 3, 1),
    "0_hz": (tone(60_000, 220), 0, 3, 1),
}.items():
    maker = partial(wave, samples, rate, code=code, channels=channels)
    add(maker, "ok", "abstain/no_evidence", name=f"sound_{key}")
for key in ("1_hz", "4_ghz", "0_hz"):
    OUTCOMES[f"sound_{key}"] |= {"error/nothing_decoded", "error/not_media", "error/no_streams"}


def tiny_packets(count: int, folder: Path) -> Path:
    """Sound in packets of one sample each."""
    blocks = [(i // 16, b"\x80") for i in range(count)]
    return matroska(folder / "clip.mkv", blocks, "A_PCM/INT/LIT", sound_rate=16_000)


add(partial(tiny_packets, 20_000), "abstain/no_evidence", name="sound_in_tiny_packets")
add(partial(tiny_packets, 1_000_000), "abstain/no_evidence", name="sound_in_a_million_packets")


@trap("abstain/no_evidence")
def sound_with_its_own_speakers(folder: Path) -> Path:
    """Right before left: a list of channels that PyAV up to 18 frees twice."""
    path = folder / "clip.mov"
    with av.open(str(path), "w") as out:
        stream = out.add_stream("pcm_s16le", rate=16_000, layout="stereo")
        pcm = np.zeros((1, 2 * 32_000), np.int16)
        frame = av.AudioFrame.from_ndarray(pcm, format="s16", layout="stereo")
        frame.sample_rate = 16_000
        out.mux(stream.encode(frame))
        out.mux(stream.encode())
    speakers = b"".join(struct.pack(">II3f", label, 0, 0, 0, 0) for label in (2, 1))
    new = box("chan", struct.pack(">IIII", 0, 0, 0, 2) + speakers)

    def relabelled(payload: bytes) -> bytes:
        start = payload.index(b"chan") - 4
        end = start + struct.unpack_from(">I", payload, start)[0]
        payload = payload[:start] + new + payload[end:]
        size = struct.unpack_from(">I", payload, 8)[0] + len(new) - (end - start)
        return overwritten(8, struct.pack(">I", size))(payload)

    return lie(path, "moov/trak/mdia/minf/stbl/stsd", relabelled)


# Still images


def bomb(suffix: str, folder: Path) -> Path:
    """48 million pixels of nothing; WebP takes no side beyond 16383."""
    path = folder / f"bomb.{suffix}"
    Image.new("L", (8000, 6000)).save(path)
    return path


for suffix in ("png", "jpg", "webp", "bmp"):
    add(partial(bomb, suffix), "error/too_large", name=f"still_bomb_{suffix}")


@trap("error/too_large")
def still_of_a_billion_pixels(folder: Path) -> Path:
    """Only the header of a PNG: Pillow's own alarm goes off before ours."""
    head = struct.pack(">IIBBBBB", 1 << 15, 1 << 15, 8, 2, 0, 0, 0)
    return written(
        b"\x89PNG\r\n\x1a\n" + chunk(b"IHDR", head) + chunk(b"IDAT", zlib.compress(bytes(99))),
        "still.png",
        folder,
    )


def chunk(name: bytes, data: bytes) -> bytes:
    return struct.pack(">I", len(data)) + name + data + struct.pack(">I", zlib.crc32(name + data))


@trap("ok", "error/not_media")
def still_with_a_long_text(folder: Path) -> Path:
    """A PNG whose compressed note unpacks to 100 MB."""
    path = folder / "plain.png"
    Image.fromarray(face()).save(path)
    data = path.read_bytes()
    text = chunk(b"zTXt", b"Comment\0\0" + zlib.compress(bytes(100 << 20), 1))
    return written(data[:33] + text + data[33:], "still.png", folder)


def animated(suffix: str, folder: Path) -> Path:
    pictures = [Image.fromarray(np.roll(face(), 5 * i, 1)) for i in range(5)]
    path = folder / f"moving.{suffix}"
    pictures[0].save(path, save_all=True, append_images=pictures[1:], duration=40)
    return path


add(partial(animated, "png"), "ok", name="still_animated_png")
add(partial(animated, "webp"), "ok", name="still_animated_webp")


@trap("ok")
def still_with_damaged_exif(folder: Path) -> Path:
    path = folder / "still.jpg"
    exif = b"Exif\0\0MM\0*\0\0\0\x08\0\x01\x01\x12\xff\xff\0\0\0\x05\xff\xff\xff\xff"
    Image.fromarray(face()).save(path, exif=exif)
    return path


@trap("ok")
def still_with_notes(folder: Path) -> Path:
    path = folder / "still.png"
    notes = PngImagePlugin.PngInfo()
    for index in range(2000):
        notes.add_text(f"key{index}", "x" * 100)
    Image.fromarray(face()).save(path, pnginfo=notes)
    return path


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


NOT_FILES = {"fifo", "device", "directory", "unix_socket", "dangling_link", "circular_link"}
COSTLY = {"day_long", "edits_many", "sound_in_a_million_packets"}
"""A single one takes many seconds."""
LARGE = {"huge", "grows_huge", "metadata_of_50_mb", "size_jumps", "still_with_a_long_text"}
LARGE |= {f"still_bomb_{suffix}" for suffix in ("png", "jpg", "webp", "bmp")}
FILES = {name: make for name, make in TRAPS.items() if name not in NOT_FILES | COSTLY | LARGE}
