"""ASVspoof 2019, logical access (Wang et al. 2020, arXiv:1911.01601; README.LA.txt of the release).

    ROOT/ASVspoof2019_LA_cm_protocols/ASVspoof2019.LA.cm.train.trn.txt, and dev.trl, eval.trl
    ROOT/ASVspoof2019_LA_train/flac/LA_T_1138215.flac, and the same of dev and eval

ROOT is the folder LA or the one above. A protocol's line: `LA_0079 LA_T_1138215 - - bonafide`,
that is speaker, file, a column of the other track, attack (A01 to A19) and bonafide or spoof. Sound
only: picture and lip-sync labels are empty. The published split (dev becomes val, eval test) keeps
speakers apart and is checked for it; eval has attacks that train has not.
"""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

from training.datasets.protocols import read_protocol, utterance
from training.manifest import DatasetError, Entry, Manifest, manifest

PROTOCOLS = {
    "train": ("train", "train.trn"),
    "dev": ("val", "dev.trl"),
    "eval": ("test", "eval.trl"),
}
FOLDER = "ASVspoof2019_LA_cm_protocols"


def prepare(root: Path) -> Manifest:
    """The manifest of the three protocols at `root`."""
    la = root / "LA" if (root / "LA" / FOLDER).is_dir() else root
    if not (la / FOLDER).is_dir():
        raise DatasetError(
            f"{root} does not look like ASVspoof 2019 LA: expected {FOLDER} and "
            "ASVspoof2019_LA_train/flac."
        )
    return manifest("asvspoof2019", root, _utterances(root, la))


def _utterances(root: Path, la: Path) -> Iterator[Entry]:
    above = "" if la == root else "LA/"
    for part, (split, name) in PROTOCOLS.items():
        protocol = la / FOLDER / f"ASVspoof2019.LA.cm.{name}.txt"
        for speaker, file, _, attack, key in read_protocol(protocol, 5):
            path = f"{above}ASVspoof2019_LA_{part}/flac/{file}.flac"
            yield utterance(path, speaker, attack, key, split)
