"""What is judged and what was answered: manifests and score tables, read and checked.

A *manifest* lists clips with their truth, a row each (MANIFEST says what the columns mean). It is a
CSV, TSV or Parquet file, or a DFDC `metadata.json`, alone, in a folder or in a zip such as
`train_sample_videos.zip`.

A *score table* holds what a detector answered (SCORES): Parquet or CSV with a row a clip, as
`evaluation.score` writes it; or of any other detector a CSV `path,branch,fake_probability`, where
`branch` is fused, visual, audio or lipsync. Metrics and reports read these two and nothing else.
"""

from __future__ import annotations

import io
import json
import zipfile
from pathlib import Path

import numpy as np
import pandas as pd

from avfake.types import BRANCHES

LABELS = ("label", "label_visual", "label_audio", "label_lipsync")
MODALITIES = ("fused", *BRANCHES)
MANIFEST = {
    "path": "the file, with slashes, below a folder that is named apart",
    "label": "1 (or fake) where anything in the clip is forged, 0 (or real) where nothing is",
    "label_visual": "the same of the picture; empty where nobody knows",
    "label_audio": "the same of the sound",
    "label_lipsync": "1 where lips and voice were not recorded together",
    "segments": "JSON list of [start, end], forged seconds; [] is all of a fake, none of a real",
    "group": "whom the clip shows: intervals and folds go by people; the path, where unknown",
    "split": "train, val, test, dev, or empty",
    "dataset": "the data set's name, or empty",
    "method": "what forged it, or empty",
    "offset_ms": "how late the sound is against the lips, in milliseconds, where it was shifted",
}
SCORES = {
    "path": str,
    "status": str,
    "reason": str,
    "fake_probability": float,
    "verdict": str,
    **{
        f"{branch}_{what}": float if what in ("logit", "probability") else str
        for branch in BRANCHES
        for what in ("status", "reason", "logit", "probability", "windows")
    },
    **{f"without_{branch}": float for branch in BRANCHES},
    "lipsync_offset_ms": float,
    "segments": str,
    "duration": float,
    "width": float,
    "height": float,
    "fps": float,
    "seconds": float,
    "bundle": str,
}
"""Column to type. `{branch}_windows` and `segments` are JSON, as in `Prediction.to_dict`;
`without_{branch}` is the fused probability had that branch been absent; empty text and NaN stand
for what is not there."""
_WORDS = {"real": 0.0, "fake": 1.0, "0": 0.0, "1": 1.0, "0.0": 0.0, "1.0": 1.0}


class TableError(ValueError):
    """A table that is not of the form it should have; the message is one sentence for the user."""


def read_manifest(path: Path) -> pd.DataFrame:
    """The manifest with all columns of MANIFEST: labels float (0, 1, NaN unknown), `segments` lists
    of (start, end), the rest text; `offset_ms`, float, only where the file has it. Further columns
    stay. Raises TableError.
    """
    table = _dfdc(path) if _is_dfdc(path) else _table(path)
    if "path" not in table:
        raise TableError(f"{path} has no column 'path'.")
    if "label" not in table:
        raise TableError(f"{path} has no column 'label'.")
    table["path"] = table["path"].fillna("").str.replace("\\", "/")
    twice = table["path"].duplicated()
    if (table["path"] == "").any():
        raise TableError(f"{path} has a row without a path.")
    if twice.any():
        raise TableError(f"{path} lists {table['path'][twice].iloc[0]} twice.")
    for column in LABELS:
        table[column] = _labels(table[column], path) if column in table else np.nan
    for column in ("group", "split", "dataset", "method"):
        table[column] = table[column].fillna("").astype(str) if column in table else ""
    table["group"] = table["group"].where(table["group"] != "", table["path"])
    if "offset_ms" in table:
        table["offset_ms"] = _numbers(table["offset_ms"], "offset_ms", path)
    texts = table["segments"].fillna("") if "segments" in table else pd.Series("", table.index)
    table["segments"] = texts.map(lambda text: _segments(text, path))
    return table


def select(manifest: pd.DataFrame, conditions: list[str]) -> pd.DataFrame:
    """The rows where every "COLUMN=VALUE" holds, labels in any of their forms. Raises TableError
    where none is left."""
    if manifest.empty:
        raise TableError("The manifest lists no clips.")
    for condition in conditions:
        column, equals, value = condition.partition("=")
        if not equals:
            raise TableError(f"Rows are chosen by COLUMN=VALUE, not by {condition!r}.")
        if column not in manifest:
            raise TableError(f"The manifest has no column {column!r} to choose rows by.")
        if column in LABELS:
            fits = manifest[column] == _WORDS.get(value.lower())
        else:
            fits = manifest[column].astype(object).where(manifest[column].notna(), "") == value
        manifest = manifest[fits]
    if manifest.empty:
        raise TableError(f"No clip of the manifest has {' and '.join(conditions)}.")
    return manifest


def read_scores(path: Path) -> pd.DataFrame:
    """The score table with all columns of SCORES. Raises TableError."""
    table = _table(path)
    if {"path", "branch", "fake_probability"} <= set(table) and "status" not in table:
        table = _of_another_detector(table, path)
    for column in ("path", "fake_probability"):
        if column not in table:
            raise TableError(f"{path} has no column {column!r}.")
    if table["path"].duplicated().any():
        twice = table["path"][table["path"].duplicated()].iloc[0]
        raise TableError(f"{path} scores {twice} twice.")
    for column, kind in SCORES.items():
        if column not in table:
            table[column] = np.nan if kind is float else ""
        elif kind is float:
            table[column] = _numbers(table[column], column, path)
        else:
            table[column] = table[column].fillna("").astype(str)
    try:
        for text in table["segments"]:
            proposals_of(text)
    except TableError as error:
        raise TableError(f"{path}: {error}") from None
    for column in ("fake_probability", *(f"{branch}_probability" for branch in BRANCHES)):
        outside = ~table[column].isna() & ~table[column].between(0, 1)
        if outside.any():
            row = table[outside].iloc[0]
            raise TableError(f"{path}: {column} of {row['path']} is {row[column]}, not in [0, 1].")
    table["status"] = table["status"].where(
        table["status"] != "", np.where(table["fake_probability"].isna(), "abstain", "ok")
    )
    return table


def proposals_of(text: str) -> list[tuple[float, float, float]]:
    """`segments` of a score table as (start, end, fake probability); [] where there is nothing.
    Raises TableError."""
    try:
        return [
            (float(part["start"]), float(part["end"]), float(part["fake_probability"]))
            for part in json.loads(text or "[]")
        ]
    except (ValueError, TypeError, KeyError):
        raise TableError(
            f"segments are a JSON list of objects with start, end, fake_probability, not {text!r}."
        ) from None


def write_table(table: pd.DataFrame, path: Path) -> None:
    """As Parquet or, by its ending, CSV: whole or not at all. Raises TableError without pyarrow."""
    part = path.with_name(path.name + ".part")
    if path.suffix == ".parquet":
        try:
            table.to_parquet(part, index=False)
        except ImportError:
            raise _needs_pyarrow(path) from None
    else:
        table.to_csv(part, index=False)
    part.replace(path)


def join(scores: pd.DataFrame, manifest: pd.DataFrame) -> tuple[pd.DataFrame, list[str]]:
    """(a row for each clip of the manifest that was scored, paths of those that were not).

    What was answered (SCORES) is the scores', all else the manifest's where both have it; the
    scores' own `segments` become `found_segments`. Raises TableError where nothing fits.
    """
    answered = [column for column in SCORES if column not in ("path", "segments")]
    manifest = manifest.drop(columns=answered, errors="ignore")
    scores = scores.rename(columns={"segments": "found_segments"})
    answers = scores.drop(columns=[c for c in scores if c in manifest and c != "path"])
    both = manifest.merge(answers, on="path", validate="one_to_one")
    if both.empty:
        raise TableError(
            "No path of the manifest is among the scores: both must name files from one folder on."
        )
    return both, sorted(set(manifest["path"]) - set(scores["path"]))


def truth_of(table: pd.DataFrame, modality: str) -> tuple[pd.Series, bool]:
    """(labels of a modality, whether they are its own).

    A picture or voice that nobody labelled is measured against the clip's label, and whoever shows
    the figure has to say so. Where some clips are labelled, the others are left out (NaN).
    """
    if modality == "fused":
        return table["label"], True
    own = table[f"label_{modality}"]
    return (own, True) if own.notna().any() else (table["label"], False)


def probability_of(table: pd.DataFrame, modality: str) -> pd.Series:
    """What was answered for a modality: `fake_probability`, or the branch's."""
    return table["fake_probability" if modality == "fused" else f"{modality}_probability"]


def _table(path: Path) -> pd.DataFrame:
    if not path.is_file():
        raise TableError(f"There is no table {path}.")
    try:
        if path.suffix == ".parquet":
            return pd.read_parquet(path)
        # Somebody may well be called NA: only an empty cell is no value.
        separator = "\t" if path.suffix == ".tsv" else ","
        table = pd.read_csv(path, sep=separator, dtype=str, keep_default_na=False, compression=None)
        return table.replace("", np.nan)
    except ImportError:
        raise _needs_pyarrow(path) from None
    except (ValueError, OSError, pd.errors.ParserError) as error:
        raise TableError(f"{path} is no table: {str(error).splitlines()[0]}") from None


def _needs_pyarrow(path: Path) -> TableError:
    return TableError(f"{path}: Parquet needs pyarrow: pip install 'avfake[eval]'.")


def _is_dfdc(path: Path) -> bool:
    return path.is_dir() or path.suffix.lower() == ".zip" or path.name == "metadata.json"


def _dfdc(path: Path) -> pd.DataFrame:
    """A part of DFDC: {"a.mp4": {"label": "FAKE", "split": "train", "original": "b.mp4"}, ...}.

    A fake's group is its original: both show the same person. What is forged nobody says. Paths
    are below the folder that holds metadata.json, or in a zip the whole name of the member.
    """
    folder = ""
    try:
        if path.suffix.lower() == ".zip":
            with zipfile.ZipFile(path) as archive:
                (name,) = (n for n in archive.namelist() if n.split("/")[-1] == "metadata.json")
                folder = name.removesuffix("metadata.json")
                facts = json.load(io.TextIOWrapper(archive.open(name), "utf-8"))
        else:
            file = path / "metadata.json" if path.is_dir() else path
            facts = json.loads(file.read_text("utf-8"))
        rows = [
            {
                "path": folder + name,
                "label": fact["label"],
                "group": fact.get("original") or name,
                "split": "train" if fact.get("split") == "train" else "test",
                "dataset": "dfdc",
            }
            for name, fact in facts.items()
        ]
    except FileNotFoundError:
        raise TableError(f"{path} holds no metadata.json.") from None
    except OSError as error:
        raise TableError(f"{path} cannot be read: {error.strerror or error}.") from None
    except zipfile.BadZipFile:
        raise TableError(f"{path} is no zip, or a damaged one.") from None
    except (ValueError, KeyError, AttributeError, TypeError):
        raise TableError(f"{path} holds no metadata.json in the form of DFDC.") from None
    return pd.DataFrame(rows, columns=["path", "label", "group", "split", "dataset"])


def _of_another_detector(table: pd.DataFrame, path: Path) -> pd.DataFrame:
    odd = ~table["branch"].isin(MODALITIES)
    if odd.any():
        raise TableError(
            f"{path}: branch is {table['branch'][odd].iloc[0]!r}, not one of "
            f"{', '.join(MODALITIES)}."
        )
    if table.duplicated(["path", "branch"]).any():
        raise TableError(f"{path} scores a branch of a clip twice.")
    wide = table.pivot(index="path", columns="branch", values="fake_probability")
    wide = wide.reindex(columns=list(MODALITIES)).set_axis(
        ["fake_probability", *(f"{branch}_probability" for branch in BRANCHES)], axis=1
    )
    for branch in BRANCHES:
        there = wide[f"{branch}_probability"].notna()
        wide[f"{branch}_status"] = np.where(there, "ok", "absent")
    return wide.reset_index()


def _labels(column: pd.Series, path: Path) -> pd.Series:
    text = column.astype("string").str.strip().str.lower()
    known = text.map(_WORDS)
    odd = known.isna() & text.notna() & (text != "") & (text != "nan")
    if odd.any():
        raise TableError(
            f"{path}: {column.name} holds {column[odd].iloc[0]!r}, not real/fake or 0/1."
        )
    return known.astype(float)


def _numbers(column: pd.Series, name: str, path: Path) -> pd.Series:
    try:
        # Programs write "nan" for what is not there.
        text = column.where(column.astype("string").str.lower() != "nan")
        return pd.to_numeric(text).astype(float)
    except (ValueError, TypeError):
        raise TableError(f"{path}: {name} holds something that is no number.") from None


def _segments(text: object, path: Path) -> list[tuple[float, float]]:
    if isinstance(text, str) and not text:
        return []
    try:
        pairs = json.loads(text) if isinstance(text, str) else list(text)  # type: ignore[call-overload]
        found = [(float(start), float(end)) for start, end in pairs]
    except (TypeError, ValueError):
        raise TableError(
            f"{path}: segments are a JSON list of [start, end], not {text!r}."
        ) from None
    if any(not 0 <= start < end for start, end in found):
        raise TableError(f"{path}: a segment of {text!r} does not end after it starts.")
    return found
