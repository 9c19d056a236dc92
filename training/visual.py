"""The recipe of the visual branch: a face CNN trained on real faces and forgeries made of them.

    python -m training.prepare --data ROOT --out prepared
    python -m training.painters --prepared prepared --out runs/painters
    python -m training.visual --prepared prepared --painters runs/painters --out runs/visual

True fakes of the split `train`, which data sets such as DFDC have, are shown beside the
forgeries. Those of the splits `dev` and `val` are never trained on: half of their groups takes
part in choosing the best step, the other half is only reported.
"""

from __future__ import annotations

import argparse
import json
import sys
import zlib
from collections.abc import Callable
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import cv2
import numpy as np
import pandas as pd
import torch
from torch import Tensor, nn

from avfake.crops import face_crop
from avfake.models.visual import VisualNet
from training.checkpoints import load_state
from training.fakes.painter import Painters
from training.figures import figures
from training.loop import Schedule, fit
from training.manifest import hashed, held_out
from training.pretrained import IMAGENET, LITE0, pretrain
from training.runtime import Runtime
from training.visual_data import (
    KINDS,
    Faces,
    PairBatches,
    Studio,
    training_faces,
)

CHOSEN_BY = ("dev", "val")
"""Splits whose fakes choose the best step; a split `test` is never looked at."""


@dataclass(frozen=True)
class Recipe:
    """Model arguments, pairs a batch, schedule, held-out pairs scored while training.

    `start`: what the backbone's weights are before the first step (see `training.pretrained`),
    None for random ones. `soft`: labels are so far from 0 and 1.
    """

    model: dict[str, Any]
    schedule: Schedule
    pairs: int = 16
    watched: int = 192
    start: str | None = None
    soft: float = 0.02


CONFIGS = {
    # An hour or so on one core; 3.4 M parameters.
    "small": Recipe(
        {"backbone": LITE0, "size": 128, "dropout": 0.2},
        Schedule(steps=1500, lr=4e-4, warmup=50, weight_decay=0.02, evaluate_every=150),
        start=IMAGENET,
    ),
    # For a GPU and a real data set; --backbone, --size and --start choose any timm net.
    "big": Recipe(
        {"backbone": "convnextv2_tiny", "size": 256, "dropout": 0.2},
        Schedule(
            steps=40_000,
            lr=2e-4,
            warmup=1000,
            weight_decay=0.05,
            ema=0.999,
            evaluate_every=2000,
            workers=8,
        ),
        pairs=32,
        watched=2000,
    ),
    # Two steps, to see that everything holds together.
    "debug": Recipe(
        {
            "backbone": "resnet10t",
            "backbone_args": {"channels": [16, 16, 32, 32], "stem_width": 8},
            "size": 64,
        },
        Schedule(steps=2, warmup=1, evaluate_every=1, workers=0),
        pairs=4,
        watched=8,
    ),
}


@dataclass(frozen=True)
class Crops:
    """Crops to score: `faces` uint8 [n, size, size, 3]; `table` has a row for each, with path,
    group, source, label (fake = 1), clip and half ("choose" or "report" for true fakes).
    """

    faces: np.ndarray
    table: pd.DataFrame

    def where(self, keep: np.ndarray) -> Crops:
        """The crops for which bool `keep` [n] is true."""
        return Crops(self.faces[keep], self.table[keep].reset_index(drop=True))


def train(
    prepared: Path,
    out: Path,
    recipe: Recipe,
    painters: Path | None = None,
    runtime: Runtime | None = None,
) -> dict[str, Any]:
    """Train, then score held-out people and true fakes with the best weights.

    Writes best.safetensors, log.jsonl, heldout.csv and metrics.json into `out`; returns what
    metrics.json holds. Without `painters` (a folder that `training.painters` made) no forgery is
    painted by a decoder.
    """
    runtime = runtime or Runtime()
    faces = Faces.load(prepared)
    kept, size = training_faces(faces), recipe.model["size"]
    aside = held_out(kept.table["group"])
    fakes = faces.where((faces.table["split"] == "train") & (faces.table["label"] == 1))
    studio = Studio(
        kept.where(~aside),
        size,
        Painters(painters) if painters else None,
        fakes.where(~held_out(fakes.table["group"])),
    )
    mine = pseudo_crops(Studio(kept.where(aside), size, studio.painters))
    others = faces.table["split"].isin(CHOSEN_BY)
    theirs = true_crops(faces.where(others.to_numpy()), size)
    print(
        f"{len(kept)} usable real faces and {len(fakes)} true fakes; held out: "
        f"{int(aside.sum())} of {kept.table['group'][aside].nunique()} people; "
        f"{len(theirs.table)} crops of other splits",
        flush=True,
    )
    watched = mine.where(np.arange(len(mine.table)) < 2 * recipe.watched)
    early = theirs.table.groupby("clip").cumcount() < 3  # long clips need not be seen whole
    choose = theirs.where((early & (theirs.table["half"] == "choose")).to_numpy())

    torch.manual_seed(0)
    net = VisualNet(**recipe.model)
    if recipe.start:
        pretrain(net.backbone, recipe.model["backbone"], recipe.start)
    fit(
        net.to(memory_format=torch.channels_last),
        PairBatches(studio, recipe.pairs, recipe.schedule.batches(runtime.world)),
        pair_loss(recipe.soft),
        lambda model: watch(model, watched, choose),
        recipe.schedule,
        out,
        recipe.model,
        runtime,
    )
    if not runtime.chief:
        return {}
    state, config = load_state(out / "best.safetensors")
    best = VisualNet(**config).eval().to(runtime.device)
    best.load_state_dict(state)
    scored = pd.concat([scores(best, mine), scores(best, theirs)], ignore_index=True)
    columns = ["path", "group", "source", "label", "logit"]
    scored.to_csv(out / "heldout.csv", columns=columns, index=False)
    metrics = measure(scored)
    (out / "metrics.json").write_text(json.dumps(metrics, indent=2) + "\n")
    return metrics


def pair_loss(soft: float) -> Callable[[nn.Module, tuple[Tensor, Tensor]], Tensor]:
    """Binary cross-entropy of a batch (faces uint8 [N, H, W, 3], labels float32 [N]); labels are
    `soft` away from 0 and 1, since some forgeries can hardly be seen.
    """

    def loss(model: nn.Module, batch: tuple[Tensor, Tensor]) -> Tensor:
        faces, labels = batch
        logit, _ = model(faces)
        wanted = soft + (1 - 2 * soft) * labels
        return nn.functional.binary_cross_entropy_with_logits(logit.float(), wanted)

    return loss


def watch(model: nn.Module, pseudo: Crops, true: Crops) -> dict[str, float]:
    """Figures to choose a step by.

    "loss" is the log-loss on forgeries of held-out people plus 1 - AUC over clips of the choosing
    half of the true fakes: the first alone goes on falling while the net learns the forgeries'
    ways rather than fakes'. The AUC is taken within each source and then averaged, because a
    source with more fakes would otherwise reward a net for knowing the source. Without true fakes
    it is the log-loss alone.
    """
    mine = figures(scores(model, pseudo))
    auc = _auc_within_sources(_by_clip(scores(model, true)))
    told = {"loss": mine["log_loss"], "pseudo_log_loss": mine["log_loss"]}
    told |= {"pseudo_auc": mine["auc"]}
    if auc is not None:
        told |= {"loss": round(mine["log_loss"] + 1 - auc, 4), "dev_clip_auc": auc}
    return told


def pseudo_crops(studio: Studio) -> Crops:
    """Every face of the studio and a forgery of it, in a fixed order without meaning: half of the
    clips and pictures as the files are, half augmented as in training. All frames of a clip are
    forged and worn alike, so that a clip's scores are those of one fake video.
    """
    order = np.random.default_rng(0).permutation(len(studio.faces))
    kinds, odds = list(KINDS), list(KINDS.values())
    crops, rows = [], []
    for index in order.tolist():
        face = studio.faces.table.iloc[index]
        rng = np.random.default_rng([1, zlib.crc32(face["clip"].encode())])
        kind, strength = str(rng.choice(kinds, p=odds)), rng.uniform(0.3, 1.0)
        crops += studio.pair(index, rng, strength, kind, augmented=rng.random() < 0.5)
        row = {"path": face["path"], "group": face["group"], "clip": face["clip"], "half": ""}
        rows += [row | {"source": face["source"], "label": 0}, row | {"source": kind, "label": 1}]
    return Crops(np.stack(crops), pd.DataFrame(rows))


def true_crops(faces: Faces, size: int) -> Crops:
    """The faces as inference cuts them, real and fake; half of the groups is to choose by."""
    read = (faces.read(index) for index in range(len(faces)))
    crops = [face_crop(face.picture, face.box, size) for face in read]
    table = faces.table[["path", "group", "clip", "label"]].copy()
    table["source"] = "dev-" + faces.table["source"].str.removeprefix("dev/")
    table["half"] = [("choose", "report")[hashed(group, 2)] for group in table["group"]]
    empty = np.empty((0, size, size, 3), np.uint8)
    return Crops(np.stack(crops) if crops else empty, table)


@torch.inference_mode()
def scores(model: nn.Module, crops: Crops) -> pd.DataFrame:
    """The crops' table with a column `logit`."""
    device = next(model.parameters()).device
    batches = torch.from_numpy(crops.faces).split(64)
    logits = [model(batch.to(device))[0].cpu().numpy() for batch in batches if len(batch)]
    return crops.table.assign(logit=np.concatenate(logits) if logits else np.empty(0))


def measure(scored: pd.DataFrame) -> dict[str, Any]:
    """log_loss, auc and n: forgeries of held-out people, all and by kind (against all real crops);
    true fakes, all, by half, by source, and by clip (the mean logit of a clip's crops).
    """
    dev = scored["source"].str.startswith("dev-")
    pseudo, true = scored[~dev], scored[dev]
    real = pseudo[pseudo["label"] == 0]
    kinds = pseudo[pseudo["label"] == 1].groupby("source")
    clips = _by_clip(true)
    return {
        "pseudo": figures(pseudo),
        "pseudo_by_kind": {kind: figures(pd.concat([real, rows])) for kind, rows in kinds},
        "dev": figures(true),
        "dev_by_half": {half: figures(rows) for half, rows in true.groupby("half")},
        "dev_by_source": {source: figures(rows) for source, rows in true.groupby("source")},
        "dev_by_clip": figures(clips),
        "dev_by_clip_within_sources": {"auc": _auc_within_sources(clips), "n": len(clips)},
        "dev_by_clip_and_half": {half: figures(rows) for half, rows in clips.groupby("half")},
    }


def _by_clip(scored: pd.DataFrame) -> pd.DataFrame:
    """One row a clip (or still picture), with the mean logit of its crops."""
    return scored.groupby(["clip", "label", "half", "source"], as_index=False)["logit"].mean()


def _auc_within_sources(clips: pd.DataFrame) -> float | None:
    """Mean AUC over the sources that hold both classes, each weighing as much as its smaller one;
    None where no source does.
    """
    aucs, weights = [], []
    for _, rows in clips.groupby("source"):
        smaller = rows["label"].value_counts().reindex([0, 1], fill_value=0).min()
        if smaller:
            aucs.append(figures(rows)["auc"])
            weights.append(smaller)
    return round(float(np.average(aucs, weights=weights)), 4) if aucs else None


def main() -> None:
    parser = argparse.ArgumentParser(
        prog="python -m training.visual", description=__doc__.splitlines()[0]
    )
    parser.add_argument("--prepared", type=Path, required=True, help="folder with faces.csv")
    parser.add_argument("--out", type=Path, required=True, help="folder to write, or to resume")
    parser.add_argument("--painters", type=Path, help="folder that training.painters made")
    parser.add_argument("--config", choices=sorted(CONFIGS), default="small")
    parser.add_argument("--steps", type=int, help="instead of the configuration's")
    parser.add_argument("--backbone", help="any timm backbone, instead of the configuration's")
    parser.add_argument("--size", type=int, help="side of the crops in pixels, likewise")
    parser.add_argument("--pairs", type=int, help="real and fake faces a batch, likewise")
    parser.add_argument(
        "--start", help="the backbone's first weights: imagenet, none, or a safetensors file"
    )
    Runtime.add_arguments(parser)
    options = parser.parse_args()
    cv2.setNumThreads(1)
    recipe = chosen(CONFIGS[options.config], options)
    try:
        with Runtime.from_options(options).started() as runtime:
            metrics = train(options.prepared, options.out, recipe, options.painters, runtime)
    except (FileNotFoundError, ModuleNotFoundError, ValueError) as error:
        sys.exit(f"training.visual: {error}")
    if metrics:
        print(json.dumps(metrics, indent=2))


def chosen(recipe: Recipe, options: argparse.Namespace) -> Recipe:
    """The recipe with what the command line says otherwise."""
    if options.steps:
        recipe = replace(recipe, schedule=replace(recipe.schedule, steps=options.steps))
    if options.backbone:
        # The arguments and weights were those of the configuration's own backbone.
        model = {k: v for k, v in recipe.model.items() if k != "backbone_args"}
        recipe = replace(recipe, model=model | {"backbone": options.backbone}, start=None)
    if options.size:
        recipe = replace(recipe, model=recipe.model | {"size": options.size})
    if options.pairs:
        recipe = replace(recipe, pairs=options.pairs)
    if options.start:
        recipe = replace(recipe, start=None if options.start == "none" else options.start)
    return recipe


if __name__ == "__main__":
    main()
