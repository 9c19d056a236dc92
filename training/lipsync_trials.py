"""Mouths with their own and with wrong sounds: what the judge learns from and is measured by.

A trial is a window of 2 s of a mouth and a sound as long. Label 0: its own sound, at a constant
offset of up to five frames either way. Label 1: the sound of another clip, of another time of the
same clip, or its own at an offset that drifts or jumps. Only windows with speech count.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
import pandas as pd
import torch
from sklearn.metrics import roc_auc_score
from torch import Tensor

from avfake.models.lipsync import SAMPLES_PER_FRAME, LipSyncNet
from avfake.speech import SpeechActivity
from avfake.types import FRAME_RATE, Sound
from training.figures import figures
from training.lipsync_data import Framing, Tracks, mouth_clip, worn_mouths, worn_sound
from training.runtime import device_of

Generator = np.random.Generator

WINDOW = 50  # pictures
STRIDE = 25
SPEECH = 1.0  # seconds of speech that a window needs
CONSTANT = 5  # frames: the largest offset that counts as normal
KINDS = ("in-sync", "in-sync", "in-sync", "other-clip", "other-time", "wandering")
LAGS = (-15, -10, -5, -3, 0, 3, 5, 10, 15)  # frames by which sounds are made late to measure


@dataclass(frozen=True)
class Trials:
    """`traits` float32 [n, 8] as the judge sees them, `labels` float32 [n]; `table` has a row
    for each, with path, group, source (one of KINDS) and label.
    """

    traits: Tensor
    labels: Tensor
    table: pd.DataFrame


@dataclass(frozen=True)
class Talk:
    """A track with what windows of it hold speech: `starts` int [m], in pictures, every STRIDE."""

    faces: np.ndarray
    sound: np.ndarray
    starts: np.ndarray

    @classmethod
    def of(cls, faces: np.ndarray, sound: np.ndarray) -> Talk:
        speech = SpeechActivity(Sound(sound))
        starts = np.arange(0, len(faces) - WINDOW + 1, STRIDE)
        seconds = [
            speech.between(start / FRAME_RATE, (start + WINDOW) / FRAME_RATE) for start in starts
        ]
        return cls(faces, sound, starts[np.array(seconds) >= SPEECH])

    def mouths(self, start: int, framing: Framing | None = None) -> np.ndarray:
        """uint8 [WINDOW, 112, 112] from picture `start` on."""
        return mouth_clip(self.faces[start : start + WINDOW], framing)

    def heard(self, start: int, late: float | np.ndarray = 0.0) -> np.ndarray:
        """The window's sound, `late` frames late: float32 [WINDOW * 640].

        `late` may change over the window (float [WINDOW * 640]). Silence beyond the track's ends.
        """
        count = WINDOW * SAMPLES_PER_FRAME
        places = np.arange(count) + (start - late) * SAMPLES_PER_FRAME
        samples = np.arange(len(self.sound))
        return np.interp(places, samples, self.sound, 0.0, 0.0).astype(np.float32)


def talks(tracks: Tracks) -> dict[int, Talk]:
    """Row -> talk, for the tracks that have a window with speech."""
    found = {index: Talk.of(*tracks.read(index)) for index in range(len(tracks))}
    return {index: talk for index, talk in found.items() if len(talk.starts)}


def wandering(rng: Generator) -> np.ndarray:
    """An offset in frames, float [WINDOW * 640], that drifts by 8 to 15 or jumps by 4 to 15."""
    time = np.linspace(0, 1, WINDOW * SAMPLES_PER_FRAME)
    sign = rng.choice([-1.0, 1.0])
    if rng.random() < 0.5:
        change = rng.uniform(8, 15) * time
    else:
        change = rng.uniform(4, 15) * (time > rng.uniform(0.3, 0.7))
    return rng.uniform(-CONSTANT, CONSTANT) + sign * (change - change.mean())


@torch.no_grad()
def make_trials(model: LipSyncNet, tracks: Tracks, windows: int | None, worn: bool) -> Trials:
    """Trials of every kind for `windows` random windows, or for all windows if None.

    `worn`: mouths and sounds are augmented as in the training of the towers.
    """
    model.eval()
    device = device_of(model)
    all_talks = talks(tracks)
    places = [(row, int(start)) for row, talk in all_talks.items() for start in talk.starts]
    if windows is not None:
        order = np.random.default_rng(0).integers(len(places), size=windows)
        places = [places[index] for index in order]
    traits, rows = [], []
    for number, (row, start) in enumerate(places):
        rng = np.random.default_rng([2, number])
        talk = all_talks[row]
        kinds, sounds = _sounds(all_talks, row, start, rng)
        mouths = talk.mouths(start, Framing.draw(rng) if worn else None)
        if worn:
            mouths = worn_mouths(mouths, rng)
            sounds = [worn_sound(sound, sounds[3], rng) for sound in sounds]
        shown = model.embed_mouths(torch.from_numpy(mouths)[None].to(device))
        heard = model.embed_sound(torch.from_numpy(np.stack(sounds)).to(device))
        traits.append(model.traits(shown.expand(len(heard), -1, -1), heard).cpu())
        track = tracks.table.iloc[row]
        rows += [
            {
                "path": track["path"],
                "group": track["group"],
                "source": kind,
                "label": int(kind != "in-sync"),
            }
            for kind in kinds
        ]
    table = pd.DataFrame(rows)
    return Trials(torch.cat(traits), torch.tensor(table["label"].to_numpy(np.float32)), table)


def _sounds(
    all_talks: dict[int, Talk], row: int, start: int, rng: Generator
) -> tuple[list[str], list[np.ndarray]]:
    """One sound of each of KINDS for a window; a track too short for "other-time" goes without."""
    talk = all_talks[row]
    kinds, sounds = [], []
    for number, kind in enumerate(KINDS):
        late = 0.0 if number == 0 else float(rng.integers(-CONSTANT, CONSTANT + 1))
        if kind == "other-clip":
            stranger = all_talks[int(rng.choice([other for other in all_talks if other != row]))]
            sound = stranger.heard(int(rng.choice(stranger.starts)), late)
        elif kind == "other-time":
            away = talk.starts[np.abs(talk.starts - start) > STRIDE]
            if not len(away):
                continue
            sound = talk.heard(int(rng.choice(away)), late)
        else:
            sound = talk.heard(start, wandering(rng) if kind == "wandering" else late)
        kinds.append(kind)
        sounds.append(sound)
    return kinds, sounds


@torch.no_grad()
def alignment(model: LipSyncNet, tracks: Tracks) -> dict[str, Any]:
    """How well offsets are found. Windows of 2 s with speech; their sound made late by LAGS.

    `within_one_of_own`: share of offsets at most one frame from the delay that was applied (up to
    10 frames) plus the track's own offset, the median of what is measured less what was applied;
    `within_one_of_zero`: the same with no own offset, as if every clip were recorded in step;
    `own_offsets`: quartiles of the tracks' own offsets, in frames;
    `auc_shifted`: similarity at lag 0, undelayed against delayed.
    """
    to_zero, to_own, own_offsets, at_zero, shifted = [], [], [], [], []
    within_reach = np.abs(LAGS) <= 10
    device = device_of(model)
    for talk in talks(tracks).values():
        offsets = []
        for start in map(int, talk.starts):
            shown = model.embed_mouths(torch.from_numpy(talk.mouths(start))[None].to(device))
            sounds = np.stack([talk.heard(start, late) for late in LAGS])
            heard = model.embed_sound(torch.from_numpy(sounds).to(device))
            similarity, offset, _, _ = model.compare(shown.expand(len(LAGS), -1, -1), heard)
            at_zero.extend(similarity[:, model.REACH].tolist())
            shifted.extend(int(late != 0) for late in LAGS)
            offsets.append(offset.cpu().numpy() - np.array(LAGS))
        errors = np.array(offsets)[:, within_reach]
        own_offsets.append(np.median(errors))
        to_zero.append(np.abs(errors).ravel() <= 1)
        to_own.append(np.abs(errors - own_offsets[-1]).ravel() <= 1)
    return {
        "within_one_of_own": _rounded(np.concatenate(to_own).mean()),
        "within_one_of_zero": _rounded(np.concatenate(to_zero).mean()),
        "own_offsets": [_rounded(value) for value in np.quantile(own_offsets, (0.25, 0.5, 0.75))],
        "auc_shifted": _rounded(roc_auc_score(shifted, -np.array(at_zero))),
        "windows": len(at_zero) // len(LAGS),
        "tracks": len(own_offsets),
    }


@torch.no_grad()
def clip_scores(model: LipSyncNet, tracks: Tracks) -> pd.DataFrame:
    """A row for each window with speech: path, group, source (dev-real or dev-fake), label, logit,
    and clip, offset (frames), confidence.
    """
    rows, device = [], device_of(model)
    for index, talk in talks(tracks).items():
        track = tracks.table.iloc[index]
        for start in map(int, talk.starts):
            mouths = torch.from_numpy(talk.mouths(start))[None].to(device)
            sound = torch.from_numpy(talk.heard(start))[None].to(device)
            _, offset, confidence, logit = model(mouths, sound)
            rows.append(
                {
                    "path": track["path"],
                    "group": track["group"],
                    "source": ("dev-real", "dev-fake")[track["label"]],
                    "label": int(track["label"]),
                    "logit": logit.item(),
                    "clip": track["clip"],
                    "offset": offset.item(),
                    "confidence": confidence.item(),
                }
            )
    columns = ["path", "group", "source", "label", "logit", "clip", "offset", "confidence"]
    return pd.DataFrame(rows, columns=columns)


@torch.no_grad()
def evaluate(
    model: LipSyncNet, known: Trials, aside: Tracks, dev: Tracks
) -> tuple[dict[str, Any], pd.DataFrame]:
    """(what metrics.json holds, what heldout.csv holds) of a finished model in eval mode."""
    logit = model.judge(known.traits.to(device_of(model))).squeeze(1)
    held = known.table.assign(logit=logit.cpu().numpy())
    real = held[held["source"] == "in-sync"]
    true = clip_scores(model, dev)
    clips = {
        clip: {
            "label": int(rows["label"].iloc[0]),
            "logit": _rounded(rows["logit"].mean()),
            "offset": _rounded(rows["offset"].median()),
            "confidence": _rounded(rows["confidence"].median()),
            "windows": len(rows),
        }
        for clip, rows in true.groupby("clip")
    }
    metrics = {
        "mismatch": figures(held),
        "mismatch_by_kind": {
            kind: figures(pd.concat([real, rows]))
            for kind, rows in held[held["label"] == 1].groupby("source")
        },
        "alignment": alignment(model, aside),
        "dev": figures(true),
        "dev_clips": clips,
    }
    columns = ["path", "group", "source", "label", "logit"]
    return metrics, pd.concat([held, true], ignore_index=True)[columns]


def _rounded(value: float) -> float:
    return round(float(value), 4)
