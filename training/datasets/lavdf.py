"""LAV-DF (Cai et al. 2022, arXiv:2204.06228; github.com/ControlNet/LAV-DF).

    ROOT/metadata.json        (or metadata.min.json, the same without transcripts)
    ROOT/train/000001.mp4, ROOT/dev/..., ROOT/test/...

metadata.json is a list of {"file": "train/000001.mp4", "split": "train", "original": null or the
file it was made from, "modify_video": true, "modify_audio": false, "n_fakes": 1, "fake_periods":
[[start, end]] in seconds, "duration", ...}. Words are replaced within VoxCeleb2 clips: the sound by
text to speech, the mouth by Wav2Lip, or both. So whatever is forged, lips and voice of the forged
seconds were not recorded together.

The published split is kept (dev becomes val). metadata.json names no people: clips are tied through
`original` alone, which is what is checked; who speaks in two originals nobody can tell from it.
"""

from __future__ import annotations

import json
from collections.abc import Iterator
from pathlib import Path

from training.manifest import DatasetError, Entry, Manifest, manifest

SPLITS = {"train": "train", "dev": "val", "test": "test"}


def prepare(root: Path) -> Manifest:
    """The manifest of the clips that `root`'s metadata lists."""
    for name in ("metadata.json", "metadata.min.json"):
        if (root / name).is_file():
            return manifest("lavdf", root, _clips(root / name))
    raise DatasetError(
        f"{root} does not look like LAV-DF: expected metadata.json and the folders train, dev and "
        "test."
    )


def _clips(listed: Path) -> Iterator[Entry]:
    try:
        for clip in json.loads(listed.read_text()):
            picture, sound = int(clip["modify_video"]), int(clip["modify_audio"])
            file, original = clip["file"], clip.get("original")
            if original and "/" not in original:
                original = f"{file.partition('/')[0]}/{original}"
            yield Entry(
                path=file,
                label=picture | sound,
                visual=picture,
                audio=sound,
                lipsync=picture | sound,
                segments=tuple((float(start), float(end)) for start, end in clip["fake_periods"]),
                people=(original or file,),
                split=SPLITS[clip["split"]],
                method=("", "tts", "wav2lip", "wav2lip-tts")[2 * picture + sound],
            )
    except (ValueError, KeyError, TypeError, AttributeError):
        raise DatasetError(
            f"{listed} is not LAV-DF's: expected a JSON list of clips with file, split, "
            "modify_video, modify_audio and fake_periods."
        ) from None
