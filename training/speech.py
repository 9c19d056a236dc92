"""Speech as the audio recipe sees it: who speaks, who is held out, and one store of all sounds.

`training.voices` fills a store: every utterance of the packs and of the clips' soundtracks (or of a
data set), the synthetic twins of the real ones, each as it is and once more through a codec.
"""

from __future__ import annotations

import re
import zlib
from collections import Counter
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass, replace
from itertools import pairwise
from pathlib import Path

import librosa
import numpy as np
import pandas as pd
import soundfile

from avfake.media import Clip
from avfake.speech import SpeechActivity
from avfake.types import SAMPLE_RATE, AvfakeError
from training.augment_sound import BIT_RATES, CODECS, through_codec
from training.manifest import open_prepared

LONGEST = 6 * SAMPLE_RATE
"""Samples of an utterance at most; what is longer is cut."""
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
    """One utterance; label 1 = fake.

    `versions`: int16 [n] each, 16 kHz, silence at both ends removed; first as it is, then through
    a codec. `original`: for a twin, the path of the real utterance that it was made from.
    """

    path: str
    group: str
    speaker: str
    source: str
    label: int
    versions: tuple[np.ndarray, ...]
    original: str | None = None

    @property
    def twin(self) -> bool:
        """Made here from a real utterance, rather than by a generator of the packs."""
        return self.original is not None

    def sound(self, version: int = 0) -> np.ndarray:
        """float32 [n] in [-1, 1]."""
        return self.versions[version].astype(np.float32) / 32767


def utterance(
    path: str, group: str, source: str, label: int, samples: np.ndarray, original: str | None = None
) -> Utterance:
    """Of float32 `samples` [n], with one coded version.

    A twin, its original and a pack's copy of it go through the same codec: they have one group.
    """
    samples = samples[:LONGEST]
    rng = np.random.default_rng(zlib.crc32(group.encode()))
    codec, rate = str(rng.choice([*CODECS])), int(rng.choice(BIT_RATES))
    level = samples * (10 ** rng.uniform(-1.0, -0.02) / (np.abs(samples).max() + 1e-6))
    coded = through_codec(level.astype(np.float32), codec, rate)
    speaker = speaker_of(source, group)
    versions = tuple(
        np.clip(np.rint(x * 32767), -32767, 32767).astype("<i2") for x in (samples, coded)
    )
    return Utterance(path, group, speaker, source, label, versions, original)


def read_packs(root: Path) -> list[Utterance]:
    """All utterances that `root/SOURCES.tsv` lists for training, in its order.

    Raises ValueError for a file that is not 16 kHz mono.
    """
    table = _table(root, ["speech"])
    utterances = []
    for path, label, group in zip(table["path"], table["label"], table["group"], strict=True):
        samples, rate = soundfile.read(root / path, dtype="float32")
        if rate != SAMPLE_RATE or samples.ndim != 1:
            raise ValueError(f"{path}: expected {SAMPLE_RATE} Hz mono, found {rate} Hz")
        # Packs differ in how much silence they leave; none may be known by it.
        samples, _ = librosa.effects.trim(samples, top_db=35)
        source = Path(path).parent.name
        utterances.append(utterance(path, group, source, int(label == "fake"), samples))
    return utterances


def read_soundtracks(root: Path, most: int = 4) -> list[Utterance]:
    """Speech of the real clips that `root/SOURCES.tsv` lists (kinds "talking" and "video").

    Other rooms, microphones and codecs than the speech packs have. A long sound is cut into
    `most` utterances at most; clips with less than 1.2 s of speech are left out.
    """
    table = _table(root, ["talking", "video"])
    utterances = []
    for path, group in zip(table["path"], table["group"], strict=True):
        with Clip(root / path) as clip:
            sound = clip.sound()
        if sound is None or SpeechActivity(sound).total < 1.2:
            continue
        samples, _ = librosa.effects.trim(sound.samples, top_db=35)
        source = "clip-" + path.split("/")[1]
        for turn, first in enumerate(range(0, len(samples), LONGEST)):
            piece = samples[first : first + LONGEST]
            if turn < most and len(piece) >= SAMPLE_RATE:
                utterances.append(utterance(f"{path}#{turn}", group, source, 0, piece))
    return utterances


def read_prepared(prepared: Path) -> Iterator[Utterance]:
    """Speech of a data set that `training.prepare --dataset` listed: its splits `train` and `val`.

    One utterance a file, the first six seconds of it; sound files and videos alike. The source of a
    fake is its method (the generator), of real speech the data set. Files whose sound nobody
    labelled, that cannot be read or hold less than a second are left out, and counted on stdout.
    Raises DatasetError where `prepared` is no such folder.
    """
    made = open_prepared(prepared)
    table = made.table
    table = table[table["label_audio"].notna() & table["split"].isin(["train", "val"])]
    left_out: Counter[str] = Counter()
    for row in table.itertuples(index=False):
        try:
            with Clip(made.root / row.path) as clip:
                sound = clip.sound()
        except AvfakeError as error:
            left_out[error.reason] += 1
            continue
        samples = np.zeros(0, np.float32) if sound is None else sound.samples
        samples, _ = librosa.effects.trim(samples[: 3 * LONGEST], top_db=35)
        if len(samples) < SAMPLE_RATE:
            left_out["too_short"] += 1
            continue
        label = int(row.label_audio)
        source = (row.method if label else "") or row.dataset
        found = utterance(row.path, row.group, source, label, samples)
        yield replace(found, speaker=row.group)
    if left_out:
        told = ", ".join(f"{count} {reason}" for reason, count in left_out.most_common())
        print(f"left out: {told}")


def _table(root: Path, kinds: list[str]) -> pd.DataFrame:
    table = pd.read_csv(root / "SOURCES.tsv", sep="\t", dtype=str)
    table = table[table["kind"].isin(kinds) & (table["split"] == "train")]
    return table if kinds == ["speech"] else table[table["label"] == "real"]


def speaker_of(source: str, group: str) -> str:
    """The person (or cloned voice) behind a group; two packs of one person share the name."""
    match = re.match(SPEAKERS.get(source, r"(.*)"), group)
    if match is None:
        raise ValueError(f"group {group!r} of {source!r} names no speaker")
    return match.group(1)


def write_store(utterances: Iterable[Utterance], folder: Path) -> int:
    """`folder/sounds.csv` and `folder/sounds.i16`, all versions of all utterances end to end.

    Returns how many utterances there were.
    """
    folder.mkdir(parents=True, exist_ok=True)
    rows, first = [], 0
    partial = folder / "sounds.partial"
    with partial.open("wb") as file:
        for item in utterances:
            counts = [len(version) for version in item.versions]
            fields = ("path", "group", "speaker", "source", "label", "original")
            row = {name: getattr(item, name) for name in fields}
            rows.append(row | {"first": first, "counts": " ".join(map(str, counts))})
            for version in item.versions:
                file.write(version.astype("<i2").tobytes())
            first += sum(counts)
    partial.rename(folder / "sounds.i16")
    pd.DataFrame(rows).to_csv(folder / "sounds.csv", index=False)
    return len(rows)


def read_store(folder: Path) -> list[Utterance]:
    """What `write_store` wrote; sounds are read from disk as they are used."""
    if not (folder / "sounds.csv").exists():
        raise FileNotFoundError(
            f"{folder} holds no sounds.csv: run python -m training.voices first"
        )
    text = {name: str for name in ("path", "group", "speaker", "source", "counts", "original")}
    table = pd.read_csv(folder / "sounds.csv", dtype=text, keep_default_na=False)
    flat = np.memmap(folder / "sounds.i16", dtype="<i2", mode="r")
    utterances = []
    for row in table.itertuples(index=False):
        ends = row.first + np.cumsum([0, *map(int, row.counts.split())])
        versions = tuple(flat[a:b] for a, b in pairwise(ends))
        utterances.append(
            Utterance(
                row.path, row.group, row.speaker, row.source, int(row.label), versions,
                row.original or None,
            )
        )  # fmt: skip
    return utterances


def hold_out(
    utterances: Sequence[Utterance], share: float = 0.2, seed: int = 0
) -> tuple[list[Utterance], list[Utterance]]:
    """(train, held out), split by speaker, `share` of the speakers of every source held out.

    A source with two speakers or more gives at least one to each side.
    """
    by_source: dict[str, set[str]] = {}
    for item in utterances:
        if not item.twin:
            by_source.setdefault(item.source, set()).add(item.speaker)
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
    train = [item for item in utterances if item.speaker not in held]
    return train, [item for item in utterances if item.speaker in held]
