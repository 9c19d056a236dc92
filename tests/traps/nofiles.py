"""Names that mean something to somebody, what is no file, and what is no clip."""

from __future__ import annotations

import os
import socket
import struct
from functools import partial
from pathlib import Path

import numpy as np

from tests.traps.making import (
    add,
    box,
    lie,
    sample,
    trap,
    written,
)

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
