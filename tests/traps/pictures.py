"""Pictures of odd sizes and kinds, moving and still."""

from __future__ import annotations

import struct
import zlib
from collections.abc import Sequence
from fractions import Fraction
from functools import partial
from pathlib import Path

import av
import cv2
import numpy as np
from PIL import Image, PngImagePlugin

from tests.clips import texture, write_clip
from tests.traps.making import (
    OUTCOMES,
    add,
    box,
    face,
    matroska,
    trap,
    written,
)


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


add(partial(animated, "gif"), "ok", name="moving_gif")


def item(code: str, payload: bytes, version: int = 0, flags: int = 0) -> bytes:
    return box(code, struct.pack(">I", version << 24 | flags) + payload)


@trap("error/no_streams")
def still_in_tiles(folder: Path) -> Path:
    """HEIF as phones write it (ISO/IEC 23008-12): a grid of 2x2 pictures; here they are JPEGs."""
    whole = face((480, 480))[..., ::-1]
    tiles = [whole[y : y + 240, x : x + 240] for y in (0, 240) for x in (0, 240)]
    data = [cv2.imencode(".jpg", tile)[1].tobytes() for tile in tiles]
    grid = struct.pack(">4B2H", 0, 0, 1, 1, 480, 480)
    kinds = [item("infe", struct.pack(">HH4sB", i, 0, b"jpeg", 0), 2, 1) for i in range(1, 5)]
    kinds.append(item("infe", struct.pack(">HH4sB", 5, 0, b"grid", 0), 2))
    shapes = [item("ispe", struct.pack(">II", side, side)) for side in (240, 480)]
    shape_of = b"".join(struct.pack(">HBB", i, 1, 2 if i == 5 else 1) for i in range(1, 6))
    head = box("ftyp", b"heic\0\0\0\0mif1heic")

    def index(start: int) -> bytes:
        places = b""
        for number, tile in enumerate(data, 1):
            places += struct.pack(">HHHHII", number, 0, 0, 1, start, len(tile))
            start += len(tile)
        places += struct.pack(">HHHHII", 5, 1, 0, 1, 0, len(grid))
        return item(
            "meta",
            item("hdlr", struct.pack(">I4s13x", 0, b"pict"))
            + item("pitm", struct.pack(">H", 5))
            + item("iinf", struct.pack(">H", 5) + b"".join(kinds))
            + item("iref", box("dimg", struct.pack(">6H", 5, 4, 1, 2, 3, 4)))
            + box("iprp", box("ipco", b"".join(shapes)) + item("ipma", b"\0\0\0\5" + shape_of))
            + box("idat", grid)
            + item("iloc", struct.pack(">BBH", 0x44, 0, 5) + places, 1),
        )

    start = len(head) + len(index(0)) + 8
    return written(head + index(start) + box("mdat", b"".join(data)), "photo.heic", folder)


@trap("ok")
def still_grey_16_bit(folder: Path) -> Path:
    """Of which Pillow makes nothing but white, if it is asked for eight."""
    grey = cv2.cvtColor(face(), cv2.COLOR_RGB2GRAY).astype(np.uint16) * 257
    cv2.imwrite(str(folder / "still.png"), grey)
    return folder / "still.png"


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
