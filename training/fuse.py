"""Train the fusion head on composed clips and calibrate every probability.

    python -m training.fuse --runs runs

Reads `runs/{visual,audio,lipsync}/heldout.csv` (path, group, source, label, logit: scores of people
that the branch was not trained on) and writes `runs/fusion/best.safetensors`, `calibration.json`
(scale and bias a branch, thresholds) and `metrics.json`.

1. Each branch's raw logits become log-odds by Platt scaling (Platt 1999), sources weighing by the
   root of how many people they show. Where there are true fakes, pseudo-fakes take no part: a
   branch finds what it learnt to find more surely than any fake it will meet; nor do real faces
   of the packs that it learnt from. For the same reason the scores of generators that a voice net
   has never heard (`training.audio --leave-out`) stand beside those of heard ones.
2. Clips of all kinds are composed of held-out scores: real or fake picture, real or fake voice,
   sound in or out of step. A composed clip is fake if any part of it is. Branches are dropped at
   random, as they are on clips without a face, without speech, or silent. What is dropped is not
   there, so it cannot be the fake part: of the clips of any branches every second one is fake.
3. Platt's scaling and the head are fitted to one half of the people; the temperature (Guo et al.
   2017), the thresholds of the verdicts and the figures come from the other half.

Every second clip a fake: that is the prior under which probabilities are calibrated.
"""

from __future__ import annotations

import argparse
import json
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import pandas as pd
import torch
from sklearn.linear_model import LogisticRegression
from torch.nn.functional import binary_cross_entropy_with_logits as cross_entropy
from torch.nn.functional import softplus
from torch.utils.data import Dataset

from avfake.models.fusion import FusionNet
from avfake.types import BRANCHES
from evaluation.metrics.classification import auc, log_loss, threshold_at_false_alarms
from training.audio import UNHEARD
from training.checkpoints import load_state, save
from training.loop import Schedule, fit
from training.manifest import hashed

# Kinds of fake: share, then whether picture, voice and the fit of lips and sound are to be seen as
# fake. A mouth that was made to speak fits what it was made for.
KINDS: dict[str, tuple[float, tuple[int, int, int]]] = {
    "face swap": (0.30, (1, 0, 0)),
    "lip-synced to another voice": (0.10, (1, 0, 0)),
    "voice converted": (0.19, (0, 1, 0)),
    "voice replaced": (0.19, (0, 1, 1)),
    "dubbed or shifted": (0.11, (0, 0, 1)),
    "face and voice": (0.11, (1, 1, 0)),
}
DROP = 0.2  # chance that a branch is absent
FALSE_ALARMS = 0.05  # at most: of real clips called likely fake, and of fakes called likely real
LIKELY = 2 / 3  # the least probability that may be called likely
PULL = 0.1
"""Weight of how far the head's factors are from 1, at which a branch's log-odds are taken as they
are: a few dozen true fakes are no ground for making more of them."""
SCHEDULE = Schedule(steps=1500, lr=0.02, warmup=50, ema=0.99, evaluate_every=100, workers=0)


@dataclass(frozen=True)
class Pool:
    """Held-out log-odds of clips as one branch sees them: float32 [2, n], by label (fake = 1)."""

    clips: np.ndarray

    @classmethod
    def of(cls, rows: pd.DataFrame, size: int = 4096, seed: int = 0) -> Pool:
        """Clips made of `rows`: each is the mean of a few windows of one person and source. Sources
        count by the root of how many people they show, as in `calibrate`.
        """
        rng = np.random.default_rng(seed)
        drawn = []
        for label in (0, 1):
            sources = [
                [person["log_odds"].to_numpy() for _, person in source.groupby("group")]
                for _, source in rows[rows["label"] == label].groupby("source")
            ]
            if not sources:
                raise ValueError("a branch needs held-out scores of both real and fake")
            odds = np.sqrt([len(people) for people in sources])
            chosen = [sources[i] for i in rng.choice(len(sources), size, p=odds / odds.sum())]
            people = [people[rng.integers(len(people))] for people in chosen]
            drawn.append([rng.choice(part, size=min(len(part), 6)).mean() for part in people])
        return cls(np.array(drawn, np.float32))

    def draw(self, labels: np.ndarray, rng: np.random.Generator) -> np.ndarray:
        """float32 [n]: a clip's log-odds for each of int `labels` [n]."""
        return self.clips[labels, rng.integers(self.clips.shape[1], size=len(labels))]


class ComposedClips(Dataset):
    """Batches of composed clips; item `i` is always the same batch."""

    def __init__(self, pools: dict[str, Pool], size: int = 512, seed: int = 0) -> None:
        self._pools = pools
        self._size = size
        self._seed = seed

    def __len__(self) -> int:
        return 1_000_000

    def __getitem__(self, index: int) -> tuple[torch.Tensor, torch.Tensor, torch.Tensor]:
        """(logits [n, 3], present [n, 3], label [n]), all float32."""
        rng = np.random.default_rng((self._seed, index))
        present = rng.random((self._size, len(BRANCHES))) >= DROP
        # Not one branch left is no clip to learn from: keep one.
        empty = np.flatnonzero(~present.any(1))
        present[empty, rng.integers(0, len(BRANCHES), len(empty))] = True
        label = rng.random(self._size) < 0.5
        parts = _kinds(present, rng) * label[:, None]
        logits = compose(self._pools, parts, rng)
        return (
            torch.from_numpy(logits * present),
            torch.from_numpy(present.astype(np.float32)),
            torch.from_numpy(label.astype(np.float32)),
        )


def _kinds(present: np.ndarray, rng: np.random.Generator) -> np.ndarray:
    """int [n, 3]: for each row of bool `present` [n, 3] the parts of a fake that shows in it."""
    shares = np.array([share for share, _ in KINDS.values()])
    parts = np.array([parts for _, parts in KINDS.values()])
    seen = (present[:, None] * parts[None]).any(2) * shares
    reach = np.cumsum(seen, 1)
    drawn = rng.random(len(present)) * reach[:, -1]
    return parts[(reach <= drawn[:, None]).sum(1)]


def compose(pools: dict[str, Pool], parts: np.ndarray, rng: np.random.Generator) -> np.ndarray:
    """float32 [n, 3] log-odds for clips whose parts are fake as int `parts` [n, 3] says."""
    columns = [pools[branch].draw(parts[:, i], rng) for i, branch in enumerate(BRANCHES)]
    return np.stack(columns, 1)


def read_scores(runs: Path) -> dict[str, pd.DataFrame]:
    """Each branch's scores of people it was not trained on: path, group, source, label, logit."""
    tables = {branch: pd.read_csv(runs / branch / "heldout.csv") for branch in BRANCHES}
    for path in sorted(runs.glob(f"audio/leave_out/*/{UNHEARD}")):
        rows = pd.read_csv(path)
        fake = rows["label"] == 1
        rows["source"] = rows["source"].where(~fake, "unheard-" + rows["source"])
        tables["audio"] = pd.concat([tables["audio"], rows], ignore_index=True)
    # A lip-synced fake is a fake of the picture: its mouth fits its sound, as it was made to.
    synced = tables["lipsync"]["source"].eq("dev-fake")
    tables["lipsync"] = tables["lipsync"][~synced].copy()
    voices = tables["audio"]
    twins = voices["source"].str.startswith("twin-")
    if ((voices["label"] == 1) & ~twins).any():
        tables["audio"] = voices[~twins].copy()
    # Beside true fakes stand the real faces of their own sources: the packs that it learnt from a
    # net knows too well, whoever is in them.
    true = tables["visual"]["source"].str.startswith("dev-")
    if tables["visual"]["label"][true].nunique() == 2:
        tables["visual"] = tables["visual"][true].copy()
    return tables


def calibrate(rows: pd.DataFrame) -> dict[str, float]:
    """Platt's scale and bias for one branch: classes weigh alike; sources within a class by the
    root of how many people they show, so that neither a large one drowns the others nor a single
    clip counts for a source.
    """
    within = rows.groupby(["label", "source"])
    weight = np.sqrt(within["group"].transform("nunique")) / within["logit"].transform("size")
    weight = weight / weight.groupby(rows["label"]).transform("sum") / 2
    model = LogisticRegression(C=1e3)
    model.fit(rows[["logit"]].to_numpy(), rows["label"], sample_weight=weight * len(rows))
    scale = float(model.coef_[0, 0])
    if scale <= 0:
        raise ValueError("a branch ranks held-out fakes below held-out real: it cannot be fused")
    return {"scale": scale, "bias": float(model.intercept_[0])}


def first_half(group: pd.Series) -> np.ndarray:
    """bool [n]: a fixed half of the people, by a hash of their name."""
    return np.array([hashed(str(name), 2) == 0 for name in group])


def fuse(runs: Path) -> dict[str, object]:
    """The whole recipe; returns what is written to metrics.json."""
    out = runs / "fusion"
    tables = read_scores(runs)
    calibration = {
        branch: calibrate(rows[first_half(rows["group"])]) for branch, rows in tables.items()
    }
    halves: list[dict[str, Pool]] = [{}, {}]
    figures: dict[str, object] = {}
    for branch, rows in tables.items():
        entry = calibration[branch]
        rows["log_odds"] = entry["scale"] * rows["logit"] + entry["bias"]
        mine = first_half(rows["group"])
        halves[0][branch], halves[1][branch] = Pool.of(rows[mine]), Pool.of(rows[~mine])
        figures[branch] = _branch_figures(rows[~mine])
    model = FusionNet()
    held_out = [ComposedClips(halves[1], seed=1)[i] for i in range(8)]
    logits, present, label = (torch.cat(part) for part in zip(*held_out, strict=True))

    def evaluate(net: torch.nn.Module) -> dict[str, float]:
        with torch.no_grad():
            (answer,) = net(logits, present)
        return {"loss": float(cross_entropy(answer, label)), "auc": auc(label, answer)}

    def loss(net: torch.nn.Module, batch: tuple[torch.Tensor, ...]) -> torch.Tensor:
        (answer,) = net(batch[0], batch[1])
        assert isinstance(net.weight, torch.Tensor)
        return cross_entropy(answer, batch[2]) + PULL * (softplus(net.weight) - 1).square().mean()

    (out / "last.safetensors").unlink(missing_ok=True)  # seconds of work: never half an old run
    fit(model, ComposedClips(halves[0]), loss, evaluate, SCHEDULE, out, {})
    state, _ = load_state(out / "best.safetensors")
    model.load_state_dict(state)
    model.eval()
    temperature = _fit_temperature(model, logits, present, label)
    model.temperature.fill_(temperature)
    fused = evaluate(model)
    save(model, out / "best.safetensors", {}, fused)
    with torch.no_grad():
        probability = torch.sigmoid(model(logits, present)[0]).numpy()
    thresholds = _thresholds(label.numpy(), probability)
    (out / "calibration.json").write_text(
        json.dumps({"calibration": calibration, "thresholds": thresholds}, indent=2) + "\n"
    )
    figures["fused"] = {
        "log_loss": log_loss(label.numpy(), probability),
        "auc": fused["auc"],
        "temperature": temperature,
        "composed_clips": len(label),
        "called_either_way": float(
            np.mean(
                (probability >= thresholds["likely_fake"])
                | (probability <= thresholds["likely_real"])
            )
        ),
        "by_kind_of_fake_auc": _by_kind(halves[1], model),
    }
    (out / "metrics.json").write_text(json.dumps(figures, indent=2) + "\n")
    return figures


def _branch_figures(rows: pd.DataFrame) -> dict[str, float]:
    label, odds = rows["label"].to_numpy(), rows["log_odds"].to_numpy()
    return {
        "log_loss": log_loss(label, 1 / (1 + np.exp(-odds))),
        "auc": auc(label, odds),
        "rows": len(rows),
        "people": int(rows["group"].nunique()),
    }


def _fit_temperature(
    model: FusionNet, logits: torch.Tensor, present: torch.Tensor, label: torch.Tensor
) -> float:
    """The temperature with the least log-loss, over a fine grid from 1 to 5: it may only make the
    head less sure, for the same reason as PULL.
    """
    with torch.no_grad():
        (answer,) = model(logits, present)
    grid = np.geomspace(1, 5, 200)
    losses = [float(cross_entropy(answer / float(t), label)) for t in grid]
    return float(grid[int(np.argmin(losses))])


def _thresholds(label: np.ndarray, probability: np.ndarray) -> dict[str, float]:
    fake = threshold_at_false_alarms(label, probability, FALSE_ALARMS)
    real = 1 - threshold_at_false_alarms(1 - label, 1 - probability, FALSE_ALARMS)
    # "Likely" is at least twice as likely as not, however good the models are.
    return {"likely_fake": max(LIKELY, fake), "likely_real": min(1 - LIKELY, real)}


def _by_kind(pools: dict[str, Pool], model: FusionNet) -> dict[str, float]:
    """AUC of each kind of fake against real clips, all branches present."""
    rng = np.random.default_rng(2)

    def scores(kind: tuple[int, int, int]) -> np.ndarray:
        logits = torch.from_numpy(compose(pools, np.tile(kind, (500, 1)), rng))
        with torch.no_grad():
            return model(logits, torch.ones_like(logits))[0].numpy()

    real = scores((0, 0, 0))
    label = np.repeat([0, 1], 500)
    return {
        name: auc(label, np.concatenate([real, scores(kind)])) for name, (_, kind) in KINDS.items()
    }


def main() -> None:
    parser = argparse.ArgumentParser(
        prog="python -m training.fuse", description=__doc__.splitlines()[0]
    )
    parser.add_argument("--runs", type=Path, default=Path("runs"))
    print(json.dumps(fuse(parser.parse_args().runs), indent=2))


if __name__ == "__main__":
    main()
