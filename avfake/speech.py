"""Where in a sound somebody speaks. The audio and lip-sync branches judge nothing else."""

from __future__ import annotations

import numpy as np
import webrtcvad

from avfake.types import SAMPLE_RATE, Sound

_FRAME = 480  # 30 ms, the longest frame the detector takes
_SECOND = 33  # frames
# dB of standard deviation: white noise and tones have under 0.4, read speech a median of 8.5.
_MOVES = 2.0
# Quiet recordings are raised to this peak first: the detector expects telephone level.
_LOUDEST = 0.3


class SpeechActivity:
    """WebRTC's voice activity detector over a whole sound, smoothed over 0.3 s.

    `aggressiveness` 0 to 3: how readily sound is taken for noise.
    """

    def __init__(self, sound: Sound, aggressiveness: int = 2) -> None:
        self._start = sound.start
        detector = webrtcvad.Vad(aggressiveness)
        peak = float(np.quantile(np.abs(sound.samples), 0.999)) if len(sound.samples) else 0.0
        count = len(sound.samples) // _FRAME
        flags = np.zeros(count, bool)
        if peak > 1e-3:  # below that there is nothing but the noise of an empty channel
            level = np.clip(sound.samples * (_LOUDEST / peak), -1, 1)
            pcm = (level * 32767).astype("<i2")
            for i in range(count):
                frame = pcm[i * _FRAME : (i + 1) * _FRAME].tobytes()
                flags[i] = detector.is_speech(frame, SAMPLE_RATE)
        flags &= _varies(sound.samples[: count * _FRAME])
        # A majority over 11 frames: single clicks do not count, short pauses in words do.
        votes = np.convolve(flags, np.ones(11), "same") if count else np.zeros(0)
        self._seconds = np.concatenate([[0.0], np.cumsum(votes >= 6)]) * (_FRAME / SAMPLE_RATE)

    @property
    def total(self) -> float:
        """Seconds of speech in all."""
        return float(self._seconds[-1])

    def between(self, start: float, end: float) -> float:
        """Seconds of speech within [start, end)."""
        last = len(self._seconds) - 1
        first_frame, last_frame = (
            int(np.clip((time - self._start) * SAMPLE_RATE / _FRAME, 0, last))
            for time in (start, end)
        )
        return float(self._seconds[last_frame] - self._seconds[first_frame])


def _varies(samples: np.ndarray) -> np.ndarray:
    """bool [frames]: where the level moves, over the second around, as syllables make it move.

    WebRTC's detector takes hum, tones and steady noise for speech; their level stands still.
    """
    power = np.square(samples.reshape(-1, _FRAME)).mean(1)
    level = 10 * np.log10(power + 1e-10)  # dB
    width = min(_SECOND, len(level))
    if width < 2:
        return np.zeros(len(level), bool)
    padded = np.pad(level, (width // 2, width - 1 - width // 2), mode="reflect")
    return np.lib.stride_tricks.sliding_window_view(padded, width).std(1) > _MOVES
