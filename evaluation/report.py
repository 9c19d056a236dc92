"""A report that a sceptic can check: one HTML page with pictures, and every figure as JSON.

    python -m evaluation.report scores.parquet --manifest clips.csv --out report/

Reads a score table (see `evaluation.protocols`: that of `evaluation.score`, or any other
detector's) and the manifest with the truth. Writes `report/index.html`, which needs no other file,
and `report/metrics.json`.
"""

from __future__ import annotations

import argparse
import json
import sys
from collections.abc import Iterable
from importlib.resources import files
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
from jinja2 import Environment, StrictUndefined

from avfake.lines import writing
from avfake.types import BRANCHES, AvfakeError
from evaluation import plots, tables
from evaluation.metrics.abstention import risk_coverage
from evaluation.metrics.classification import PRIOR_LOG_LOSS, roc
from evaluation.protocols import (
    MODALITIES,
    TableError,
    join,
    probability_of,
    read_manifest,
    read_scores,
    select,
    truth_of,
)
from evaluation.summary import summarize

FEWEST = 10  # clips of a class: an interval drawn from fewer promises too much
GLOSSARY = {
    "log-loss": "what DFDC ranked by, natural logarithm, less is better. Saying 50% of everything "
    f"scores {PRIOR_LOG_LOSS:.4f}; being surely wrong once costs more than being right often "
    "earns. 'Clipped' holds probabilities within 0.01 and 0.99.",
    "Brier": "mean squared distance from the truth; 0.25 for 50% of everything.",
    "ECE": "how far probabilities are from the shares that came true, over up to ten bins of "
    "equally many clips, at least ten each. With few clips it is never near 0, even for perfect "
    "probabilities.",
    "AUC": "the chance that a fake gets a higher probability than a real clip; 0.5 is guessing.",
    "EER": "the error rate at which as many real clips are called fake as fakes real.",
    "AP": "precision, averaged over recall; guessing gets the share of fakes.",
    "found at 1% / 5% alarms": "share of the fakes found if so many real clips may be called "
    "fake. With fewer than 100 (20) real clips no alarm at all is allowed.",
    "log(wP) at 0.1 / 0.5 / 0.9": "DFDC's weighted precision when that share of the fakes is "
    "found, as if fakes were a hundred times rarer than here; 0 is perfect, guessing on a balanced "
    "set gives -4.6.",
    "minDCF, actDCF, Cllr": "costs of ASVspoof 5 for the voice: at the best threshold, at the one "
    "that calibrated answers should use, and of the probabilities themselves. 1 is what saying "
    "nothing costs.",
    "AP@IoU, AR@N": "forged stretches found that overlap the true ones by so much; forged "
    "stretches found among the N surest of each clip (the rules of LAV-DF and AV-Deepfake1M).",
    "RvRa, RvFa, FvRa, FvFa": "real or fake picture (v), real or fake voice (a), as FakeAVCeleb "
    "names them.",
}


def write_report(
    table: pd.DataFrame, missing: list[str], out: Path, title: str, prior: float, draws: int
) -> dict[str, Any]:
    """Write index.html and metrics.json for joined scores; returns what metrics.json holds.

    Raises AvfakeError `not_writable`.
    """
    with writing(out):
        out.mkdir(parents=True, exist_ok=True)
    summary = summarize(table, missing, prior, draws)
    html = page(table, summary, title)
    with writing(out):
        (out / "metrics.json").write_text(json.dumps(summary, indent=2, allow_nan=False) + "\n")
        (out / "index.html").write_text(html, "utf-8")
    return summary


def page(table: pd.DataFrame, summary: dict[str, Any], title: str) -> str:
    """The HTML page."""
    environment = Environment(autoescape=True, undefined=StrictUndefined, trim_blocks=True)
    template = environment.from_string(
        files("evaluation").joinpath("report.html.j2").read_text("utf-8")
    )
    abstained = summary["abstention"]
    return template.render(
        title=title,
        subtitle=_subtitle(summary),
        lead=_lead(summary),
        warnings=_warnings(summary),
        abstention=(
            f"{abstained['answered']} of {abstained['labelled']} labelled clips got a probability. "
            f"A submission must say something of all: with the others at {abstained['prior']:g}, "
            f"log-loss is {tables.number(abstained['log_loss'])} and AUC "
            f"{tables.number(abstained['auc'])}."
            if abstained["labelled"]
            else "No clip of the manifest has a label."
        ),
        tables={
            "quality": tables.quality(summary),
            "abstention": tables.reasons(summary),
            "kinds": tables.kinds(summary),
            "fusion": tables.fusion(summary),
            "localisation": tables.localisation(summary),
            "mistakes": tables.mistakes(table),
        },
        plots=_plots(table, summary),
        glossary=GLOSSARY,
    )


def _subtitle(summary: dict[str, Any]) -> str:
    clips = summary["clips"]
    models = ", ".join(name[:12] for name in clips["models"]) or "not named"
    return (
        f"{clips['scored']} clips scored of {clips['in_manifest']} in the manifest: "
        f"{clips['real']} real, {clips['fake']} fake, {clips['people']} people. Models: {models}."
    )


def _lead(summary: dict[str, Any]) -> str:
    """The page in two sentences, for who reads no further."""
    auc = summary["modalities"]["fused"]["figures"]["auc"]
    loss = summary["modalities"]["fused"]["figures"]["log_loss"]["value"]
    if auc["value"] is None or loss is None:
        return "The fused answer cannot be judged here: that needs answers on real and fake clips."
    if auc["low"] is None:
        said = "there are too few people to say how sure that is"
    elif min(summary["modalities"]["fused"][kind] for kind in ("real", "fake")) < FEWEST:
        said = "there are too few clips to say how sure that is"
    else:
        better = {True: "better than guessing", False: "not shown to be better than guessing"}
        said = f"95% interval {tables.interval(auc)}, {better[auc['low'] > 0.5]}"
        if auc["high"] < 0.5:
            said = f"95% interval {tables.interval(auc)}, worse than guessing"
    against = "less" if loss < PRIOR_LOG_LOSS else "no less"
    return (
        f"A fake gets a higher probability than a real clip {auc['value']:.0%} of the time "
        f"(AUC; {said}). The log-loss is {loss:.3f}, {against} than the {PRIOR_LOG_LOSS:.4f} of "
        "saying 50% of everything."
    )


def _warnings(summary: dict[str, Any]) -> list[str]:
    clips, notes = summary["clips"], []
    if clips["missing"]:
        notes.append(
            f"In the manifest but not among the scores, and so without part in this: "
            f"{clips['missing']}, such as {clips['missing_such_as'][0]}."
        )
    if len(clips["models"]) > 1:
        notes.append("The scores are of different models: score again with one.")
    least = min(clips["real"], clips["fake"])
    if 0 < least < 50:
        notes.append(
            f"There are {clips['real']} real and {clips['fake']} fake clips: intervals are wide, "
            "and small differences mean nothing."
        )
    parts = summary["modalities"]
    unsaid = [tables.NAMES[name] for name in BRANCHES if parts[name]["against"] == "clip"]
    if unsaid:
        notes.append(
            f"The manifest does not say which clips are forged in {' or '.join(unsaid)}, so these "
            "answers are held against the whole clip: what a branch cannot see counts as its "
            "mistake."
        )
    notes += [
        f"{tables.NAMES[name]}: {part['note']}." for name, part in parts.items() if "note" in part
    ]
    return notes


def _plots(table: pd.DataFrame, summary: dict[str, Any]) -> dict[str, str]:
    """SVG by name; empty where there is nothing to draw."""
    curves = {}
    for name in MODALITIES:
        truth, value = truth_of(table, name)[0], probability_of(table, name)
        known = truth.notna() & value.notna()
        if truth[known].nunique() == 2:
            curves[tables.NAMES[name]] = roc(
                truth[known].to_numpy(float), value[known].to_numpy(float)
            )[:2]
    bins = {
        tables.NAMES[name]: [
            (bin["probability"], bin["fakes"], bin["clips"]) for bin in part["reliability"]
        ]
        for name, part in summary["modalities"].items()
        if part["reliability"]
    }
    labelled = table[table["label"].notna()]
    label = labelled["label"].to_numpy(float)
    fused = labelled["fake_probability"].to_numpy(float)
    answered = ~np.isnan(fused)
    return {
        "roc": plots.roc(curves) if curves else "",
        "reliability": plots.reliability(bins) if bins else "",
        "histogram": plots.histogram(label[answered], fused[answered]) if answered.any() else "",
        "risk": plots.risk_coverage(*risk_coverage(label, fused)) if answered.any() else "",
    }


def main(arguments: Iterable[str] | None = None) -> None:
    parser = argparse.ArgumentParser(
        prog="python -m evaluation.report", description=__doc__.split("\n")[0]
    )
    parser.add_argument("scores", type=Path, help="score table, Parquet or CSV")
    parser.add_argument("--manifest", type=Path, required=True, help="the truth")
    parser.add_argument("--out", type=Path, required=True, help="folder to write")
    parser.add_argument(
        "--where", action="append", default=[], metavar="COLUMN=VALUE", help="only these rows"
    )
    parser.add_argument("--title", help="of the page (default: the manifest's name)")
    parser.add_argument(
        "--prior",
        type=float,
        default=0.5,
        help="stands for clips without an answer (default: 0.5)",
    )
    parser.add_argument("--draws", type=int, default=1000, help="of the bootstrap (default: 1000)")
    options = parser.parse_args(None if arguments is None else list(arguments))
    try:
        if not 0 <= options.prior <= 1:
            raise TableError("--prior is a probability from 0 to 1.")
        if options.draws < 1:
            raise TableError("--draws must be 1 or more.")
        manifest = select(read_manifest(options.manifest), options.where)
        table, missing = join(read_scores(options.scores), manifest)
        title = options.title or f"How well are fakes found? {options.manifest.stem}"
        summary = write_report(table, missing, options.out, title, options.prior, options.draws)
    except (AvfakeError, TableError) as error:
        print(f"evaluation.report: {error}", file=sys.stderr)
        sys.exit(2)
    print(_lead(summary))
    print(f"The whole report: {options.out / 'index.html'}")


if __name__ == "__main__":
    main()
