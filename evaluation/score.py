"""Score the clips of a manifest and print log-loss and AUC, fused and per modality.

    python -m evaluation.score clips.csv --root FOLDER --out scores.csv

The manifest is CSV (or TSV by its ending) with `path` (relative to --root) and `label` (0/1 or
real/fake); optional are `group` (the person: intervals are drawn over these) and `label_visual`,
`label_audio`, `label_lipsync`, each modality's own truth. A branch without a label of its own is
measured against `label` and marked so. Rows already in `scores.csv` are not scored again. Clips
that get no probability are counted and listed, never given one.
"""

from __future__ import annotations

import argparse
import csv
from pathlib import Path

import numpy as np
import pandas as pd

from avfake.detector import Detector
from avfake.types import BRANCHES, Prediction
from evaluation.metrics.classification import PRIOR_LOG_LOSS, auc, log_loss
from evaluation.metrics.intervals import grouped_interval

LABELS = {"real": 0, "fake": 1, "0": 0, "1": 1}
COLUMNS = (
    *("path", "status", "reason", "fake_probability"),
    *(f"{branch}_{what}" for branch in BRANCHES for what in ("status", "reason", "probability")),
    *("lipsync_offset_ms", "seconds", "bundle"),
)


def read_manifest(path: Path) -> pd.DataFrame:
    """The manifest with numeric labels; ValueError names what is missing or odd."""
    table = pd.read_csv(path, sep="\t" if path.suffix == ".tsv" else ",", dtype=str)
    for column in ("path", "label"):
        if column not in table:
            raise ValueError(f"{path} has no column {column!r}")
    for column in [c for c in table if c == "label" or c.startswith("label_")]:
        known = table[column].str.lower().map(LABELS)
        odd = table[column][known.isna() & table[column].notna()]
        if len(odd):
            raise ValueError(f"{path}: {column} holds {odd.iloc[0]!r}, not real/fake or 0/1")
        table[column] = known
    if table["path"].duplicated().any():
        raise ValueError(f"{path} lists {table['path'][table['path'].duplicated()].iloc[0]} twice")
    if "group" not in table:
        table["group"] = table["path"]
    return table


def score(manifest: pd.DataFrame, root: Path, detector: Detector, out: Path) -> pd.DataFrame:
    """Score what `out` does not hold yet; return all rows, joined to the manifest."""
    done: set[str] = set()
    if out.exists() and out.stat().st_size:
        rows = pd.read_csv(out, dtype={"path": str, "bundle": str})
        if not rows["bundle"].eq(detector.bundle.sha256).all():
            raise ValueError(f"{out} holds scores of other models: score into another file")
        done = set(rows["path"])
    with out.open("a", newline="") as file:
        writer = csv.DictWriter(file, COLUMNS)
        if not file.tell():
            writer.writeheader()
        for path in manifest["path"]:
            if path not in done:
                writer.writerow(_row(path, detector.predict(root / path)))
                file.flush()
    return manifest.merge(pd.read_csv(out), on="path", validate="one_to_one")


def figures(scores: pd.DataFrame) -> pd.DataFrame:
    """One row a modality: clips, coverage, log-loss, AUC with 95 % interval over groups."""
    rows = []
    for name in ("fused", *BRANCHES):
        truth = scores["label"] if name == "fused" else scores.get(f"label_{name}")
        own = truth is not None
        truth = scores["label"] if truth is None else truth
        column = "fake_probability" if name == "fused" else f"{name}_probability"
        known = truth.notna() & scores[column].notna()
        row: dict[str, object] = {
            "modality": name,
            "against": "its own label" if own else "the clip's label",
            "clips": int(known.sum()),
            "coverage": float(known.sum() / max(1, truth.notna().sum())),
        }
        if known.any():
            label, value = truth[known].to_numpy(float), scores[column][known].to_numpy(float)
            low, high = (
                grouped_interval(label, value, scores["group"][known].to_numpy(), auc)
                if 0 < label.sum() < len(label)
                else (np.nan, np.nan)
            )
            row |= {
                "log_loss": log_loss(label, value),
                "auc": auc(label, value),
                "auc_low": low,
                "auc_high": high,
            }
        rows.append(row)
    return pd.DataFrame(rows)


def _row(path: str, prediction: Prediction) -> dict[str, object]:
    answer = prediction.to_dict()
    row: dict[str, object] = {
        "path": path,
        "status": prediction.status,
        "reason": prediction.reason,
        "fake_probability": prediction.fake_probability,
        "seconds": answer["seconds"].get("total"),
        "bundle": prediction.bundle["sha256"],
    }
    for branch, part in answer["branches"].items():
        row |= {
            f"{branch}_status": part["status"],
            f"{branch}_reason": part["reason"],
            f"{branch}_probability": part["fake_probability"],
        }
    row["lipsync_offset_ms"] = answer["branches"].get("lipsync", {}).get("offset_ms")
    return row


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("manifest", type=Path)
    parser.add_argument("--root", type=Path, required=True, help="what the paths are relative to")
    parser.add_argument("--out", type=Path, required=True)
    parser.add_argument(
        "--where", action="append", default=[], metavar="COLUMN=VALUE", help="only these rows"
    )
    parser.add_argument("--bundle", default="default")
    parser.add_argument("--face-model")
    options = parser.parse_args()
    detector = Detector.from_pretrained(options.bundle, options.face_model)
    manifest = read_manifest(options.manifest)
    for condition in options.where:
        column, _, value = condition.partition("=")
        if column not in manifest:
            parser.error(f"{options.manifest} has no column {column!r}")
        manifest = manifest[manifest[column] == value]
    if manifest.empty:
        parser.error("no row of the manifest is left to score")
    scores = score(manifest, options.root, detector, options.out)
    print(figures(scores).to_string(index=False, float_format=lambda v: f"{v:.3f}"))
    print(f"(0.5 for every clip would score a log-loss of {PRIOR_LOG_LOSS:.3f})")
    for _, row in scores[scores["status"] != "ok"].iterrows():
        print(f"no probability: {row['path']}: {row['reason']}")


if __name__ == "__main__":
    main()
