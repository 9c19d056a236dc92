"""How awkward files are made and entered: what all stories of `tests.traps` share."""

from __future__ import annotations

import struct
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path

import av
import cv2
import numpy as np
from av.bitstream import BitStreamFilterContext

from tests.clips import portrait, texture

SAMPLE = Path(__file__).parents[2] / "examples" / "sample.mp4"
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


def written(data: bytes, name: str, folder: Path) -> Path:
    (folder / name).write_bytes(data)
    return folder / name


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
