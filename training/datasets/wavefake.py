"""WaveFake (Frank & Schönherr 2021, arXiv:2111.02813; zenodo.org/records/5642694).

    ROOT/generated_audio/ljspeech_melgan/LJ008-0217_gen.wav     (or the folders in ROOT itself)
    ROOT/generated_audio/ljspeech_hifiGAN/LJ008-0217_generated.wav, ljspeech_waveglow/LJ008-0217.wav
    ROOT/generated_audio/jsut_parallel_wavegan/BASIC5000_0001_gen.wav
    ROOT/generated_audio/common_voices_prompts_from_conformer_fastspeech2_pwg_ljspeech/gen_0.wav
    ROOT/LJSpeech-1.1/wavs/LJ008-0217.wav                       the real speech, published apart
    ROOT/jsut_ver1.1/basic5000/wav/BASIC5000_0001.wav

Sound only: picture and lip-sync labels are empty. There are two speakers in all, one for each
language, so no split can keep speakers apart and none is published. What is kept apart is the
recording: an LJSpeech book (LJ008) or a JSUT sentence goes with all that vocoders made of it to one
split. A net that does well here may only know two voices: judge it on another set.
"""

from __future__ import annotations

import re
from collections.abc import Iterator
from pathlib import Path

from training.manifest import DatasetError, Entry, Manifest, manifest

REAL = ("LJSpeech-1.1/wavs", "jsut_ver1.1/basic5000/wav")
GENERATORS = ("ljspeech_*", "jsut_*", "common_voices_*")
RECORDING = re.compile(r"(LJ\d{3})-\d{4}|(BASIC5000_\d{4})")


def prepare(root: Path) -> Manifest:
    """The manifest of generated and, where it is there, real speech."""
    above = root / "generated_audio" if (root / "generated_audio").is_dir() else root
    folders = sorted(
        folder
        for pattern in GENERATORS
        for folder in above.glob(pattern)
        if folder.is_dir() and not folder.name.startswith("jsut_ver")
    )
    if not folders:
        raise DatasetError(
            f"{root} does not look like WaveFake: expected generated_audio with folders such as "
            "ljspeech_melgan and jsut_parallel_wavegan."
        )
    real = [root / place for place in REAL if (root / place).is_dir()]
    notes = []
    if not real:
        notes.append(f"There is no real speech: put LJSpeech at {root / REAL[0]}.")
    entries = [e for fake, all_of in ((0, real), (1, folders)) for e in _files(root, all_of, fake)]
    return manifest("wavefake", root, entries, notes)


def _files(root: Path, folders: list[Path], fake: int) -> Iterator[Entry]:
    for folder in folders:
        for file in sorted(folder.glob("*.wav")):
            match = RECORDING.match(file.name)
            recording = match[1] or match[2] if match else f"{folder.name}/{file.stem}"
            yield Entry(
                path=file.relative_to(root).as_posix(),
                label=fake,
                audio=fake,
                people=(recording,),
                method=folder.name if fake else "",
            )
