"""Sound of odd kinds."""

from __future__ import annotations

import struct
from functools import partial
from pathlib import Path

import av
import numpy as np

from tests.traps.making import (
    OUTCOMES,
    add,
    box,
    lie,
    matroska,
    overwritten,
    trap,
    written,
)


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
