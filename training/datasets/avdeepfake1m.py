"""AV-Deepfake1M (Cai et al. 2024, arXiv:2311.15308) and AV-Deepfake1M++ (arXiv:2507.20579).

    ROOT/train_metadata.json, ROOT/val_metadata.json     lists; or folders train_metadata/ and
                                                         val_metadata/ with a JSON file a clip
    ROOT/train/..., ROOT/val/...                         (or train/train/..., as some unpack it)

An entry: {"file": "id00012/21Uxsk56VDQ/00001/fake_video_fake_audio.mp4", "original": the real
clip, "split": "train", "modify_type": "real", "audio_modified", "visual_modified" or
"both_modified", "audio_model": "yourtts", "video_model" (++ only), "fake_segments": [[start, end]]
in seconds, ...}. In ++ `file` begins with vox_celeb_2/id00012, lrs3/VIDEO or
silent_videos/subject_17_...: that tells the person (in lrs3 the YouTube video). Words are replaced,
by text to speech and a talking-face net: whatever is forged, lips and voice of the forged seconds
were not recorded together. Labels come from `modify_type`: the per-stream segment lists of the
first release name the other stream in some entries.

Test has no labels and is not read. Published train and val are drawn from one pool of subjects, so
`prepare` splits by person over both; `prepare_official` keeps them as published.
"""

from __future__ import annotations

import json
import re
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from training.manifest import DatasetError, Entry, Manifest, manifest

FORGED = {
    "real": (0, 0),
    "visual_modified": (1, 0),
    "audio_modified": (0, 1),
    "both_modified": (1, 1),
}
PERSON = re.compile(r"(?:vox_celeb_2/)?(id\d+)/|(lrs3/[^/]+)/|silent_videos/(subject_\d+)_")


def prepare(root: Path) -> Manifest:
    """The manifest with splits by person."""
    return manifest("avdeepfake1m", root, _clips(root, official=False))


def prepare_official(root: Path) -> Manifest:
    """The manifest with train and val as published; a note tells how many people are in both."""
    return manifest("avdeepfake1m", root, _clips(root, official=True), apart=False)


def _clips(root: Path, official: bool) -> Iterator[Entry]:
    listed = [
        (split, source)
        for split in ("train", "val")
        for source in (root / f"{split}_metadata.json", root / f"{split}_metadata")
        if source.exists()
    ]
    if not listed:
        raise DatasetError(
            f"{root} does not look like AV-Deepfake1M: expected train_metadata.json or "
            "val_metadata.json and the folders train and val."
        )
    for split, source in listed:
        nested = root / split / split
        folder = f"{split}/{split}" if nested.is_dir() else split
        try:
            for clip in _facts(source):
                yield _entry(clip, folder, split if official else "")
        except (ValueError, KeyError, TypeError):
            raise DatasetError(
                f"{source} is not AV-Deepfake1M's: expected clips with file, modify_type and "
                "fake_segments."
            ) from None


def _facts(source: Path) -> Iterator[dict[str, Any]]:
    if source.is_file():
        yield from json.loads(source.read_text())
    else:
        for file in sorted(source.rglob("*.json")):
            yield json.loads(file.read_text())


def _entry(clip: dict[str, Any], folder: str, split: str) -> Entry:
    picture, sound = FORGED[clip["modify_type"]]
    found = PERSON.match(clip["file"])
    # The folder of a clip of an unknown kind is the best guess: its real clip is in it as well.
    person = next(filter(None, found.groups())) if found else clip["file"].rpartition("/")[0]
    models = [clip.get("video_model"), clip.get("audio_model")]
    forged = picture | sound
    return Entry(
        path=f"{folder}/{clip['file']}",
        label=forged,
        visual=picture,
        audio=sound,
        lipsync=forged,
        segments=tuple((float(start), float(end)) for start, end in clip["fake_segments"] or ()),
        people=(person.replace(" ", "_"),),
        split=split,
        method=("+".join(filter(None, models)) or clip["modify_type"]) if forged else "",
    )
