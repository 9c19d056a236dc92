"""Make synthetic twins of real speech: python -m training.voices --data ROOT --out runs/voices

With `--prepared DIR` instead of `--data` it takes the speech of a data set that
`training.prepare --dataset` listed; `--each 0` makes no twins, where the set has fakes enough.

Trains the small vocoders of `training.fakes.vocoders` on the real speech of the packs, then sends
every real utterance through them, through WORLD and MelGAN where installed, and
through signal processing. Writes `OUT/vocoders/NAME.safetensors`, `OUT/WAY/*.flac`, and the store
that `training.audio` learns from, `OUT/sounds.{csv,i16}`. What is there already is kept: run the
same command again after a kill.

The twins are training signal. None is ever published, and the vocoders are not part of a bundle.
"""

from __future__ import annotations

import argparse
import time
import zlib
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path

import librosa
import numpy as np
import soundfile
import torch
from safetensors.torch import load_file, save_file
from torch import Tensor, nn
from torch.nn import functional

from avfake.types import SAMPLE_RATE
from training.fakes.audio import METHODS, Method, like
from training.fakes.packages import installed
from training.fakes.vocoders import PITCH_HOP, VOCODERS, Critic, Mel, spectral_loss
from training.speech import (
    Utterance,
    read_packs,
    read_prepared,
    read_soundtracks,
    utterance,
    write_store,
)

FIRST = "melgan"
"""The way that every utterance is sent, where installed: the only well-trained vocoder at hand."""
LEVEL = 0.06
"""Root mean square at which vocoders hear and speak."""


@dataclass(frozen=True)
class Lesson:
    """How a vocoder is trained: `samples` a segment (a multiple of 160), critics from `judged`."""

    steps: int = 1200
    batch: int = 4
    samples: int = 9_600
    lr: float = 8e-4
    judged: float = 0.45


def pitch_of(samples: np.ndarray) -> np.ndarray:
    """Pitch in Hz at 100 frames/s, 0 where unvoiced: float32 [1 + n // 160] (YIN, 2002)."""
    size = 1024
    padded = np.pad(samples, size // 2, mode="reflect")
    pitch = librosa.yin(
        padded, fmin=65, fmax=420, sr=SAMPLE_RATE, frame_length=size, hop_length=PITCH_HOP,
        center=False,
    )  # fmt: skip
    frames = librosa.util.frame(padded, frame_length=size, hop_length=PITCH_HOP).T
    lags = np.rint(SAMPLE_RATE / pitch).astype(int)
    half = size // 2
    index = np.arange(half)[None] + lags[:, None]
    first, second = frames[:, :half], np.take_along_axis(frames, index, axis=1)
    norm = np.sqrt((first**2).sum(1) * (second**2).sum(1)) + 1e-6
    voiced = (first * second).sum(1) / norm > 0.6
    count = 1 + len(samples) // PITCH_HOP
    pitch = np.where(voiced, pitch, 0.0)[:count]
    return np.pad(pitch, (0, count - len(pitch)), mode="edge").astype(np.float32)


def train_vocoder(name: str, speech: Sequence[np.ndarray], lesson: Lesson) -> nn.Module:
    """A vocoder of `VOCODERS`, fitted to copy `speech` (float32 [n] each) by its mel or codes.

    First the spectrum's magnitudes alone; then critics too, that learn to tell it from speech
    (hinge loss and feature matching), so that it sounds less averaged.
    """
    torch.manual_seed(0)
    rng = np.random.default_rng(0)
    vocoder = VOCODERS[name]()
    critics = nn.ModuleList([Critic(400), Critic(1024)])
    optimiser = torch.optim.AdamW(vocoder.parameters(), lesson.lr, betas=(0.8, 0.99))
    judge = torch.optim.AdamW(critics.parameters(), 2e-4, betas=(0.8, 0.99))
    long = [sound for sound in speech if len(sound) > lesson.samples + PITCH_HOP]
    pitches: dict[int, np.ndarray] = {}
    started = time.monotonic()
    for step in range(lesson.steps):
        sounds, contours = [], []
        for index in rng.integers(len(long), size=lesson.batch):
            if index not in pitches:
                pitches[index] = pitch_of(long[index])
            frame = rng.integers((len(long[index]) - lesson.samples) // PITCH_HOP)
            first = frame * PITCH_HOP
            sounds.append(long[index][first : first + lesson.samples])
            contours.append(pitches[index][frame : frame + lesson.samples // PITCH_HOP + 1])
        real = _levelled(torch.from_numpy(np.stack(sounds)))[0]
        made = vocoder(real, torch.from_numpy(np.stack(contours)))
        # Half cosine to a tenth of the rate.
        share = 0.55 + 0.45 * np.cos(np.pi * step / lesson.steps)
        optimiser.param_groups[0]["lr"] = lesson.lr * share
        loss = spectral_loss(made, real)
        if step >= lesson.judged * lesson.steps:
            critic: nn.Module = critics[step % 2]
            truth, lie = critic(real), critic(made.detach())
            doubt = functional.relu(1 - truth[-1]).mean() + functional.relu(1 + lie[-1]).mean()
            judge.zero_grad(set_to_none=True)
            doubt.backward()
            judge.step()
            heard = critic(made)
            alike = sum((a - b.detach()).abs().mean() for a, b in zip(heard, truth, strict=True))
            loss = loss + 0.15 * (alike - heard[-1].mean())
        optimiser.zero_grad(set_to_none=True)
        loss.backward()
        nn.utils.clip_grad_norm_(vocoder.parameters(), 5.0)
        optimiser.step()
        if step % 100 == 99:
            error = spectral_loss(made.detach(), real).item()
            spent = time.monotonic() - started
            print(f"{name}: step {step + 1}, spectral {error:.3f}, {spent:.0f} s", flush=True)
    return vocoder.eval()


def _levelled(sound: Tensor) -> tuple[Tensor, Tensor]:
    """(sound at `LEVEL`, what it was divided by [N, 1])."""
    gain = sound.square().mean(1, keepdim=True).sqrt().clamp(min=1e-4) / LEVEL
    return sound / gain, gain


def trained(name: str, speech: Sequence[np.ndarray], folder: Path, lesson: Lesson) -> nn.Module:
    """The vocoder of that name from `folder`, trained first where it is not there."""
    path = folder / f"{name}.safetensors"
    if not path.exists():
        folder.mkdir(parents=True, exist_ok=True)
        vocoder = train_vocoder(name, speech, lesson)
        save_file(vocoder.state_dict(), path)
    vocoder = VOCODERS[name]().eval()
    vocoder.load_state_dict(load_file(path))
    return vocoder


class Copier:
    """A trained vocoder as a way of making fakes; half the time from a mel as if predicted."""

    def __init__(self, vocoder: nn.Module) -> None:
        self._vocoder = vocoder

    @torch.no_grad()
    def __call__(self, samples: np.ndarray, rng: np.random.Generator) -> np.ndarray:
        torch.manual_seed(int(rng.integers(2**31)))
        guessed = rng.random() < 0.5
        for part in self._vocoder.modules():
            if isinstance(part, Mel):
                part.blur = float(rng.uniform(0.1, 0.5)) if guessed else 0.0
                part.grain = float(rng.uniform(0.0, 0.15)) if guessed else 0.0
        sound, gain = _levelled(torch.from_numpy(samples)[None])
        made = self._vocoder(sound, torch.from_numpy(pitch_of(samples))[None]) * gain
        return like(made[0].numpy(), samples)


def make_twins(
    originals: Sequence[Utterance], makers: Mapping[str, Method], each: int, out: Path
) -> list[Utterance]:
    """`each` twins of every utterance, by `FIRST` and by ways drawn at random, source "twin-WAY".

    One in five of the others is made twice: by a second way, of what a first one made. Sounds are
    kept under `out`, and those that are there already are not made again.
    """
    twins = []
    names = [*makers]
    for index, item in enumerate(originals):
        rng = np.random.default_rng((1, index))
        drawn = sorted(rng.permutation(names), key=lambda name: name != FIRST)
        for name in drawn[:each]:
            ways = [name]
            if name != FIRST and rng.random() < 0.2:
                ways.insert(0, str(rng.choice(names)))
            seed = int(rng.integers(2**31))
            path = out / name / f"{zlib.crc32(item.path.encode()):08x}.flac"
            if not path.exists():
                sound = item.sound()
                for way in ways:
                    sound = makers[way](sound, np.random.default_rng(seed))
                path.parent.mkdir(parents=True, exist_ok=True)
                # Written aside first, so that a kill leaves no half file.
                partial = out / "partial.flac"
                sound = sound / max(1.0, np.abs(sound).max() * 1.001)
                soundfile.write(partial, sound, SAMPLE_RATE)
                partial.rename(path)
            sound, _ = soundfile.read(path, dtype="float32")
            place = path.relative_to(out).as_posix()
            twin = utterance(place, item.group, item.source, 1, sound, item.path)
            twins.append(replace(twin, source=f"twin-{name}"))
        if index % 20 == 19:
            print(f"twins of {index + 1} of {len(originals)} utterances", flush=True)
    return twins


def main(arguments: Sequence[str] | None = None) -> None:
    parser = argparse.ArgumentParser(
        prog="python -m training.voices",
        description=__doc__,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    where = parser.add_mutually_exclusive_group(required=True)
    where.add_argument("--data", type=Path, help="folder of SOURCES.tsv")
    where.add_argument("--prepared", type=Path, help="what training.prepare --dataset wrote")
    parser.add_argument("--out", type=Path, required=True, help="folder for the store")
    parser.add_argument("--each", type=int, default=8, help="twins of every utterance")
    parser.add_argument("--threads", type=int, default=1)
    options = parser.parse_args(arguments)
    torch.set_num_threads(options.threads)
    if options.prepared and not options.each:
        count = write_store(read_prepared(options.prepared), options.out)
        print(f"{count} utterances in {options.out}")
        return
    if options.prepared:
        speech = [*read_prepared(options.prepared)]
    else:
        speech = read_packs(options.data) + read_soundtracks(options.data)
    real = [item for item in speech if item.label == 0]
    makers, missing = installed()
    for line in missing:
        print(line)
    for name in VOCODERS:
        makers[name] = Copier(
            trained(name, [item.sound() for item in real], options.out / "vocoders", Lesson())
        )
    twins = make_twins(real, makers | dict(METHODS), options.each, options.out)
    write_store([*speech, *twins], options.out)
    print(f"{len(speech)} utterances and {len(twins)} twins in {options.out}")


if __name__ == "__main__":
    main()
