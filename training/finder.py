"""Distil a large face finder into the small one that ships.

    python -m training.finder --data PACKS --teacher yunet.onnx --out runs/finder

Score, box and points at every place of the grids are what the teacher answers there, on pictures
composed anew for every step (`training.finder_data`). People are held out by group, the dev split
as a whole. Afterwards the threshold is set on the people trained on, so that PRECISION of the finds
are the teacher's too; `metrics.json` holds it and tells what that does on the others.
"""

from __future__ import annotations

import argparse
import json
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import cv2
import numpy as np
import pandas as pd
import torch
from torch import Tensor, distributed, nn

from avfake.faces import FaceFinder, YuNetFinder, overlap, pick
from avfake.models.finder import FinderNet
from avfake.types import Detection
from training.checkpoints import load_state
from training.finder_data import LONGEST, Album, Scenes, Teacher, gather, is_held_out
from training.loop import Schedule, fit
from training.runtime import Runtime

SURE = 0.8  # score from which a face of the teacher must be found
FAINT = 0.5  # score from which what the teacher saw is no mistake
SMALLEST = 24  # pixels: smaller faces are neither asked for nor counted against
PRECISION = 0.985  # on training people; held-out ones give a little less
ENOUGH = 500  # pictures of a part to set the threshold by or to measure on
TRAINED = 14  # pixels: where the teacher saw a face smaller than this, anything goes


def loss(model: nn.Module, batch: tuple[Tensor, Tensor, Tensor]) -> Tensor:
    """Cross-entropy with the teacher's score at every place, and the error of boxes and points,
    in box sizes, where it saw a face; each in units of one sure place.
    """
    pictures, score, wanted = batch
    logit, found = model(pictures)
    size = (wanted[..., 2:4] - wanted[..., :2]).clamp(min=1)
    tiny = (score > 0.1) & (size.amin(-1) < TRAINED)
    sure = score.masked_fill(tiny, 0)
    weight = torch.where(sure > 0.2, sure, 0.0)
    count = weight.sum().clamp(min=8.0)
    entropy = nn.functional.binary_cross_entropy(score, score, reduction="none")
    surprise = nn.functional.binary_cross_entropy_with_logits(logit, score, reduction="none")
    wrong = (surprise - entropy).masked_fill(tiny, 0).sum()
    unit = size.prod(-1, keepdim=True).sqrt()
    error = nn.functional.smooth_l1_loss(found / unit, wanted / unit, reduction="none", beta=0.05)
    box = (1 - _overlap(found[..., :4], wanted[..., :4])) + error[..., :4].sum(-1)
    points = error[..., 4:].sum(-1)
    return (wrong + (weight * (box + 0.5 * points)).sum()) / count


def _overlap(one: Tensor, other: Tensor) -> Tensor:
    """Intersection over union of boxes, place by place."""
    sides = torch.minimum(one[..., 2:], other[..., 2:]) - torch.maximum(
        one[..., :2], other[..., :2]
    )
    both = sides.clamp(min=0).prod(-1)
    areas = [(box[..., 2:] - box[..., :2]).clamp(min=0).prod(-1) for box in (one, other)]
    return both / (areas[0] + areas[1] - both).clamp(min=1e-6)


@dataclass(frozen=True)
class Agreement:
    """Finds against the teacher's, counted: `wanted` sure faces, `met` ones of them, `finds`, and
    `wrong` ones where the teacher saw nothing."""

    wanted: int
    met: int
    finds: int
    wrong: int

    @property
    def recall(self) -> float:
        return self.met / max(1, self.wanted)

    @property
    def precision(self) -> float:
        return 1 - self.wrong / max(1, self.finds)


def compare(
    found: list[list[Detection]], teacher: list[list[Detection]], threshold: float
) -> Agreement:
    """Count over pictures; faces match from an overlap (IoU) of 0.5."""
    wanted = met = finds = wrong = 0
    for ours, theirs in zip(found, teacher, strict=True):
        kept = [face for face in ours if face.score >= threshold]
        for face in theirs:
            if face.score >= SURE and _side(face) >= SMALLEST:
                wanted += 1
                met += any(overlap(face.box, own.box) >= 0.5 for own in kept)
        for own in kept:
            if _side(own) >= SMALLEST:
                finds += 1
                wrong += not any(
                    face.score >= FAINT and overlap(face.box, own.box) >= 0.5 for face in theirs
                )
    return Agreement(wanted, met, finds, wrong)


def _side(face: Detection) -> float:
    return float(min(face.box[2:] - face.box[:2]))


@torch.inference_mode()
def look(
    model: nn.Module, teacher: Teacher, root: Path, table: pd.DataFrame
) -> tuple[list[list[Detection]], list[list[Detection]]]:
    """(the net's faces, the teacher's) in whole pictures, as inference would look at them."""
    found, theirs = [], []
    for path in table["path"]:
        picture = cv2.imread(str(root / path), cv2.IMREAD_COLOR_RGB)
        if picture is None:
            raise FileNotFoundError(f"cannot read the picture {root / path}")
        factor = min(LONGEST / max(picture.shape[:2]), 2.0)
        picture = cv2.resize(picture, None, fx=factor, fy=factor)
        bottom, right = (-side % 32 for side in picture.shape[:2])
        picture = cv2.copyMakeBorder(picture, 0, bottom, 0, right, cv2.BORDER_CONSTANT)[None]
        logit, places = model(torch.from_numpy(picture))
        found.append(pick(torch.sigmoid(logit[0]).numpy(), places[0].numpy(), 0.1))
        score, places = teacher.answer(picture)
        theirs.append(pick(score[0], places[0], 0.1))
    return found, theirs


def lowest_threshold(found: list[list[Detection]], teacher: list[list[Detection]]) -> float:
    """The lowest score at which PRECISION is reached, for the most faces at that precision."""
    for threshold in np.arange(0.2, 0.9, 0.01):
        if compare(found, teacher, threshold).precision >= PRECISION:
            return round(float(threshold), 2)
    return 0.9


def train(
    data: Path,
    finder: FaceFinder,
    teacher: Teacher,
    out: Path,
    schedule: Schedule,
    runtime: Runtime | None = None,
) -> dict[str, Any]:
    """Gather, train, set the threshold; return what `metrics.json` holds.

    finder: finds faces to compose with; teacher: says what is one in what was composed.
    """
    runtime = runtime or Runtime()
    pictures = out / "pictures"
    if runtime.chief:
        gather(data, pictures, finder)
    if runtime.world > 1:
        distributed.barrier()
    table = gather(data, pictures, finder)  # reads what is there
    aside = is_held_out(table)
    others = table[aside & (table["split"] != "dev")]
    checks = Scenes(Album.of(pictures, others), teacher, seed=1)
    batches = [checks[index] for index in range(8)]

    def evaluate(model: nn.Module) -> dict[str, float]:
        with torch.inference_mode():
            values = [loss(model, runtime.move(batch)).item() for batch in batches]
        return {"loss": float(np.mean(values))}

    torch.manual_seed(0)
    fit(
        FinderNet(),
        Scenes(Album.of(pictures, table[~aside]), teacher),
        loss,
        evaluate,
        schedule,
        out,
        config={},
        runtime=runtime,
    )
    return finish(teacher, pictures, table, out) if runtime.chief else {}


def finish(teacher: Teacher, pictures: Path, table: pd.DataFrame, out: Path) -> dict[str, Any]:
    """Set the threshold of the best weights and measure them, on the CPU as they will be used."""
    state, config = load_state(out / "best.safetensors")
    model = FinderNet(**config).eval()
    model.load_state_dict(state)
    aside = is_held_out(table)
    dev = (table["split"] == "dev").to_numpy()
    films = ~table["dataset"].str.startswith("faces/").to_numpy()
    parts = {"trained on": ~aside & films, "held out": aside & ~dev, "dev": dev}
    seen = {
        name: look(model, teacher, pictures, table[keep].iloc[:: 1 + keep.sum() // ENOUGH])
        for name, keep in parts.items()
    }
    threshold = lowest_threshold(*seen["trained on"])
    metrics: dict[str, Any] = {"side": LONGEST, "threshold": threshold}
    for name, (found, theirs) in seen.items():
        counted = compare(found, theirs, threshold)
        metrics[name] = {
            "pictures": len(found),
            "wanted": counted.wanted,
            "recall": round(counted.recall, 4),
            "finds": counted.finds,
            "precision": round(counted.precision, 4),
        }
    (out / "metrics.json").write_text(json.dumps(metrics, indent=2) + "\n")
    return metrics


def main() -> None:
    parser = argparse.ArgumentParser(
        prog="python -m training.finder", description=__doc__.splitlines()[0]
    )
    parser.add_argument("--data", type=Path, required=True, help="folder with SOURCES.tsv")
    parser.add_argument("--teacher", type=Path, required=True, help="YuNet, ONNX, any input size")
    parser.add_argument("--out", type=Path, required=True, help="folder to write, or to resume")
    parser.add_argument(
        "--steps", type=int, default=4000, help="of 16 small pictures or 3 large ones"
    )
    Runtime.add_arguments(parser)
    options = parser.parse_args()
    cv2.setNumThreads(1)
    schedule = Schedule(
        options.steps, lr=4e-3, warmup=100, weight_decay=1e-4, ema=0.998, evaluate_every=200,
        clip_norm=5.0,
    )  # fmt: skip
    finder = YuNetFinder(options.teacher, side=LONGEST)
    teacher = Teacher(options.teacher)
    with Runtime.from_options(options).started() as runtime:
        metrics = train(options.data, finder, teacher, options.out, schedule, runtime)
        print(json.dumps(metrics, indent=2))


if __name__ == "__main__":
    main()
