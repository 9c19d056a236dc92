"""The data sets that `python -m training.prepare --dataset NAME ROOT OUT` knows.

Each is one file with `prepare(root) -> Manifest`; its docstring says what layout is expected, what
the labels mean and where both are described. Nothing is downloaded, nothing in ROOT is changed.
"""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

from training.datasets import (
    asvspoof5,
    asvspoof2019,
    asvspoof2021,
    avdeepfake1m,
    celebdf,
    dfdc,
    faceforensics,
    fakeavceleb,
    folder,
    lavdf,
    wavefake,
)
from training.manifest import Manifest

DATASETS: dict[str, Callable[[Path], Manifest]] = {
    "asvspoof2019": asvspoof2019.prepare,
    "asvspoof2021": asvspoof2021.prepare,
    "asvspoof5": asvspoof5.prepare,
    "avdeepfake1m": avdeepfake1m.prepare,
    "avdeepfake1m-official": avdeepfake1m.prepare_official,
    "celebdf": celebdf.prepare,
    "celebdf-official": celebdf.prepare_official,
    "dfdc": dfdc.prepare,
    "faceforensics": faceforensics.prepare,
    "fakeavceleb": fakeavceleb.prepare,
    "folder": folder.prepare,
    "lavdf": lavdf.prepare,
    "wavefake": wavefake.prepare,
}
"""Name -> prepare. `-official`: the published split, where that does not keep people apart."""
