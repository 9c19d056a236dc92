"""FakeAVCeleb v1.2 (Khalid et al. 2021, arXiv:2108.05080).

    ROOT/meta_data.csv
    ROOT/RealVideo-RealAudio/African/men/id00076/00109.mp4
    ROOT/FakeVideo-FakeAudio/African/men/id00076/00109_10_id00476_wavtolip.mp4, and so on

meta_data.csv has the header `source,target1,target2,method,category,type,race,gender,path,` whose
last name is empty: `path` is the file's name and the nameless column its folder, which begins with
"FakeAVCeleb/" whatever the folder is called on disk. Types and methods: RealVideo-RealAudio (real);
RealVideo-FakeAudio (rtvc, the voice cloned); FakeVideo-RealAudio (faceswap, fsgan, wav2lip);
FakeVideo-FakeAudio (wav2lip alone or after faceswap or fsgan, over a cloned voice).

lip-sync label: wav2lip makes the mouth speak and rtvc exchanges the sound (1); faceswap and fsgan
over the real sound keep the mouth's own movement (0).

There is no published split. People (VoxCeleb2 ids, in the columns and in file names) were swapped
within one ethnicity and sex all round, so people are split, and a fake whose people fall on two
sides is put aside. The group is the person seen. Some files are listed twice, under two methods.
"""

from __future__ import annotations

import csv
import re
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

from training.manifest import DatasetError, Entry, Manifest, manifest, split_people

COLUMNS = ("source", "target1", "target2", "method", "type", "path")
TYPE = re.compile(r"(Real|Fake)Video-(Real|Fake)Audio")
PERSON = re.compile(r"id\d{5}")


def prepare(root: Path) -> Manifest:
    """The manifest of the clips that `root/meta_data.csv` lists."""
    entries = list(_clips(root))
    sides = split_people([entry.people for entry in entries])
    note = f"{sides.count('aside')} fakes of people on two sides are put aside."
    entries = [replace(e, split=side) for e, side in zip(entries, sides, strict=True)]
    return manifest("fakeavceleb", root, entries, [note])


def _clips(root: Path) -> Iterator[Entry]:
    listed = root / "meta_data.csv"
    if not listed.is_file():
        raise DatasetError(
            f"{root} does not look like FakeAVCeleb: expected meta_data.csv and folders such as "
            "RealVideo-RealAudio."
        )
    with listed.open(newline="", encoding="utf-8-sig") as file:
        reader = csv.DictReader(file)
        if not {*COLUMNS, ""} <= set(reader.fieldnames or ()):
            raise DatasetError(
                f"{listed} needs the columns {', '.join(COLUMNS)} and a nameless last one with the "
                "clip's folder."
            )
        for row in reader:
            kind = TYPE.fullmatch(row["type"])
            if kind is None:
                raise DatasetError(
                    f"{listed}: {row['type']!r} is no type such as FakeVideo-RealAudio."
                )
            picture, sound = (int(word == "Fake") for word in kind.groups())
            spoken = sound or "wav2lip" in row["method"]
            names = " ".join((row["source"], row["target1"], row["target2"], row["path"]))
            people = tuple(dict.fromkeys((row["source"], *PERSON.findall(names))))
            yield Entry(
                path=f"{row[''].removeprefix('FakeAVCeleb/').strip('/')}/{row['path']}",
                label=int(picture or sound),
                visual=picture,
                audio=sound,
                lipsync=int(spoken),
                people=people,
                group=row["source"],
                method=row["method"] if picture or sound else "",
            )
