"""FaceForensics++ (Rössler et al. 2019, arXiv:1901.08971), with the DeepFakeDetection clips in it.

As the download script lays it out (github.com/ondyari/FaceForensics, dataset/README.md), for each
compression that is there (raw, c23, c40):

    ROOT/original_sequences/youtube/c23/videos/000.mp4
    ROOT/manipulated_sequences/METHOD/c23/videos/000_003.mp4        video 000 with the face of 003
    ROOT/original_sequences/actors/c23/videos/01__exit_phone_room.mp4
    ROOT/manipulated_sequences/DeepFakeDetection/c23/videos/01_02__exit_phone_room__YVGY8LOK.mp4
    ROOT/splits/train.json, val.json, test.json   (or ROOT itself): [["720", "672"], ...]

METHOD: Deepfakes, Face2Face, FaceSwap, NeuralTextures, FaceShifter. Clips have no sound, so audio
and lip-sync labels are empty.

The published split (dataset/splits in that repository) is made of pairs that were swapped with one
another and keeps people apart. DeepFakeDetection has none, and its 28 actors were swapped all
round: they are split by actor, clips of actors on two sides are put aside, and the group is the
actor seen.
"""

from __future__ import annotations

import json
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

from training.manifest import DatasetError, Entry, Manifest, manifest, split_people

METHODS = ("Deepfakes", "Face2Face", "FaceSwap", "NeuralTextures", "FaceShifter")


def prepare(root: Path) -> Manifest:
    """The manifest of all clips at `root`, with the column `compression`."""
    splits = _published(root)
    filmed = list(_clips(root, "youtube", METHODS, ""))
    acted = list(_clips(root, "actors", ("DeepFakeDetection",), "actor-"))
    if not filmed and not acted:
        raise DatasetError(
            f"{root} does not look like FaceForensics++: expected "
            "original_sequences/youtube/c23/videos/000.mp4 and "
            "manipulated_sequences/Deepfakes/c23/videos/000_003.mp4, or the like."
        )
    notes = []
    if filmed and not splits:
        notes.append(
            "There is no train.json, val.json and test.json: the splits are made here and are not "
            "the published ones."
        )
    filmed = [replace(entry, split=splits.get(entry.people[0], "")) for entry in filmed]
    sides = split_people([entry.people for entry in acted])
    acted = [
        replace(entry, split=side, group=entry.people[0])
        for entry, side in zip(acted, sides, strict=True)
    ]
    return manifest("faceforensics", root, filmed + acted, notes)


def _clips(root: Path, real: str, methods: tuple[str, ...], prefix: str) -> Iterator[Entry]:
    """Entries of original_sequences/`real` and manipulated_sequences/`methods`, without splits."""
    for fake, kind, names in (
        (0, "original_sequences", (real,)),
        (1, "manipulated_sequences", methods),
    ):
        for name in names:
            for file in sorted((root / kind / name).glob("*/videos/*.mp4")):
                # 000, 000_003, 01__scene or 01_02__scene__code: who is seen, then whose face.
                numbers = file.stem.split("__")[0].split("_")
                yield Entry(
                    path=file.relative_to(root).as_posix(),
                    label=fake,
                    visual=fake,
                    people=tuple(prefix + number for number in numbers),
                    method=name if fake else "",
                    more={"compression": file.parent.parent.name},
                )


def _published(root: Path) -> dict[str, str]:
    """Video number -> split; empty unless all three files are there."""
    for folder in (root, root / "splits", root / "dataset" / "splits"):
        files = {split: folder / f"{split}.json" for split in ("train", "val", "test")}
        if all(file.is_file() for file in files.values()):
            try:
                return {
                    number: split
                    for split, file in files.items()
                    for pair in json.loads(file.read_text())
                    for number in pair
                }
            except (ValueError, TypeError):
                raise DatasetError(
                    f"{folder} holds no split of FaceForensics++: expected lists of pairs such as "
                    '[["720", "672"]] in train.json, val.json and test.json.'
                ) from None
    return {}
