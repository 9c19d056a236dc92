"""Train the audio branch: python -m training.audio --store runs/voices --out runs/audio

Learns from the store that `python -m training.voices` made. Writes `best.safetensors` and
`last.safetensors` (run the same command again to resume), `log.jsonl`, `heldout.csv` (scores on
speakers never trained on) and `metrics.json`. With `--leave-out GENERATOR` (again for each;
several at once with commas) it instead runs a short training without those generators' fakes and
without the real speech of their sources, and adds how well they are found to
"leave_one_generator_out" in metrics.json. Several left out at once is the harder trial of each,
and one training for all.
"""

from __future__ import annotations

import argparse
import json
from collections.abc import Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import torch
from sklearn.metrics import log_loss, roc_auc_score
from torch import Tensor
from torch.nn import functional

from avfake.models.audio import AudioNet
from training.checkpoints import load_state
from training.loop import Schedule, fit
from training.pairs import PairBatches, Trial, make_trials
from training.pretrained import IMAGENET, LITE0, pretrain
from training.runtime import Runtime
from training.shortcuts import FEATURES, probe_auc, shortcuts
from training.speech import Utterance, hold_out, read_store

UNHEARD = "unheard.csv"
"""What --leave-out writes beside its weights, as heldout.csv: scores of generators not heard."""
LEAK = 0.6
"""AUC of the shortcut probe above which the recipe refuses to go on."""


@dataclass(frozen=True)
class Recipe:
    """What a training is: the net, how many pairs a batch holds, how long and how fast.

    `start`: the weights of the net's stem before the first step (see `training.pretrained`).
    """

    schedule: Schedule
    pairs: int = 8
    net: dict[str, Any] = field(default_factory=dict)
    probe_batches: int = 40
    start: str | None = IMAGENET


RECIPES = {
    "small": Recipe(Schedule(steps=400, lr=3e-4, warmup=30, ema=0.985, evaluate_every=100)),
    "short": Recipe(
        Schedule(steps=120, lr=3e-4, warmup=30, ema=0.97, evaluate_every=120), probe_batches=15
    ),
}
"""By name, for --config. "short" is also what --leave-out trains by."""


def pair_loss(net: AudioNet, batch: dict[str, Any]) -> Tensor:
    """Cross-entropy, and within each pair the fake above the real: what the journey did cancels."""
    sound = batch["sound"]
    # A spectrum in bfloat16 would lose its quiet detail.
    with torch.no_grad(), torch.autocast(sound.device.type, enabled=False):
        spectra = net.front(sound)
    logit = net.judge(spectra).float()
    real, fake = logit.chunk(2)
    target = batch["label"] * 0.9 + 0.05
    entropy = functional.binary_cross_entropy_with_logits(logit, target)
    return entropy + 0.5 * functional.softplus(real - fake).mean()


@torch.no_grad()
def score(net: AudioNet, windows: Sequence[np.ndarray], batch: int = 16) -> np.ndarray:
    """Logits, float64 [n], of n windows float32 [64000]."""
    net.eval()
    device = next(net.parameters()).device
    parts = [
        net(torch.from_numpy(np.stack(windows[first : first + batch])).to(device))[0]
        for first in range(0, len(windows), batch)
    ]
    return torch.cat(parts).double().cpu().numpy()


def figures(trials: Sequence[Trial], logits: np.ndarray) -> dict[str, float]:
    """log_loss (classes weigh the same, sources by the root of their size, as drawn); auc; n.

    All sources alike would let a pack of one voice move the choice of weights as far as fifty do.
    """
    labels = np.array([trial.label for trial in trials])
    sources = pd.Series([trial.source for trial in trials])
    counts = sources.map(sources.value_counts()).to_numpy(float)
    weights = 1 / np.sqrt(counts)
    for label in (0, 1):
        weights[labels == label] /= weights[labels == label].sum()
    probabilities = 1 / (1 + np.exp(-logits))
    return {
        "log_loss": round(float(log_loss(labels, probabilities, sample_weight=weights)), 4),
        "auc": round(float(roc_auc_score(labels, logits)), 4),
        "n_real": int((labels == 0).sum()),
        "n_fake": int((labels == 1).sum()),
    }


def by_source(trials: Sequence[Trial], logits: np.ndarray) -> dict[str, dict[str, float]]:
    """Each kind of fake against all real trials (auc), and against the real speech it copies.

    above_own_real: the share of fakes with a higher logit than the real trial of their own group,
    among the fakes that have one; absent where none has. 0.5 is chance.
    """
    table = pd.DataFrame({"source": [trial.source for trial in trials], "logit": logits})
    table["label"] = [trial.label for trial in trials]
    table["group"] = [trial.group for trial in trials]
    real = table[table["label"] == 0]
    own = real.groupby("group")["logit"].mean()
    result: dict[str, dict[str, float]] = {}
    for source, fake in table[table["label"] == 1].groupby("source"):
        both = pd.concat([real, fake])
        auc = float(roc_auc_score(both["label"], both["logit"]))
        result[str(source)] = {"auc": round(auc, 4), "n": len(fake)}
        paired = fake[fake["group"].isin(own.index)]
        if len(paired):
            above = paired["logit"] > paired["group"].map(own)
            result[str(source)]["above_own_real"] = round(float(above.mean()), 4)
    return result


def probe(batches: PairBatches, count: int) -> dict[str, Any]:
    """The shortcut probe on the first `count` training batches."""
    rows, labels, groups = [], [], []
    for index in range(min(count, len(batches))):
        batch = batches[index]
        rows += [shortcuts(sound) for sound in batch["sound"].numpy()]
        labels += batch["label"].int().tolist()
        groups += batch["speaker"] * 2
    features, targets = np.array(rows), np.array(labels)
    alone = {
        name: round(probe_auc(features[:, [column]], targets, groups), 3)
        for column, name in enumerate(FEATURES)
    }
    return {"auc": round(probe_auc(features, targets, groups), 3), "alone": alone, "n": len(rows)}


def train(
    train_set: Sequence[Utterance],
    held: Sequence[Utterance],
    recipe: Recipe,
    out: Path,
    runtime: Runtime,
) -> tuple[list[Trial], AudioNet, dict[str, Any]]:
    """Fit on `train_set`, choose by `held`; (held-out trials, best net, probe result).

    Raises ValueError if the shortcut probe tells the classes apart.
    """
    batches = PairBatches(train_set, recipe.pairs, recipe.schedule.batches(runtime.world))
    shortcut = probe(batches, recipe.probe_batches)
    print("shortcut probe:", json.dumps(shortcut), flush=True)
    if shortcut["auc"] > LEAK:
        raise ValueError(
            f"without listening to the voice the classes are told apart with AUC "
            f"{shortcut['auc']}; find out what leaks (metrics by feature: {shortcut['alone']})"
        )
    trials = make_trials(held, twins_each=1)
    windows = [trial.clean for trial in trials] + [trial.travelled for trial in trials]

    # Chosen by the packs' own fakes, where there are any: twins are told more easily, and more
    # and more easily, while other fakes are not.
    genuine = [index for index, trial in enumerate(trials) if not trial.twin]
    if not any(trials[index].label == 1 for index in genuine):
        genuine = [*range(len(trials))]
    chosen = [trials[index] for index in genuine]

    def evaluate(net: AudioNet) -> dict[str, float]:
        clean, travelled = np.split(score(net, windows), 2)
        here, there = figures(chosen, clean[genuine]), figures(chosen, travelled[genuine])
        return {
            "loss": (here["log_loss"] + there["log_loss"]) / 2,
            "auc": here["auc"],
            "auc_travelled": there["auc"],
        }

    torch.manual_seed(0)
    net = AudioNet(**recipe.net)
    if recipe.start:
        pretrain(net.patches.backbone, LITE0, recipe.start)
    fit(net, batches, pair_loss, evaluate, recipe.schedule, out, recipe.net, runtime)
    state, config = load_state(out / "best.safetensors")
    net = AudioNet(**config)
    net.load_state_dict(state)
    return trials, net.eval(), shortcut


def train_and_report(
    utterances: Sequence[Utterance], recipe: Recipe, out: Path, runtime: Runtime
) -> None:
    """The whole training, then heldout.csv and metrics.json (an older leave-out table is kept)."""
    train_set, held = hold_out(utterances)
    print(f"{len(train_set)} utterances to train on, {len(held)} of other speakers held out")
    trials, net, shortcut = train(train_set, held, recipe, out, runtime)
    if not runtime.chief:
        return
    clean = score(net, [trial.clean for trial in trials])
    travelled = score(net, [trial.travelled for trial in trials])
    # As they are and through codecs: probabilities are calibrated on these, and clips have been
    # through some.
    _write_scores(out / "heldout.csv", trials, clean, travelled)
    genuine = [index for index, trial in enumerate(trials) if not trial.twin]
    _update_metrics(
        out,
        {
            "heldout": figures(trials, clean) | {"by_source": by_source(trials, clean)},
            "heldout_travelled": figures(trials, travelled)
            | {"by_source": by_source(trials, travelled)},
            "heldout_without_pseudo_fakes": figures([trials[i] for i in genuine], clean[genuine]),
            "shortcut_probe": shortcut,
        },
    )


def train_without(
    utterances: Sequence[Utterance],
    generators: Sequence[str],
    recipe: Recipe,
    out: Path,
    runtime: Runtime,
) -> None:
    """A training that never hears `generators`; its score on each one's fakes.

    All speech of their speakers and of their real sources ("NAME-gt") is left out as well, so
    voices, rooms and channels are as new as the generator. The real speech to hold against is that
    of held-out speakers and of these sources.
    """
    left = [item for item in utterances if item.label == 1 and item.source in generators]
    for generator in generators:
        if not any(item.source == generator for item in left):
            raise ValueError(f"no fakes of a generator {generator!r} in the data")
    truths = {f"{generator}-gt" for generator in generators}
    voices = {item.speaker for item in left}
    voices |= {item.speaker for item in utterances if item.source in truths}
    truth = [item for item in utterances if item.label == 0 and item.speaker in voices]
    train_set, held = hold_out(utterances)
    train_set = [item for item in train_set if item.speaker not in voices]
    held = [item for item in held if item.speaker not in voices]
    name = ",".join(generators)
    folder = out / "leave_out" / name
    _, net, _ = train(train_set, held, recipe, folder, runtime)
    if not runtime.chief:
        return
    real = [item for item in held if item.label == 0] + truth
    trials = make_trials([*left, *real], twins_each=0)
    logits, travelled = (
        score(net, [getattr(trial, version) for trial in trials])
        for version in ("clean", "travelled")
    )
    # As they are: unheard and worn at once, hardly any voice is told from another.
    _write_scores(folder / UNHEARD, trials, logits)
    for generator in generators:
        own = {item.group for item in left if item.source == generator}
        chosen = [i for i, x in enumerate(trials) if x.label == 0 or x.source == generator]
        row: dict[str, Any] = {
            "trained_without": name,
            "auc": _auc(trials, logits, chosen),
            "auc_travelled": _auc(trials, travelled, chosen),
            "n_fake": len([i for i in chosen if trials[i].label == 1]),
            "n_real": len(real),
            "steps": recipe.schedule.steps,
        }
        paired = [i for i in chosen if trials[i].group in own]
        if any(trials[i].label == 0 for i in paired):
            row["auc_against_own_truth"] = _auc(trials, logits, paired)
        print(f"without {name}: {generator}", json.dumps(row), flush=True)
        table = _read_metrics(out).get("leave_one_generator_out", {})
        _update_metrics(out, {"leave_one_generator_out": table | {generator: row}})


def _write_scores(path: Path, trials: Sequence[Trial], *logits: np.ndarray) -> None:
    """A row for each trial and each of its logits [n]."""
    columns = ("path", "group", "source", "label")
    rows = pd.DataFrame([{name: getattr(trial, name) for name in columns} for trial in trials])
    pd.concat([rows.assign(logit=each) for each in logits]).to_csv(path, index=False)


def _auc(trials: Sequence[Trial], logits: np.ndarray, chosen: Sequence[int]) -> float:
    labels = [trials[index].label for index in chosen]
    return round(float(roc_auc_score(labels, logits[list(chosen)])), 4)


def _read_metrics(out: Path) -> dict[str, Any]:
    path = out / "metrics.json"
    return json.loads(path.read_text()) if path.exists() else {}


def _update_metrics(out: Path, news: dict[str, Any]) -> None:
    metrics = _read_metrics(out) | news
    (out / "metrics.json").write_text(json.dumps(metrics, indent=2) + "\n")


def main(arguments: Sequence[str] | None = None) -> None:
    parser = argparse.ArgumentParser(
        prog="python -m training.audio",
        description=__doc__,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    parser.add_argument("--store", type=Path, required=True, help="what training.voices wrote")
    parser.add_argument("--out", type=Path, required=True, help="folder for weights and figures")
    parser.add_argument("--config", choices=sorted(RECIPES), default="small")
    parser.add_argument("--leave-out", action="append", default=[], metavar="GENERATOR")
    parser.add_argument("--steps", type=int, help="instead of the recipe's")
    Runtime.add_arguments(parser)
    options = parser.parse_args(arguments)
    recipe = RECIPES["short" if options.leave_out else options.config]
    if options.steps:
        recipe = replace(recipe, schedule=replace(recipe.schedule, steps=options.steps))
    utterances = read_store(options.store)
    with Runtime.from_options(options).started() as runtime:
        for generators in options.leave_out:
            train_without(utterances, generators.split(","), recipe, options.out, runtime)
        if not options.leave_out:
            train_and_report(utterances, recipe, options.out, runtime)


if __name__ == "__main__":
    main()
