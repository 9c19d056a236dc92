"""Utterances to training batches and to trials.

A batch is made of pairs, a real and a fake utterance cut to the same length and sent on the same
journey (`training.augment_sound`). Most fakes are twins of the very utterance beside them, so that
speaker, words, room, level and codec say nothing about the class; the rest come from the packs'
generators, beside their own ground truth where the packs have it.
"""

from __future__ import annotations

import zlib
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor
from torch.utils.data import Dataset

from avfake.models.audio import WINDOW_SAMPLES
from avfake.types import SAMPLE_RATE
from avfake.windows import repeat_to
from training.augment_sound import Journey
from training.fakes.audio import splice
from training.speech import Utterance

SHORTEST = int(1.5 * SAMPLE_RATE)
"""Samples that a cut keeps at least, where the utterance has them."""
FROM_PACKS = 0.25
"""Share of the pairs whose fake is of a generator of the packs."""
WEIGHTS = {"twin-melgan": 10.0, "twin-world": 2.0}
"""How often a way of making twins is drawn; 0.25 for those that are not named.

Under-trained and simple vocoders roughen phase and pauses, well-trained ones clean them: drawn as
often, the former taught that clean speech is real, and unseen generators were found less often
than by chance (see EXPERIMENTS.md).
"""


class PairBatches(Dataset):
    """Item i is the whole batch of step i, drawn from seed (seed, i): the same at every run.

    A batch is {"sound": float32 [2 * pairs, 64000], "label": float32 [2 * pairs], "speaker":
    list of the real speakers, one a pair}; reals come first, item p + pairs is the fake of p.
    """

    def __init__(
        self, utterances: Sequence[Utterance], pairs: int, steps: int, seed: int = 0
    ) -> None:
        self.pairs, self.steps, self.seed = pairs, steps, seed
        real = [item for item in utterances if item.label == 0]
        self.reals = _by_source(real)
        self.fakes = _by_source([item for item in utterances if item.label == 1 and not item.twin])
        if not self.reals:
            raise ValueError("no real speech to train on")
        self.truths: dict[str, list[Utterance]] = {}
        for item in real:
            self.truths.setdefault(item.group, []).append(item)
        self.originals = {item.path: item for item in real}
        self.twins = _by_source([item for item in utterances if item.original in self.originals])

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
        if self.fakes and (not self.twins or rng.random() < FROM_PACKS):
            other = _draw(self.fakes, rng)
            truths = self.truths.get(other.group)
            item = truths[rng.integers(len(truths))] if truths else _draw(self.reals, rng)
        elif self.twins:
            other = self._twin(rng)
            item = self.originals[other.original]
        else:
            raise ValueError("no fakes to train on")
        version = int(rng.integers(len(item.versions)))
        both = [x.sound(min(version, len(x.versions) - 1)) for x in (item, other)]
        real, fake = cut_alike(both[0], both[1], rng)
        if other.twin and rng.random() < 0.15:
            fake = splice(real, fake, rng)
        journey = Journey.draw(rng, codecs=False)
        real, fake = (repeat_to(journey(sound), WINDOW_SAMPLES) for sound in (real, fake))
        return real, fake, item.speaker

    def _twin(self, rng: np.random.Generator) -> Utterance:
        """A way by its weight, then a source of real speech by the root of its size."""
        ways = [*self.twins]
        weights = np.array([WEIGHTS.get(way, 0.25) for way in ways])
        made = self.twins[ways[rng.choice(len(ways), p=weights / weights.sum())]]
        by_source: dict[str, list[Utterance]] = {}
        for item in made:
            by_source.setdefault(self.originals[item.original].source, []).append(item)
        return _draw(by_source, rng)


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
    twin: bool = False


def make_trials(utterances: Sequence[Utterance], twins_each: int = 2, seed: int = 0) -> list[Trial]:
    """The first 4 s of every utterance, and of up to `twins_each` twins of every real one."""
    trials: list[Trial] = []
    seen: dict[str, int] = {}
    for item in utterances:
        if item.original is not None:
            seen[item.original] = seen.get(item.original, 0) + 1
            if seen[item.original] > twins_each:
                continue
        # A twin walks as its original did: the journey is the group's.
        journey = Journey.draw(np.random.default_rng((seed, zlib.crc32(item.group.encode()))))
        sound = item.sound()[:WINDOW_SAMPLES]
        clean, travelled = (repeat_to(x, WINDOW_SAMPLES) for x in (sound, journey(sound)))
        trials.append(
            Trial(item.path, item.group, item.source, item.label, clean, travelled, item.twin)
        )
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
