"""ASVspoof 5, track 1 (Wang et al. 2024, arXiv:2408.08739; README.txt of zenodo.org 14498691).

    ROOT/ASVspoof5.train.tsv, ASVspoof5.dev.track_1.tsv, ASVspoof5.eval.track_1.tsv
                                          (or in ROOT/ASVspoof5_protocols)
    ROOT/flac_T/T_0000000000.flac, ROOT/flac_D/..., ROOT/flac_E_eval/...

A line, its words separated by blanks whatever the name says: `T_4850 T_0000000000 F - - - AC3 A05
spoof -`, that is speaker, file, sex, codec, codec quality, codec seed, attack tag, attack, key and
a spare one. Parts that are not there are told and left out. Sound only: picture and lip-sync labels
are empty. The published split (dev becomes val, eval test) keeps speakers apart and is checked for
it.
"""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

from training.datasets.protocols import read_protocol, utterance
from training.manifest import DatasetError, Entry, Manifest, manifest

PARTS = {
    "ASVspoof5.train.tsv": ("train", "flac_T"),
    "ASVspoof5.dev.track_1.tsv": ("val", "flac_D"),
    "ASVspoof5.eval.track_1.tsv": ("test", "flac_E_eval"),
}


def prepare(root: Path) -> Manifest:
    """The manifest of the protocols at `root`, with the column `codec`."""
    places = {
        name: next(
            (p for p in (root / name, root / "ASVspoof5_protocols" / name) if p.is_file()), None
        )
        for name in PARTS
    }
    if not any(places.values()):
        raise DatasetError(
            f"{root} does not look like ASVspoof 5: expected ASVspoof5.train.tsv (or "
            "ASVspoof5_protocols/ASVspoof5.train.tsv) and flac_T."
        )
    notes = [f"There is no {name}: its part is left out." for name, at in places.items() if not at]
    entries = [entry for name, at in places.items() if at for entry in _utterances(name, at)]
    return manifest("asvspoof5", root, entries, notes)


def _utterances(name: str, protocol: Path) -> Iterator[Entry]:
    split, folder = PARTS[name]
    for speaker, file, _, codec, _, _, _, attack, key in read_protocol(protocol, 9):
        more = {"codec": "" if codec == "-" else codec}
        yield utterance(f"{folder}/{file}.flac", speaker, attack, key, split, more)
