"""How well do facts that have nothing to do with a forgery tell the classes apart?

A detector trained where they do may learn the encoder instead of the forgery, and a test set where
they do measures nothing. So a probe is trained on them: gradient-boosted trees on each fact alone
and on all, and a logistic regression on all, cross-validated with nobody on both sides of a fold.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

import numpy as np
import pandas as pd
from sklearn.base import ClassifierMixin
from sklearn.ensemble import HistGradientBoostingClassifier
from sklearn.impute import SimpleImputer
from sklearn.linear_model import LogisticRegression
from sklearn.model_selection import StratifiedGroupKFold
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import StandardScaler

from evaluation.metrics.classification import auc
from evaluation.metrics.intervals import grouped_interval

FEATURES = {
    "container": "container",
    "video_codec": "picture codec",
    "audio_codec": "sound codec",
    "has_sound": "has sound",
    "duration": "duration",
    "bytes": "file size",
    "bit_rate": "bit rate",
    "width": "width",
    "height": "height",
    "fps": "pictures a second",
    "sample_rate": "sample rate",
    "lead": "silence before",
    "trail": "silence after",
    "loudness": "loudness",
}
"""Fields of `Facts` that are put to the probe, in words."""
WORDS = ("container", "video_codec", "audio_codec")
SPREAD = ("bytes", "bit_rate", "duration")  # over orders of magnitude: taken as logarithms
FOLDS = 5
FEWEST = 10  # clips of a class, and FOLDS groups of it: with fewer nothing is measured
MISSING = -1e6  # for a number that a file does not have; none of them comes near
COMMON = 12  # values of a word that count for themselves; rarer ones are alike


@dataclass(frozen=True)
class Separation:
    """How far facts separate real from fake: AUC of folds not trained on, its 95% interval over
    groups. `facts` is a field of Facts, or "all"; `model` "trees" or "logistic".
    """

    facts: str
    model: str
    auc: float
    low: float
    high: float


def separations(
    table: pd.DataFrame, label: np.ndarray, group: np.ndarray, draws: int = 500
) -> list[Separation]:
    """Of all facts together by both models, then of each alone, the most telling first.

    table: columns FEATURES, n rows; label: 0 or 1 [n]; group: names [n]. Empty where a class has
    fewer than 10 clips or fewer than 5 groups.
    """
    label, group = np.asarray(label, int), np.asarray(group).astype(str)
    folds = _folds(label, group)
    if not folds:
        return []
    columns = _columns(table)
    every = np.concatenate(list(columns.values()), axis=1)
    trials = [("all", "trees", every), ("all", "logistic", every)]
    trials += [(name, "trees", values) for name, values in columns.items()]
    rows = []
    for name, model, values in trials:
        score = np.zeros(len(label))
        varies = len(np.unique(values, axis=0)) > 1  # else there is nothing to learn
        for learn, judge in folds if varies else ():
            net = _model(model, len(learn)).fit(values[learn], label[learn])
            score[judge] = net.predict_proba(values[judge])[:, 1]
        low, high = grouped_interval(label, score, group, auc, draws)
        rows.append(Separation(name, model, auc(label, score), low, high))
    return rows[:2] + sorted(rows[2:], key=lambda row: -row.auc)


def _folds(label: np.ndarray, group: np.ndarray) -> list[tuple[np.ndarray, np.ndarray]]:
    for kind in (0, 1):
        members = label == kind
        if members.sum() < FEWEST or len(set(group[members])) < FOLDS:
            return []
    cut = StratifiedGroupKFold(FOLDS, shuffle=True, random_state=0)
    folds = [(a, b) for a, b in cut.split(label, label, group) if len(b)]
    return folds if all(len(set(label[learn])) == 2 for learn, _ in folds) else []


def _model(name: str, rows: int) -> ClassifierMixin:
    # Balanced: else a fold short of fakes raises the others' prior, and pooled scores rank by fold.
    if name == "trees":
        # Missing is a value like others, out of the way: the trees' own handling of NaN fails where
        # a fold knows nothing else.
        return make_pipeline(
            SimpleImputer(strategy="constant", fill_value=MISSING, keep_empty_features=True),
            HistGradientBoostingClassifier(
                max_iter=60,
                max_leaf_nodes=8,
                min_samples_leaf=int(np.clip(rows // 20, 3, 20)),
                early_stopping=False,
                class_weight="balanced",
                random_state=0,
            ),
        )
    return make_pipeline(
        SimpleImputer(strategy="median", add_indicator=True, keep_empty_features=True),
        StandardScaler(),
        LogisticRegression(class_weight="balanced", max_iter=1000),
    )


def _columns(table: pd.DataFrame) -> Mapping[str, np.ndarray]:
    """float64 [n, k] for each fact: a number (NaN where there is none), or one column a word."""
    columns = {}
    for name in FEATURES:
        if name in WORDS:
            words = table[name].fillna("none").astype(str)
            common = words.value_counts().index[:COMMON]
            columns[name] = np.stack([words == word for word in common], axis=1).astype(float)
            continue
        values = pd.to_numeric(table[name].astype(float)).to_numpy(float)
        columns[name] = (np.log1p(values) if name in SPREAD else values)[:, None]
    return columns
