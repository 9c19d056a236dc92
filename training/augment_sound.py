"""What happens to sound on its way to a listener: rooms, noise, level, filters, codecs.

A `Journey` is drawn once and then walked by the real utterance and by its re-synthesis alike, so
that nothing on the way tells the class. All sound is float32 [n] mono at 16 kHz in [-1, 1]; every
step keeps n and keeps time to within a few milliseconds.
"""

from __future__ import annotations

import io
from dataclasses import dataclass

import av
import numpy as np
from scipy.signal import fftconvolve, firwin, lfilter, resample_poly

from avfake.types import SAMPLE_RATE

CODECS = {"aac": "aac", "mp3": "libmp3lame", "opus": "libopus"}
"""Name here -> FFmpeg's encoder."""
BIT_RATES = (16_000, 24_000, 32_000, 48_000, 64_000, 96_000)
"""In bit/s, of one channel at 16 kHz."""


@dataclass(frozen=True)
class Journey:
    """One way through the world. None or 0 means that a step is left out.

    reverb: decay time in seconds (to -60 dB) and its share of the power; noise: signal-to-noise
    ratio in dB and colour (0 white, near 1 brown); tilt: first-order filter, below 0 dull, above
    0 bright; lead: seconds of silence before the sound; gain in dB; band: sampling rate in Hz of
    a narrow channel; equaliser: gains in dB at frequencies evenly spaced from 0 to 8 kHz; cutoff in
    Hz of a low-pass and its number of taps; gate in dB below the loudest moment, under which sound
    is faded out as cleaned-up recordings have it; codec: a name of `CODECS` with its bit rate in
    bit/s.
    """

    seed: int
    reverb_seconds: float | None = None
    reverb_share: float = 0.0
    noise_ratio: float | None = None
    noise_colour: float = 0.0
    tilt: float = 0.0
    lead: float = 0.0
    gain: float = 0.0
    equaliser: tuple[float, ...] = ()
    cutoff: float | None = None
    taps: int = 63
    gate: float | None = None
    band: int | None = None
    codec: str | None = None
    bit_rate: int = 64_000

    @classmethod
    def draw(cls, rng: np.random.Generator, codecs: bool = True) -> Journey:
        """A random journey; about one in ten changes nothing but the level.

        Without `codecs` it is a cheap one, for sound that has been through its codec already, and
        every second one changes nothing but the level: what is worn more teaches little.
        """
        gain = float(rng.uniform(-18, 6))
        seed = int(rng.integers(2**31))
        if rng.random() < (0.1 if codecs else 0.5):
            return cls(seed=seed, gain=gain)
        codec = str(rng.choice([*CODECS])) if codecs and rng.random() < 0.6 else None
        return cls(
            seed=seed,
            reverb_seconds=float(rng.uniform(0.1, 0.8)) if rng.random() < 0.3 else None,
            reverb_share=float(rng.uniform(0.05, 0.5)),
            noise_ratio=float(rng.uniform(10, 45)) if rng.random() < 0.5 else None,
            noise_colour=float(rng.uniform(0.0, 0.98)),
            tilt=float(rng.uniform(-0.5, 0.5)) if rng.random() < 0.5 else 0.0,
            lead=float(rng.uniform(0.0, 0.8)) if rng.random() < 0.3 else 0.0,
            gain=gain,
            equaliser=tuple(rng.uniform(-7, 7, 9)) if rng.random() < 0.4 else (),
            cutoff=float(rng.uniform(3_400, 7_900)) if rng.random() < 0.3 else None,
            taps=int(rng.choice([31, 63, 127])),
            gate=float(rng.uniform(25, 50)) if rng.random() < 0.2 else None,
            band=int(rng.choice([8_000, 11_025, 12_000])) if rng.random() < 0.1 else None,
            codec=codec,
            bit_rate=int(rng.choice(BIT_RATES)),
        )

    def __call__(self, samples: np.ndarray) -> np.ndarray:
        """The sound at the journey's end; the same seed draws the same room and noise again."""
        rng = np.random.default_rng(self.seed)
        if self.reverb_seconds is not None:
            samples = reverberate(samples, self.reverb_seconds, self.reverb_share, rng)
        if self.lead:
            samples = delay(samples, round(self.lead * SAMPLE_RATE))
        if self.noise_ratio is not None:
            samples = add_noise(samples, self.noise_ratio, self.noise_colour, rng)
        if self.tilt:
            samples = lfilter([1.0, -self.tilt], [1.0], samples).astype(np.float32)
        if self.equaliser:
            samples = equalised(samples, self.equaliser)
        if self.cutoff is not None:
            taper = firwin(self.taps, self.cutoff, fs=SAMPLE_RATE)
            samples = fftconvolve(samples, taper, "same").astype(np.float32)
        if self.gate is not None:
            samples = gated(samples, self.gate)
        samples = to_peak(samples, self.gain)
        if self.band is not None:
            samples = narrow(samples, self.band)
        if self.codec is not None:
            samples = through_codec(samples, self.codec, self.bit_rate)
        return samples


def reverberate(
    samples: np.ndarray, seconds: float, share: float, rng: np.random.Generator
) -> np.ndarray:
    """A room: exponentially decaying noise as impulse response (Moorer 1979), -60 dB at `seconds`.

    `share` in [0, 1]: how much of the impulse's energy comes after the direct sound.
    """
    count = max(2, round(seconds * SAMPLE_RATE))
    tail = rng.standard_normal(count) * np.power(10.0, -3.0 * np.arange(count) / count)
    tail[0] = 0.0
    impulse = np.sqrt(share) * tail / np.sqrt(np.sum(tail**2))
    impulse[0] = np.sqrt(1 - share)
    return fftconvolve(samples, impulse)[: len(samples)].astype(np.float32)


def add_noise(
    samples: np.ndarray, ratio: float, colour: float, rng: np.random.Generator
) -> np.ndarray:
    """Steady noise `ratio` dB below the sound's power; `colour` 0 is white, near 1 brown."""
    noise = lfilter([1.0], [1.0, -colour], rng.standard_normal(len(samples)))
    power = np.mean(np.square(samples, dtype=np.float64)) / 10 ** (ratio / 10)
    noise *= np.sqrt(power / np.mean(noise**2))
    return (samples + noise).astype(np.float32)


def delay(samples: np.ndarray, count: int) -> np.ndarray:
    """Silence of `count` samples first; what falls off the end is lost, the length stays."""
    count = min(count, len(samples))
    return np.concatenate([np.zeros(count, np.float32), samples[: len(samples) - count]])


def equalised(samples: np.ndarray, gains: tuple[float, ...]) -> np.ndarray:
    """Through a microphone's response: `gains` in dB, evenly spaced from 0 Hz to 8 kHz."""
    curve = np.interp(np.linspace(0, len(gains) - 1, 65), np.arange(len(gains)), gains)
    impulse = np.roll(np.fft.irfft(10 ** (curve / 20)), 64)
    impulse = np.append(impulse, impulse[0]) * np.hanning(129)
    return fftconvolve(samples, impulse, "same").astype(np.float32)


def gated(samples: np.ndarray, threshold: float) -> np.ndarray:
    """What is `threshold` dB below the loudest 10 ms, or more, faded by 40 dB, over 30 ms."""
    step = SAMPLE_RATE // 100
    count = max(1, len(samples) // step)
    power = np.square(samples[: count * step].reshape(count, -1), dtype=np.float64).mean(1)
    is_open = (power > power.max() * 10 ** (-threshold / 10)).astype(float)
    gain = np.convolve(np.pad(is_open, 2, mode="edge"), np.ones(5) / 5, "valid")
    gain = np.interp(np.arange(len(samples)), (np.arange(count) + 0.5) * step, gain)
    return (samples * np.maximum(gain, 0.01)).astype(np.float32)


def to_peak(samples: np.ndarray, gain: float) -> np.ndarray:
    """The peak set to `gain` dB of full scale; above 0 dB the sound clips, as careless ones do."""
    peak = float(np.max(np.abs(samples))) + 1e-9
    return np.clip(samples * (10 ** (gain / 20) / peak), -1.0, 1.0).astype(np.float32)


def narrow(samples: np.ndarray, rate: int) -> np.ndarray:
    """Through a channel that samples at `rate` Hz: nothing above half of it is left."""
    divisor = np.gcd(rate, SAMPLE_RATE)
    up, down = rate // divisor, SAMPLE_RATE // divisor
    back = resample_poly(resample_poly(samples, up, down), down, up)
    return _fitted(back.astype(np.float32), len(samples))


def through_codec(samples: np.ndarray, codec: str, bit_rate: int) -> np.ndarray:
    """Encoded and decoded in memory by FFmpeg; aligned with the input, same length.

    codec: a name of `CODECS`; bit_rate in bit/s, which encoders take as advice.
    """
    file = io.BytesIO()
    with av.open(file, "w", format="matroska") as container:
        stream = container.add_stream(CODECS[codec], rate=SAMPLE_RATE, layout="mono")
        stream.bit_rate = bit_rate
        frame = av.AudioFrame.from_ndarray(samples[None], format="fltp", layout="mono")
        frame.sample_rate = SAMPLE_RATE
        frame.pts = 0
        # The encoder cuts the sound to its own frame size and sample format.
        resampler = av.AudioResampler(
            stream.codec_context.format,
            "mono",
            SAMPLE_RATE,
            stream.codec_context.frame_size or None,
        )
        for part in [*resampler.resample(frame), *resampler.resample(None)]:
            container.mux(stream.encode(part))
        container.mux(stream.encode(None))
    file.seek(0)
    resampler = av.AudioResampler("fltp", "mono", SAMPLE_RATE)
    with av.open(file, "r", format="matroska") as container:
        frames = [part for frame in container.decode(audio=0) for part in resampler.resample(frame)]
    frames += resampler.resample(None)
    return _fitted(np.concatenate([frame.to_ndarray()[0] for frame in frames]), len(samples))


def _fitted(samples: np.ndarray, length: int) -> np.ndarray:
    """Cut or filled with zeros at its end to `length` samples."""
    return np.pad(samples[:length], (0, max(0, length - len(samples)))).astype(np.float32)
