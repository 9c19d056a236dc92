"""Every figure of a report, from a joined table alone: numbers, as `metrics.json` holds them.

A figure with an interval is {"value", "low", "high"}: 95% over people (`group`), NaN as None. What
cannot be measured is None with the reason in a "note", never 0.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
import pandas as pd

from avfake.types import BRANCHES
from evaluation.metrics.abstention import area_under_risk_coverage, at_prior, coverage
from evaluation.metrics.calibration import ece, reliability
from evaluation.metrics.classification import (
    auc,
    average_precision,
    brier,
    eer,
    log_loss,
    tpr_at_fpr,
)
from evaluation.metrics.costs import act_dcf, cllr, log_odds, min_dcf
from evaluation.metrics.intervals import grouped_interval, paired_interval
from evaluation.metrics.localisation import (
    AP_IOUS,
    AR_PROPOSALS,
    average_precision_at_iou,
    average_recall,
)
from evaluation.metrics.precision import log_weighted_precision
from evaluation.protocols import MODALITIES, probability_of, proposals_of, truth_of

Figure = Callable[[np.ndarray, np.ndarray], float]

PROBABILITIES: dict[str, Figure] = {
    "log_loss": log_loss,
    "log_loss_clipped": lambda label, p: log_loss(label, p, clip=0.01),
    "brier": brier,
    "ece": lambda label, p: ece(label, p, _bins(len(p))),
    "auc": auc,
    "eer": eer,
    "average_precision": average_precision,
    "tpr_at_1_fpr": lambda label, p: tpr_at_fpr(label, p, 0.01),
    "tpr_at_5_fpr": lambda label, p: tpr_at_fpr(label, p, 0.05),
    "log_wp_at_0.1": lambda label, p: log_weighted_precision(label, p, 0.1),
    "log_wp_at_0.5": lambda label, p: log_weighted_precision(label, p, 0.5),
    "log_wp_at_0.9": lambda label, p: log_weighted_precision(label, p, 0.9),
}
COSTS: dict[str, Figure] = {
    "min_dcf": lambda label, p: min_dcf(label, log_odds(p)),
    "act_dcf": lambda label, p: act_dcf(label, log_odds(p)),
    "cllr": lambda label, p: cllr(label, log_odds(p)),
}
"""ASVspoof's, of the voice alone."""
NEED_BOTH = {*PROBABILITIES, *COSTS} - {"log_loss", "log_loss_clipped", "brier", "ece"}
CLASSES = {
    "RvRa": (0, 0, "real picture, real voice"),
    "RvFa": (0, 1, "real picture, fake voice"),
    "FvRa": (1, 0, "fake picture, real voice"),
    "FvFa": (1, 1, "fake picture, fake voice"),
}
"""FakeAVCeleb's four (Khalid et al. 2021, arXiv:2108.05080): picture, voice, in words."""
PICTURE = 1000.0 / 25  # milliseconds: lip-sync offsets are counted in pictures at 25 a second


def summarize(table: pd.DataFrame, missing: list[str], prior: float, draws: int) -> dict[str, Any]:
    """All figures of `table` (manifest and scores, joined); `missing` were never scored.

    `prior`: the probability that stands for clips without an answer. `draws`: of the bootstrap.
    """
    status = table["status"]
    reasons = table["reason"][status != "ok"].value_counts()
    modalities = {name: modality(table, name, draws) for name in MODALITIES}
    return {
        "clips": {
            "in_manifest": len(table) + len(missing),
            "scored": len(table),
            "real": int((table["label"] == 0).sum()),
            "fake": int((table["label"] == 1).sum()),
            "people": int(table["group"].nunique()),
            "missing": len(missing),
            "missing_such_as": missing[:20],
            "abstained": int((status == "abstain").sum()),
            "failed": int((status == "error").sum()),
            "reasons": {str(reason or "unknown"): int(n) for reason, n in reasons.items()},
            "models": sorted(set(table["bundle"]) - {""}),
        },
        "modalities": modalities,
        "abstention": abstention(table, len(missing), prior),
        "classes": classes(table, draws),
        "methods": methods(table, draws),
        "fusion": fusion(table, draws),
        "localisation": localisation(table),
    }


def modality(table: pd.DataFrame, name: str, draws: int) -> dict[str, Any]:
    """Figures of what was answered for `name`, against its own truth where there is one."""
    truth, own = truth_of(table, name)
    answers = probability_of(table, name)
    known = truth.notna() & answers.notna()
    rows = table[known]
    label, value = truth[known].to_numpy(float), answers[known].to_numpy(float)
    group = rows["group"].to_numpy()
    wanted = PROBABILITIES | (COSTS if name == "audio" else {})
    result: dict[str, Any] = {
        "against": "own" if own else "clip",
        "clips": len(rows),
        "real": int((label == 0).sum()),
        "fake": int((label == 1).sum()),
        "coverage": _number(coverage(answers[truth.notna()].to_numpy(float))),
        "figures": {
            figure: _with_interval(label, value, group, measure, draws)
            for figure, measure in wanted.items()
        },
        "reliability": [
            {"probability": bin.probability, "fakes": bin.fakes, "clips": bin.count}
            for bin in reliability(label, value, _bins(len(label)))
        ],
    }
    if not len(rows):
        result["note"] = "no clip has both a label and an answer"
    elif len(set(label)) < 2:
        only = "fake" if label[0] else "real"
        result["note"] = f"all clips are {only}: {len(NEED_BOTH & set(wanted))} figures need both"
    if name == "lipsync" and "offset_ms" in table:
        result["offset"] = _offsets(table)
    return result


def abstention(table: pd.DataFrame, missing: int, prior: float) -> dict[str, Any]:
    """What unanswered clips cost: the headline scores with each of them at `prior`."""
    labelled = table[table["label"].notna()]
    label = labelled["label"].to_numpy(float)
    answers = labelled["fake_probability"].to_numpy(float)
    filled = at_prior(answers, prior)
    return {
        "coverage": _number(coverage(answers)),
        "prior": prior,
        "labelled": len(answers),
        "answered": int((~np.isnan(answers)).sum()),
        "never_scored": missing,
        "log_loss": _number(log_loss(label, filled)),
        "log_loss_clipped": _number(log_loss(label, filled, clip=0.01)),
        "auc": _number(auc(label, filled)),
        "risk_coverage_area": _number(area_under_risk_coverage(label, answers)),
    }


def classes(table: pd.DataFrame, draws: int) -> list[dict[str, Any]]:
    """FakeAVCeleb's four classes: how each is judged, and told from what is all real."""
    picture, voice = table["label_visual"], table["label_audio"]
    real = table[(picture == 0) & (voice == 0)]
    found = []
    for name, (visual, audio, words) in CLASSES.items():
        rows = table[(picture == visual) & (voice == audio)]
        if len(rows):
            found.append({"class": name, "words": words} | _kind(rows, real, draws))
    return found


def methods(table: pd.DataFrame, draws: int) -> list[dict[str, Any]]:
    """Each way of forging that the manifest names, told from all real clips."""
    real = table[table["label"] == 0]
    named = table[(table["label"] == 1) & (table["method"] != "")]
    return [{"method": name} | _kind(rows, real, draws) for name, rows in named.groupby("method")]


def fusion(table: pd.DataFrame, draws: int) -> dict[str, Any]:
    """The fused answer less the best branch's, and less its own without each branch.

    Differences of AUC and of log-loss on the clips that both judged, against the clip's label. The
    best branch is the one with the highest AUC against that label, too: one that only knows forged
    voices would be no rival where pictures are forged as well.
    """
    aucs = {name: _against_clips(table, name) for name in BRANCHES}
    others = {}
    if not all(np.isnan(value) for value in aucs.values()):
        best = max(aucs, key=lambda name: np.nan_to_num(aucs[name], nan=-1.0))
        others[f"best branch alone: {best}"] = probability_of(table, best)
    for name in BRANCHES:
        if table[f"without_{name}"].notna().any():
            others[f"without {name}"] = table[f"without_{name}"]
    return {name: _difference(table, other, draws) for name, other in others.items()}


def _against_clips(table: pd.DataFrame, branch: str) -> float:
    answers = probability_of(table, branch)
    known = table["label"].notna() & answers.notna()
    return auc(table["label"][known].to_numpy(float), answers[known].to_numpy(float))


def localisation(table: pd.DataFrame) -> dict[str, Any] | None:
    """AP and AR of forged seconds, over the clips that name theirs and the real ones; or None."""
    named = table["segments"].map(len) > 0
    rows = table[(named | (table["label"] == 0)) & (table["found_segments"] != "")]
    if not named[rows.index].any():
        return None
    truth = rows["segments"].tolist()
    proposals = [proposals_of(text) for text in rows["found_segments"]]
    return {
        "clips": len(rows),
        "segments": sum(map(len, truth)),
        "proposals": sum(map(len, proposals)),
        **{f"ap@{iou}": average_precision_at_iou(truth, proposals, iou) for iou in AP_IOUS},
        **{f"ar@{count}": average_recall(truth, proposals, count) for count in AR_PROPOSALS},
    }


def mistakes(table: pd.DataFrame, most: int = 10) -> pd.DataFrame:
    """Rows whose fused answer is on the wrong side of 0.5, the surest first."""
    wrong = (table["fake_probability"] > 0.5) != (table["label"] == 1)
    rows = table[wrong & table["fake_probability"].notna() & table["label"].notna()]
    sure = (rows["fake_probability"] - 0.5).abs()
    return rows.loc[sure.sort_values(ascending=False, kind="stable").index[:most]]


def _kind(rows: pd.DataFrame, real: pd.DataFrame, draws: int) -> dict[str, Any]:
    answered = rows[rows["fake_probability"].notna()]
    result: dict[str, Any] = {
        "clips": len(rows),
        "answered": len(answered),
        "mean_probability": _number(answered["fake_probability"].mean()),
        "verdicts": {str(k): int(n) for k, n in answered["verdict"].value_counts().items() if k},
    }
    if not rows.index.equals(real.index):
        both = pd.concat([answered, real[real["fake_probability"].notna()]])
        label = both.index.isin(answered.index).astype(float)
        result["auc"] = _with_interval(
            label, both["fake_probability"].to_numpy(float), both["group"].to_numpy(), auc, draws
        )
    return result


def _difference(table: pd.DataFrame, other: pd.Series, draws: int) -> dict[str, Any]:
    known = table["label"].notna() & table["fake_probability"].notna() & other.notna()
    label = table["label"][known].to_numpy(float)
    fused = table["fake_probability"][known].to_numpy(float)
    group, second = table["group"][known].to_numpy(), other[known].to_numpy(float)
    result: dict[str, Any] = {"clips": int(known.sum())}
    for name in ("auc", "log_loss"):
        measure = PROBABILITIES[name]
        low, high = paired_interval(label, fused, second, group, measure, draws)
        result[name] = {
            "value": _number(measure(label, fused) - measure(label, second)),
            "low": _number(low),
            "high": _number(high),
        }
    return result


def _offsets(table: pd.DataFrame) -> dict[str, Any]:
    """How far the measured offset is from the manifest's `offset_ms`, on clips that name one."""
    true = table["offset_ms"]
    error = (table["lipsync_offset_ms"] - true)[true.notna() & table["lipsync_offset_ms"].notna()]
    far = error.abs().to_numpy()
    return {
        "clips": len(far),
        "median_error_ms": _number(float(np.median(far))) if len(far) else None,
        "within_one_picture": _number(float(np.mean(far <= PICTURE + 1e-6))) if len(far) else None,
    }


def _with_interval(
    label: np.ndarray, value: np.ndarray, group: np.ndarray, measure: Figure, draws: int
) -> dict[str, float | None]:
    low, high = grouped_interval(label, value, group, measure, draws)
    return {"value": _number(measure(label, value)), "low": _number(low), "high": _number(high)}


def _bins(clips: int) -> int:
    """Ten bins, or as many as get ten clips each: a share of two clips tells nothing."""
    return int(np.clip(clips // 10, 2, 10))


def _number(value: float) -> float | None:
    """JSON knows no NaN."""
    return None if np.isnan(value) else float(value)
