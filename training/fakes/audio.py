"""Pseudo-fake speech: re-syntheses of a real utterance, made in memory as training signal.

Every function takes float32 [n] mono samples at 16 kHz in [-1, 1] (n >= 1 s) and a numpy
Generator, and answers float32 [n] in time with its input and of the same power: speaker, words,
room and level stay, only the marks of synthesis are new. What a vocoder loses, these lose in
turn: the true phase (Griffin-Lim), fine frequency detail (mel inversion), the true excitation
(linear prediction), phase coherence between bands (phase vocoder), images of the lower band
above a missing interpolation filter (upsampling). They sound like cheap vocoders; they imitate
nobody. Training on copy-synthesis of real speech: Wang & Yamagishi, "Spoofed training data for
speech spoofing countermeasure can be efficiently created using neural vocoders", 2023.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from types import MappingProxyType

import librosa
import numpy as np
from scipy.signal import firwin, lfilter, upfirdn

from avfake.types import SAMPLE_RATE

Method = Callable[[np.ndarray, np.random.Generator], np.ndarray]


def griffin_lim(samples: np.ndarray, rng: np.random.Generator) -> np.ndarray:
    """True magnitudes, invented phase (Griffin & Lim 1984; fast version, Perraudin 2013)."""
    n_fft = int(rng.choice([512, 800, 1024]))
    hop = n_fft // int(rng.choice([4, 4, 5]))
    magnitude = np.abs(librosa.stft(samples, n_fft=n_fft, hop_length=hop))
    return like(_phase_from(magnitude, n_fft, hop, rng, len(samples)), samples)


def mel_inversion(samples: np.ndarray, rng: np.random.Generator) -> np.ndarray:
    """Through a mel spectrogram and back, as text-to-speech does (Tacotron 2, Shen et al. 2018).

    Half the time the mel is smoothed over time, as acoustic models' averages are.
    """
    n_fft, hop = 1024, int(rng.choice([200, 256]))
    bands = int(rng.choice([64, 80, 100, 128]))
    magnitude = np.abs(librosa.stft(samples, n_fft=n_fft, hop_length=hop))
    filters = librosa.filters.mel(
        sr=SAMPLE_RATE, n_fft=n_fft, n_mels=bands, htk=bool(rng.random() < 0.5)
    )
    mel = filters @ magnitude
    if rng.random() < 0.5:
        side = rng.uniform(0.1, 0.3)
        padded = np.pad(mel, ((0, 0), (1, 1)), mode="edge")
        mel = side * padded[:, :-2] + (1 - 2 * side) * mel + side * padded[:, 2:]
    # The pseudo-inverse is a hundred times faster than librosa's non-negative least squares.
    magnitude = np.maximum(np.linalg.pinv(filters) @ mel, 1e-6).astype(np.float32)
    return like(_phase_from(magnitude, n_fft, hop, rng, len(samples)), samples)


def linear_prediction(samples: np.ndarray, rng: np.random.Generator) -> np.ndarray:
    """Source and filter: Burg's LPC envelope excited by pulses and noise (Atal & Hanauer 1971)."""
    order, hop = int(rng.integers(16, 25)), int(rng.choice([80, 128, 160]))
    size = 4 * hop
    padded = np.pad(samples, size)
    # Dither, so that digital silence still has a spectrum to predict.
    padded = padded + 1e-5 * rng.standard_normal(len(padded)).astype(np.float32)
    taper = np.hanning(size + 1)[:-1].astype(np.float32)
    frames = librosa.util.frame(padded, frame_length=size, hop_length=hop).T * taper
    lags, voicing = _pitch(padded, hop, len(frames), size)
    pulses = _pulse_train(lags, hop, len(padded))
    noise = rng.standard_normal(len(padded)).astype(np.float32)
    # Burg's recursion in single precision makes an unstable filter now and then.
    filters = librosa.lpc(frames.astype(np.float64), order=order)
    result, weight = np.zeros((2, len(padded)), np.float32)
    breath = rng.uniform(0.0, 0.3)
    for index, frame in enumerate(frames):
        span = slice(index * hop, index * hop + size)
        voiced = np.sqrt(voicing[index] * (1 - breath))
        unvoiced = np.sqrt(1 - voiced**2)
        excitation = voiced * pulses[span] + unvoiced * noise[span]
        sound = lfilter([1.0], filters[index], excitation) * taper
        result[span] += sound * np.sqrt(np.sum(frame**2) / (np.sum(sound**2) + 1e-9))
        weight[span] += taper
    result /= np.maximum(weight, 0.1)
    return like(result[size : size + len(samples)], samples)


def phase_vocoder(samples: np.ndarray, rng: np.random.Generator) -> np.ndarray:
    """Shifted in pitch, or stretched and squeezed back (phase vocoder, Flanagan & Golden 1966)."""
    if rng.random() < 0.5:
        steps = float(rng.uniform(0.3, 2.5) * rng.choice([-1, 1]))
        changed = librosa.effects.pitch_shift(samples, sr=SAMPLE_RATE, n_steps=steps, n_fft=1024)
    else:
        rate = float(rng.uniform(1.1, 1.5))
        slow = librosa.effects.time_stretch(samples, rate=1 / rate, n_fft=1024)
        changed = librosa.effects.time_stretch(slow, rate=rate, n_fft=1024)
    return like(librosa.util.fix_length(changed, size=len(samples)), samples)


def upsampling_images(samples: np.ndarray, rng: np.random.Generator) -> np.ndarray:
    """Mirror images of the low band on top, as transposed convolutions leave (Pons et al. 2021)."""
    factor = int(rng.choice([2, 4]))
    taps = 63
    low = upfirdn(firwin(taps, 0.95 / factor), samples, up=1, down=factor)
    # Zeros between the samples mirror the low band upwards; only the mirrors are kept.
    mirrors = upfirdn(firwin(taps, 1.0 / factor, pass_zero=False) * factor, low, up=factor)
    mirrors = librosa.util.fix_length(mirrors[taps - 1 :], size=len(samples))
    return like(samples + float(10 ** rng.uniform(-1.3, -0.2)) * mirrors, samples)


METHODS: Mapping[str, Method] = MappingProxyType(
    {
        "griffin_lim": griffin_lim,
        "mel_inversion": mel_inversion,
        "linear_prediction": linear_prediction,
        "phase_vocoder": phase_vocoder,
        "upsampling_images": upsampling_images,
    }
)


def splice(real: np.ndarray, fake: np.ndarray, rng: np.random.Generator) -> np.ndarray:
    """A partial fake: between 0.8 s and all of `fake` set into `real`, both float32 [n].

    Cross-faded over 10 ms, so that no click marks the seam (PartialSpoof, Zhang et al. 2021).
    """
    fade = SAMPLE_RATE // 100
    longest = len(real)
    length = int(rng.integers(min(int(0.8 * SAMPLE_RATE), longest), longest + 1))
    first = int(rng.integers(0, longest - length + 1))
    gate = np.zeros(longest, np.float32)
    gate[first : first + length] = 1.0
    smooth = np.hanning(fade + 2)[1:-1].astype(np.float32)
    gate = np.convolve(np.pad(gate, fade, mode="edge"), smooth / smooth.sum(), mode="same")
    gate = gate[fade:-fade].astype(np.float32)
    return gate * fake + (1 - gate) * real


def like(fake: np.ndarray, real: np.ndarray) -> np.ndarray:
    """`fake` at the power of `real`, so that loudness never tells the class."""
    power = np.sqrt(np.mean(np.square(fake, dtype=np.float64)) + 1e-12)
    gain = np.sqrt(np.mean(np.square(real, dtype=np.float64))) / power
    return (fake * gain).astype(np.float32)


def _phase_from(
    magnitude: np.ndarray, n_fft: int, hop: int, rng: np.random.Generator, length: int
) -> np.ndarray:
    """Griffin-Lim with 2 to 32 iterations: from harsh to nearly clean."""
    return librosa.griffinlim(
        magnitude,
        n_iter=int(np.exp2(rng.uniform(1, 5))),
        hop_length=hop,
        n_fft=n_fft,
        length=length,
        random_state=int(rng.integers(2**31)),
    )


def _pitch(samples: np.ndarray, hop: int, count: int, size: int) -> tuple[np.ndarray, np.ndarray]:
    """(pitch period in samples, voicing in [0, 1]) of `count` frames that start `hop` apart."""
    low, high, window = 70.0, 400.0, 1024
    pitch = librosa.yin(
        np.pad(samples, (window // 2, window)),
        fmin=low,
        fmax=high,
        sr=SAMPLE_RATE,
        frame_length=window,
        hop_length=hop,
        center=False,
    )[size // (2 * hop) :]
    pitch = np.pad(pitch, (0, max(0, count - len(pitch))), mode="edge")[:count]
    lags = np.rint(SAMPLE_RATE / pitch).astype(int)
    voicing = np.empty(count)
    for index, lag in enumerate(lags):
        middle = index * hop + size // 2
        first = samples[max(0, middle - 320) : middle + 320]
        second = samples[max(0, middle - 320) + lag : middle + 320 + lag][: len(first)]
        first = first[: len(second)]
        norm = np.sqrt(np.sum(first**2) * np.sum(second**2)) + 1e-9
        voicing[index] = np.clip((np.sum(first * second) / norm - 0.3) / 0.5, 0.0, 1.0)
    return lags, voicing


def _pulse_train(lags: np.ndarray, hop: int, length: int) -> np.ndarray:
    """One pulse a pitch period, unit power; float32 [length]."""
    pulses = np.zeros(length, np.float32)
    position = 0
    while position < length:
        lag = int(lags[min(position // hop, len(lags) - 1)])
        pulses[position] = np.sqrt(lag)
        position += lag
    return pulses
