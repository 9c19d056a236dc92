"""The recipe of the lip-sync branch: two towers that learn which sound goes with which mouth.

    python -m training.prepare --data ROOT --out prepared
    python -m training.lipsync --prepared prepared --init light_asd_ava.safetensors \
        --out runs/lipsync --bf16

Three stages, each resumable. `heads`: projections on the front-ends of `--init` as they are;
`towers`: all of it; both by contrast within a clip: a mouth must find its sound among those of
other times (InfoNCE, van den Oord et al. 2018). Then the judge of mismatch, on what the finished
towers see in pairs that belong together and pairs that do not.

`--init` takes the weights of Light-ASD (MIT licence, (c) 2023 Liao Junhua); without it the towers
start from nothing and the first stage is left out.
"""

from __future__ import annotations

import argparse
import json
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import torch
from safetensors.torch import load_file
from torch import Tensor
from torch.nn import functional as F
from torch.utils.data import Dataset

from avfake.models.lipsync import LipSyncNet, lag_map, lag_similarity, peak
from training.checkpoints import load_state
from training.lipsync_data import LATEST, ClipBatches, Tracks
from training.lipsync_trials import Trials, evaluate, make_trials
from training.loop import Schedule, fit
from training.runtime import Runtime, device_of

Batch = tuple[Tensor, Tensor, Tensor, Tensor]


@dataclass(frozen=True)
class Recipe:
    """Model arguments, schedules of the stages, clips a batch, pictures a clip, batches
    of held-out people watched, windows that the judge learns from.
    """

    model: dict[str, Any]
    heads: Schedule
    towers: Schedule
    judge: Schedule
    clips: int = 8
    frames: int = 64
    watched: int = 8
    windows: int = 800


SMALL_NET = {"size": 96, "dropout": 0.2, "shrink": 2}
CONFIGS = {
    # About half an hour on one core that has avx512_bf16; 1 M parameters.
    "small": Recipe(
        SMALL_NET,
        heads=Schedule(steps=100, lr=3e-3, warmup=20, ema=0.98, evaluate_every=50),
        towers=Schedule(steps=280, lr=5e-4, warmup=30, ema=0.98, evaluate_every=40),
        judge=Schedule(steps=1000, lr=3e-3, ema=0.99, evaluate_every=100, workers=0),
    ),
    # Two steps, to see that everything holds together.
    "debug": Recipe(
        SMALL_NET,
        heads=Schedule(steps=2, warmup=1, evaluate_every=1, workers=0),
        towers=Schedule(steps=2, warmup=1, evaluate_every=1, workers=0),
        judge=Schedule(steps=2, warmup=1, evaluate_every=1, workers=0),
        clips=2,
        watched=1,
        frames=32,
        windows=4,
    ),
}


def train(
    prepared: Path,
    out: Path,
    recipe: Recipe,
    init: Path | None = None,
    runtime: Runtime | None = None,
) -> dict[str, Any]:
    """Train, then score held-out people and dev clips with the best weights.

    Writes best.safetensors, heldout.csv and metrics.json into `out` (logs of the first stages into
    `out/heads`, `out/towers`); returns what metrics.json holds, nothing in processes other than
    the first.
    """
    runtime = runtime or Runtime()
    mine, aside, dev = Tracks.load(prepared).split()
    print(
        f"tracks: {len(mine)} to train on, {len(aside)} of held-out people, {len(dev)} dev",
        flush=True,
    )
    torch.manual_seed(0)
    # Channels last: the mouth tower's 2-D convolutions run twice as fast on a CPU.
    model = LipSyncNet(**recipe.model).to(memory_format=torch.channels_last)
    unseen = ClipBatches(aside, recipe.clips, recipe.frames, recipe.watched, seed=1000)
    watched = [unseen[index] for index in range(recipe.watched)]
    stages = [("towers", recipe.towers)]
    if init is not None:
        load_light_asd(model, init)
        stages.insert(0, ("heads", recipe.heads))
    for seed, (stage, schedule) in enumerate(stages):
        model.requires_grad_(True)
        for front in (model.mouth, model.sound):
            front.requires_grad_(stage == "towers")
        fit(
            model,
            ClipBatches(mine, recipe.clips, recipe.frames, schedule.batches(runtime.world), seed),
            contrast,
            lambda model: watch(model, watched),
            schedule,
            out / stage,
            recipe.model,
            runtime,
        )
        model.load_state_dict(load_state(out / stage / "best.safetensors")[0])

    learn = make_trials(model, mine, recipe.windows, worn=True)
    known = make_trials(model, aside, None, worn=False)
    model.requires_grad_(False)
    model.judge.requires_grad_(True)
    held_out = runtime.move((known.traits, known.labels))
    fit(
        model,
        TraitBatches(learn, recipe.judge.batches(runtime.world)),
        judge_loss,
        lambda model: {"loss": judge_loss(model, held_out).item()},
        recipe.judge,
        out,
        recipe.model,
        replace(runtime, bf16=False, compile=False),  # a few sums, quick as they are
    )
    if not runtime.chief:
        return {}
    best = LipSyncNet(**recipe.model).eval().to(runtime.device)
    best.load_state_dict(load_state(out / "best.safetensors")[0])
    metrics, scored = evaluate(best, known, aside, dev)
    scored.to_csv(out / "heldout.csv", index=False)
    (out / "metrics.json").write_text(json.dumps(metrics, indent=2) + "\n")
    return metrics


def load_light_asd(model: LipSyncNet, path: Path) -> None:
    """Fill both front-ends from Light-ASD's weights; raises KeyError where one is missing."""
    theirs = load_file(path)
    for tower, encoder, space in (
        (model.mouth, "visualEncoder", "s"),
        (model.sound, "audioEncoder", "m"),
    ):
        state = tower.state_dict()
        for name, mine in state.items():
            _, block, path_name, *rest = name.split(".")
            prefix = f"model.{encoder}.block{int(block) + 1}"
            if path_name == "mix":
                layer, (kind, field_name) = "last", rest
            else:
                width = (3, 5)[int(rest[0])]
                layer, (kind, field_name) = (
                    f"{space if path_name == 'space' else 't'}_{width}",
                    rest[1:],
                )
            full = f"{prefix}.{layer}" if kind == "0" else f"{prefix}.bn_{layer}"
            # Their 3-D kernels have an axis of length 1 that 2-D ones lack.
            state[name] = theirs[f"{full}.{field_name}"].reshape(mine.shape)
        tower.load_state_dict(state)


def contrast(model: LipSyncNet, batch: Batch) -> Tensor:
    """`info_nce` of a batch of `ClipBatches`. Sound keeps its precision under autocast: its power
    spectrum spans more than bfloat16 tells apart.

    Other clips give no negatives: their voices and faces can be told apart by who they are.
    """
    mouths, sound, lengths, late = batch
    shown = model.embed_mouths(mouths).float()
    with torch.autocast(sound.device.type, enabled=False):
        return info_nce(shown, model.embed_sound(sound), lengths, late, model.sharpness)


def info_nce(
    shown: Tensor, heard: Tensor, lengths: Tensor, late: Tensor, sharpness: Tensor
) -> Tensor:
    """Mean cross-entropy of finding the sound of a mouth among its clip's, and the other way.

    `shown`, `heard`: unit vectors [N, T, D]; `lengths` int64 [N]: frames from there on neither ask
    nor answer; `late` int64 [N]: shown t goes with heard t + late; `sharpness`: log of the inverse
    temperature.
    """
    frames = torch.arange(shown.shape[1], device=shown.device)
    counts = frames < lengths[:, None]
    pairs = shown @ heard.transpose(1, 2) * sharpness.exp().clamp(max=100.0)
    total = shown.new_zeros(())
    for table, shift in ((pairs, late), (pairs.transpose(1, 2), -late)):
        answer = frames + shift[:, None]
        asked = counts & (answer >= 0) & (answer < lengths[:, None])
        table = table.masked_fill(~counts[:, None], -torch.inf)
        total = total + F.cross_entropy(table[asked], answer[asked])
    return total / 2


@torch.no_grad()
def watch(model: LipSyncNet, batches: list[Batch]) -> dict[str, float]:
    """Held-out figures to choose a step by: the training loss ("loss"), and the share of clips
    whose best lag is at most one from how late the sound was made.
    """
    losses, hits = [], []
    for batch in batches:
        mouths, sound, lengths, late = (part.to(device_of(model)) for part in batch)
        shown, heard = model.embed_mouths(mouths), model.embed_sound(sound)
        losses.append(info_nce(shown, heard, lengths, late, model.sharpness).item())
        for clip, (length, truth) in enumerate(zip(lengths.tolist(), late.tolist(), strict=True)):
            part = shown[clip : clip + 1, :length], heard[clip : clip + 1, :length]
            offset, _ = peak(lag_similarity(lag_map(*part, min(LATEST, length - 1))))
            hits.append(float(abs(offset.item() - truth) <= 1))
    return {"loss": sum(losses) / len(losses), "within_one": sum(hits) / len(hits)}


class TraitBatches(Dataset[tuple[Tensor, Tensor]]):
    """Batch i of every run: 128 random rows of the trials' traits and their labels."""

    def __init__(self, trials: Trials, steps: int) -> None:
        self.trials, self.steps = trials, steps

    def __len__(self) -> int:
        return self.steps

    def __getitem__(self, step: int) -> tuple[Tensor, Tensor]:
        generator = torch.Generator().manual_seed(step)
        rows = torch.randint(len(self.trials.labels), (128,), generator=generator)
        return self.trials.traits[rows], self.trials.labels[rows]


def judge_loss(model: LipSyncNet, batch: tuple[Tensor, Tensor]) -> Tensor:
    """Binary cross-entropy of the judge on (traits [N, 8], labels [N], mismatch = 1)."""
    traits, labels = batch
    return F.binary_cross_entropy_with_logits(model.judge(traits).squeeze(1), labels)


def main() -> None:
    parser = argparse.ArgumentParser(
        prog="python -m training.lipsync", description=__doc__.splitlines()[0]
    )
    parser.add_argument("--prepared", type=Path, required=True, help="what training.prepare wrote")
    parser.add_argument("--out", type=Path, required=True)
    parser.add_argument("--init", type=Path, help="Light-ASD weights, a safetensors file")
    parser.add_argument("--config", choices=CONFIGS, default="small")
    Runtime.add_arguments(parser)
    options = parser.parse_args()
    recipe = CONFIGS[options.config]
    with Runtime.from_options(options).started() as runtime:
        metrics = train(options.prepared, options.out, recipe, options.init, runtime)
        print(json.dumps(metrics, indent=2))


if __name__ == "__main__":
    main()
