"""ASVspoof 2021, logical access and deepfake (Liu et al. 2023, arXiv:2210.02437).

    ROOT/ASVspoof2021_LA_eval/flac/LA_E_9332881.flac
    ROOT/ASVspoof2021_DF_eval/flac/DF_E_2000026.flac      (parts may lie in folders of their own:
                                                          ASVspoof2021_DF_eval_part00/...)
    ROOT/keys/LA/CM/trial_metadata.txt, ROOT/keys/DF/CM/trial_metadata.txt   ("full keys"; also in
                                                          a folder of the archive's name)

A line of LA: `LA_0009 LA_E_9332881 alaw ita_tx A07 spoof notrim eval`, that is speaker, file,
codec, transmission, attack, key, trimming and phase; DF has the source corpus where LA has
transmission, and more columns at the end. One of the two tracks is enough. Sound only: picture and
lip-sync labels are empty.

All of it is published for evaluation (its training set is ASVspoof 2019's) and phases share
speakers, so every utterance is test. The extra columns `track`, `codec` and `phase` (progress, eval
or hidden) let the published figures be taken, which are on phase eval.
"""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

from training.datasets.protocols import read_protocol, utterance
from training.manifest import DatasetError, Entry, Manifest, manifest


def prepare(root: Path) -> Manifest:
    """The manifest of the tracks whose keys are at `root`."""
    keys = {track: _one_of(root, f"keys/{track}/CM/trial_metadata.txt") for track in ("LA", "DF")}
    if not any(keys.values()):
        raise DatasetError(
            f"{root} does not look like ASVspoof 2021 with its keys: expected "
            "ASVspoof2021_LA_eval/flac and keys/LA/CM/trial_metadata.txt, or the same of DF."
        )
    entries = [
        entry
        for track, protocol in keys.items()
        if protocol is not None
        for entry in _utterances(root, track, protocol)
    ]
    return manifest("asvspoof2021", root, entries)


def _one_of(root: Path, place: str) -> Path | None:
    """The file `place` in `root` or in a folder of it."""
    places = [root / place, *sorted(root.glob(f"*/{place}"))]
    return next((path for path in places if path.is_file()), None)


def _utterances(root: Path, track: str, protocol: Path) -> Iterator[Entry]:
    name = f"ASVspoof2021_{track}_eval"
    folders = [root / name / "flac", *sorted(root.glob(f"*/{name}/flac"))]
    where = {
        file.stem: folder.relative_to(root).as_posix()
        for folder in folders
        for file in folder.glob("*.flac")
    }
    for speaker, file, codec, _, attack, key, _, phase in read_protocol(protocol, 8):
        path = f"{where.get(file, f'{name}/flac')}/{file}.flac"
        more = {"track": track, "codec": codec, "phase": phase}
        yield utterance(path, speaker, attack, key, "test", more)
