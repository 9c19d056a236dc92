"""The speech packs as training batches: who speaks, who is held out, which pairs a batch holds.

A batch is made of pairs, a real and a fake utterance cut to the same length and sent on the same
journey (`training.augment_sound`). Most fakes are re-syntheses of the very utterance beside them,
so that speaker, words, room, level and codec say nothing about the class; the rest come from real
generators, beside their own ground truth where the packs have it.
"""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

import librosa
import numpy as np
import pandas as pd
import soundfile
import torch
from torch import Tensor
from torch.utils.data import Dataset

from avfake.models.audio import WINDOW_SAMPLES
from avfake.types import SAMPLE_RATE
from avfake.windows import repeat_to
from training.augment_sound import Journey
from training.fakes.audio import METHODS, splice

SHORTEST = int(1.5 * SAMPLE_RATE)
"""Samples that a cut keeps at least, where the utterance has them."""
SPEAKERS = {
    "librispeech": r"(\d+)-",
    "univnet": r"(\d+)_",
    "univnet-gt": r"(\d+)_",
    "nsf": r"([a-z]+)_arctic",
    "pwg": r"([A-Z]+|\d\d)",
    "pwg-gt": r"([A-Z]+|\d\d)",
}
"""How a pack's group begins with its speaker; elsewhere the group is the speaker.

LibriTTS (univnet) numbers its speakers as LibriSpeech does: the same number is the same person.
"""


@dataclass(frozen=True)
class Utterance:
    """One file. `samples`: float32 [n] at 16 kHz, silence at both ends removed; label 1 = fake."""

    path: str
    group: str
    speaker: str
    source: str
    label: int
    samples: np.ndarray


def load_speech(root: Path) -> list[Utterance]:
    """All utterances that `root/SOURCES.tsv` lists for training, in its order.

    Raises ValueError for a file that is not 16 kHz mono.
    """
    table = pd.read_csv(root / "SOURCES.tsv", sep="\t", dtype=str)
    table = table[(table["kind"] == "speech") & (table["split"] == "train")]
    utterances = []
    for path, label, group in zip(table["path"], table["label"], table["group"], strict=True):
        samples, rate = soundfile.read(root / path, dtype="float32")
        if rate != SAMPLE_RATE or samples.ndim != 1:
            raise ValueError(f"{path}: expected {SAMPLE_RATE} Hz mono, found {rate} Hz")
        # Packs differ in how much silence they leave; none may be known by it.
        samples, _ = librosa.effects.trim(samples, top_db=35)
        source = Path(path).parent.name
        speaker = speaker_of(source, group)
        utterances.append(Utterance(path, group, speaker, source, int(label == "fake"), samples))
    return utterances


def speaker_of(source: str, group: str) -> str:
    """The person (or cloned voice) behind a group; two packs of one person share the name."""
    match = re.match(SPEAKERS.get(source, r"(.*)"), group)
    if match is None:
        raise ValueError(f"group {group!r} of {source!r} names no speaker")
    return match.group(1)


def hold_out(
    utterances: Sequence[Utterance], share: float = 0.2, seed: int = 0
) -> tuple[list[Utterance], list[Utterance]]:
    """(train, held out), split by speaker, `share` of the speakers of every source held out.

    A source with two speakers or more gives at least one to each side.
    """
    by_source: dict[str, set[str]] = {}
    for utterance in utterances:
        by_source.setdefault(utterance.source, set()).add(utterance.speaker)
    rng = np.random.default_rng(seed)
    held: set[str] = set()
    decided: set[str] = set()
    # Small sources first: they have the least choice about speakers that they share.
    for source in sorted(by_source, key=lambda name: (len(by_source[name]), name)):
        speakers = by_source[source]
        wanted = max(round(share * len(speakers)), int(len(speakers) > 1))
        free = sorted(speakers - decided)
        missing = max(0, wanted - len(speakers & held))
        held |= {free[index] for index in rng.permutation(len(free))[:missing]}
        decided |= speakers
    train = [utterance for utterance in utterances if utterance.speaker not in held]
    return train, [utterance for utterance in utterances if utterance.speaker in held]


class PairBatches(Dataset):
    """Item i is the whole batch of step i, drawn from seed (seed, i): the same at every run.

    A batch is {"sound": float32 [2 * pairs, 64000], "label": float32 [2 * pairs], "speaker":
    list of the real speakers, one a pair}; reals come first, item p + pairs is the fake of p.
    """

    def __init__(
        self, utterances: Sequence[Utterance], pairs: int, steps: int, seed: int = 0
    ) -> None:
        self.pairs, self.steps, self.seed = pairs, steps, seed
        self.reals = _by_source([item for item in utterances if item.label == 0])
        self.fakes = _by_source([item for item in utterances if item.label == 1])
        if not self.reals:
            raise ValueError("no real speech to train on")
        self.truths: dict[str, list[Utterance]] = {}
        for item in utterances:
            if item.label == 0:
                self.truths.setdefault(item.group, []).append(item)

    def __len__(self) -> int:
        return self.steps

    def __getitem__(self, index: int) -> dict[str, Tensor | list[str]]:
        rng = np.random.default_rng((self.seed, index))
        drawn = [self._pair(rng) for _ in range(self.pairs)]
        sound = np.stack([pair[0] for pair in drawn] + [pair[1] for pair in drawn])
        label = np.repeat(np.float32([0, 1]), self.pairs)
        speakers = [pair[2] for pair in drawn]
        return {
            "sound": torch.from_numpy(sound),
            "label": torch.from_numpy(label),
            "speaker": speakers,
        }

    def _pair(self, rng: np.random.Generator) -> tuple[np.ndarray, np.ndarray, str]:
        if self.fakes and rng.random() < 0.35:
            fake_item = _draw(self.fakes, rng)
            truths = self.truths.get(fake_item.group)
            item = truths[rng.integers(len(truths))] if truths else _draw(self.reals, rng)
            real, fake = cut_alike(item.samples, fake_item.samples, rng)
        else:
            item = _draw(self.reals, rng)
            real, _ = cut_alike(item.samples, item.samples, rng)
            method = METHODS[str(rng.choice([*METHODS]))]
            fake = method(real, rng)
            if rng.random() < 0.25:
                fake = splice(real, fake, rng)
        journey = Journey.draw(rng)
        real, fake = (repeat_to(journey(sound), WINDOW_SAMPLES) for sound in (real, fake))
        return real, fake, item.speaker


def cut_alike(
    first: np.ndarray, second: np.ndarray, rng: np.random.Generator
) -> tuple[np.ndarray, np.ndarray]:
    """Both sounds cut to one length, at the same share of the way through each.

    Half the cuts are 4 s, half 1.5 to 4 s; never longer than the shorter sound, so that how often
    a window loops is the same for both classes.
    """
    length = WINDOW_SAMPLES
    if rng.random() < 0.5:
        length = int(rng.integers(SHORTEST, WINDOW_SAMPLES + 1))
    length = min(length, len(first), len(second))
    way = rng.random()
    starts = [int(way * (len(sound) - length)) for sound in (first, second)]
    return first[starts[0] : starts[0] + length], second[starts[1] : starts[1] + length]


@dataclass(frozen=True)
class Trial:
    """One window to score: float32 [64000] as it is, and after a random journey."""

    path: str
    group: str
    source: str
    label: int
    clean: np.ndarray
    travelled: np.ndarray


def make_trials(utterances: Sequence[Utterance], fakes_each: int = 2, seed: int = 0) -> list[Trial]:
    """The first 4 s of every utterance, and re-syntheses of every real one.

    A re-synthesis keeps the path of its original and has the source "pseudo-METHOD".
    """
    trials: list[Trial] = []
    names = [*METHODS]

    def add(item: Utterance, source: str, label: int, sound: np.ndarray, journey: Journey) -> None:
        clean, travelled = (repeat_to(x, WINDOW_SAMPLES) for x in (sound, journey(sound)))
        trials.append(Trial(item.path, item.group, source, label, clean, travelled))

    for index, item in enumerate(utterances):
        rng = np.random.default_rng((seed, index))
        journey = Journey.draw(rng)
        sound = item.samples[:WINDOW_SAMPLES]
        add(item, item.source, item.label, sound, journey)
        for turn in range(fakes_each if item.label == 0 else 0):
            name = names[(index * fakes_each + turn) % len(names)]
            add(item, f"pseudo-{name}", 1, METHODS[name](sound, rng), journey)
    return trials


def _by_source(utterances: Sequence[Utterance]) -> dict[str, list[Utterance]]:
    table: dict[str, list[Utterance]] = {}
    for utterance in utterances:
        table.setdefault(utterance.source, []).append(utterance)
    return table


def _draw(table: Mapping[str, list[Utterance]], rng: np.random.Generator) -> Utterance:
    """A source by the root of its size, so that large packs do not drown small ones; a file."""
    sizes = np.sqrt([len(items) for items in table.values()])
    items = [*table.values()][rng.choice(len(sizes), p=sizes / sizes.sum())]
    return items[rng.integers(len(items))]
