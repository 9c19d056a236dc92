"""Celeb-DF v1 and v2 (Li et al. 2020, arXiv:1909.12962).

    ROOT/Celeb-real/id0_0000.mp4
    ROOT/Celeb-synthesis/id0_id1_0000.mp4     the video id0_0000 with the face of id1
    ROOT/YouTube-real/00000.mp4               one person each, in no fake
    ROOT/List_of_testing_videos.txt           "1 YouTube-real/00170.mp4", 1 = real, 0 = fake

(github.com/yuezunli/celeb-deepfakeforensics; copies with a folder videos/ within each are read as
well.) Clips have no sound worth a label: audio and lip-sync labels are empty.

The published test list shares celebrities with the clips that it leaves for training. So
`prepare` makes its own split by person: the celebrities (59 in v2) were swapped all round, and a
fake whose two people fall on two sides is put aside. `prepare_official` keeps the published list
(test, and everything else train) for figures that can be compared with papers; a net that saw its
train part knows the faces of its test part. The group is the person seen.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

from training.manifest import DatasetError, Entry, Manifest, manifest, split_people

FOLDERS = {"Celeb-real": 0, "YouTube-real": 0, "Celeb-synthesis": 1}
LIST = "List_of_testing_videos.txt"


def prepare(root: Path) -> Manifest:
    """The manifest with splits by person."""
    entries = list(_clips(root))
    sides = split_people([entry.people for entry in entries])
    note = (
        f"{sides.count('aside')} fakes of people on two sides are put aside; "
        "celebdf-official keeps the published test list, which shares its people with the rest."
    )
    entries = [replace(e, split=side) for e, side in zip(entries, sides, strict=True)]
    return manifest("celebdf", root, entries, [note])


def prepare_official(root: Path) -> Manifest:
    """The manifest with the published test list; a note tells how many people are in both."""
    listed = root / LIST
    if not listed.is_file():
        raise DatasetError(f"{root} has no {LIST}, which says what the published test clips are.")
    test = {line.split()[1] for line in listed.read_text().splitlines() if line.strip()}
    # A copy may have videos/ between folder and file; the list never has.
    entries = [
        replace(entry, split="test" if entry.path.replace("/videos/", "/") in test else "train")
        for entry in _clips(root)
    ]
    found = {entry.path.replace("/videos/", "/") for entry in entries}
    gone = len(test - found)
    notes = [f"{gone} clips of {LIST} are not there."] if gone else []
    return manifest("celebdf", root, entries, notes, apart=False)


def _clips(root: Path) -> Iterator[Entry]:
    files = {
        name: sorted((root / name).glob("*.mp4")) + sorted((root / name).glob("videos/*.mp4"))
        for name in FOLDERS
    }
    if not all(files[name] for name in ("Celeb-real", "Celeb-synthesis")):
        raise DatasetError(
            f"{root} does not look like Celeb-DF: expected Celeb-real/id0_0000.mp4, "
            "Celeb-synthesis/id0_id1_0000.mp4 and YouTube-real/00000.mp4."
        )
    for name, fake in FOLDERS.items():
        for file in files[name]:
            ids = tuple(part for part in file.stem.split("_") if part.startswith("id"))
            people = ids or (f"youtube-{file.stem}",)
            yield Entry(
                path=file.relative_to(root).as_posix(),
                label=fake,
                visual=fake,
                people=people,
                group=people[0],
                method="Celeb-synthesis" if fake else "",
            )
