"""The figures of a summary as tables: rows of cells under a head, for whatever shows them."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np
import pandas as pd

from avfake.types import BRANCHES
from evaluation.protocols import MODALITIES
from evaluation.summary import mistakes as worst

NAMES = {"fused": "fused", "visual": "picture", "audio": "voice", "lipsync": "lip-sync"}
FIGURES = {
    "log_loss": "log-loss",
    "log_loss_clipped": "log-loss, clipped",
    "brier": "Brier",
    "ece": "ECE",
    "auc": "AUC",
    "eer": "EER",
    "average_precision": "AP",
    "tpr_at_1_fpr": "found at 1% alarms",
    "tpr_at_5_fpr": "found at 5% alarms",
    "log_wp_at_0.1": "log(wP) at 0.1",
    "log_wp_at_0.5": "log(wP) at 0.5",
    "log_wp_at_0.9": "log(wP) at 0.9",
}
COSTS = {"min_dcf": "minDCF", "act_dcf": "actDCF", "cllr": "Cllr"}


@dataclass(frozen=True)
class Cell:
    """What a table shows: its text, and small print below it."""

    text: str
    small: str = ""
    path: bool = False


@dataclass(frozen=True)
class Table:
    """Rows of cells under a head, with a sentence above."""

    caption: str
    head: Sequence[str]
    rows: Sequence[Sequence[Cell]] = field(default_factory=tuple)


def quality(summary: dict[str, Any]) -> list[Table]:
    """Figures as rows, modalities as columns: twelve columns of numbers fit no page."""
    modalities = summary["modalities"]

    def row(key: str, name: str) -> list[Cell]:
        parts = (modalities[m]["figures"].get(key) for m in MODALITIES)
        return [Cell(name), *(_cell(part) if part else Cell("") for part in parts)]

    counted = [
        [Cell("clips"), *(_count(modalities[m]) for m in MODALITIES)],
        [Cell("answered"), *(Cell(_share(modalities[m]["coverage"])) for m in MODALITIES)],
    ]
    head = ("", *(NAMES[m] for m in MODALITIES))
    found = [Table("", head, counted + [row(*item) for item in FIGURES.items()])]
    voice = modalities["audio"]["figures"]
    costs = [[Cell(name), _cell(voice[key])] for key, name in COSTS.items()]
    found.append(Table("Costs of ASVspoof 5", ("", "voice"), costs))
    offset = modalities["lipsync"].get("offset")
    if offset and offset["clips"]:
        cells = (str(offset["clips"]), number(offset["median_error_ms"], 0) + " ms")
        within = _share(offset["within_one_picture"])
        found.append(
            Table(
                "Offset of lips and sound against the one that the manifest names",
                ("clips", "median error", "within one picture (40 ms)"),
                [[Cell(text) for text in (*cells, within)]],
            )
        )
    return found


def reasons(summary: dict[str, Any]) -> list[Table]:
    """Why clips got no probability."""
    reasons = summary["clips"]["reasons"]
    if not reasons:
        return []
    rows = [[Cell(name), Cell(str(count))] for name, count in reasons.items()]
    return [Table("", ("reason", "clips"), rows)]


def kinds(summary: dict[str, Any]) -> list[Table]:
    """By what is forged, and how."""
    head = ("", "clips", "answered", "mean probability", "likely fake", "uncertain", "likely real")
    tables = []
    for key, label, caption in (
        ("classes", "class", "Picture and voice, real or fake; AUC against all-real clips"),
        ("methods", "method", "Ways of forging; AUC against all real clips"),
    ):
        rows = [
            [
                Cell(kind[label], kind.get("words", "")),
                Cell(str(kind["clips"])),
                Cell(str(kind["answered"])),
                Cell(number(kind["mean_probability"], 2)),
                *(
                    Cell(str(kind["verdicts"].get(verdict, 0)) if kind["verdicts"] else "-")
                    for verdict in ("likely fake", "uncertain", "likely real")
                ),
                _cell(kind["auc"]) if "auc" in kind else Cell(""),
            ]
            for kind in summary[key]
        ]
        if rows:
            tables.append(Table(caption, (*head, "AUC"), rows))
    return tables


def fusion(summary: dict[str, Any]) -> list[Table]:
    """What the fusion gains on each branch alone."""
    rows = [
        [
            Cell(_named(name)),
            Cell(str(part["clips"])),
            _signed(part["auc"]),
            _signed(part["log_loss"]),
        ]
        for name, part in summary["fusion"].items()
    ]
    head = ("fused, compared with", "clips", "AUC gained", "log-loss added (less is better)")
    return [Table("", head, rows)] if rows else []


def localisation(summary: dict[str, Any]) -> list[Table]:
    """Whether the forged seconds were found."""
    found = summary["localisation"]
    if found is None:
        return []
    names = [name for name in found if "@" in name]
    caption = (
        f"{found['segments']} forged stretches and {found['proposals']} that were pointed out, in "
        f"{found['clips']} clips"
    )
    return [
        Table(
            caption,
            [name.replace("ap@", "AP@").replace("ar@", "AR@") for name in names],
            [[Cell(number(found[name])) for name in names]],
        )
    ]


def mistakes(table: pd.DataFrame) -> list[Table]:
    """The worst mistakes of joined scores."""
    rows = [
        [
            Cell(row["path"], path=True),
            Cell("fake" if row["label"] == 1 else "real"),
            Cell(number(row["fake_probability"], 2)),
            *(Cell(number(row[f"{branch}_probability"], 2)) for branch in BRANCHES),
        ]
        for row in worst(table).to_dict("records")
    ]
    head = ("clip", "truth", "fused", *(NAMES[branch] for branch in BRANCHES))
    return [Table("", head, rows)] if rows else []


def _cell(figure: Mapping[str, float | None]) -> Cell:
    return Cell(number(figure["value"]), interval(figure))


def _signed(figure: Mapping[str, float | None]) -> Cell:
    value = figure["value"]
    return Cell("-" if value is None else f"{value:+.3f}", interval(figure, "+.2f"))


def interval(figure: Mapping[str, float | None], form: str = ".2f") -> str:
    """0.61 to 0.84; empty where there is none."""
    low, high = figure["low"], figure["high"]
    return "" if low is None or high is None else f"{low:{form}} to {high:{form}}"


def _count(part: Mapping[str, Any]) -> Cell:
    return Cell(str(part["clips"]), f"{part['real']} real, {part['fake']} fake")


def _share(value: float | None) -> str:
    return number(None if value is None else 100 * value, 0) + ("%" if value is not None else "")


def _named(text: str) -> str:
    for name in BRANCHES:
        text = text.replace(name, NAMES[name])
    return text


def number(value: float | None, places: int = 3) -> str:
    """A figure, or "-" where there is none."""
    return "-" if value is None or np.isnan(value) else f"{value:.{places}f}"
