"""The picture of a robustness run: one small plot a corruption, all on the same scale."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pandas as pd
from matplotlib.axes import Axes
from matplotlib.figure import Figure

COLUMNS = 6
INK, AUC, ALARMS = "#222222", "#0072b2", "#d55e00"


def plot(table: pd.DataFrame, path: Path) -> None:
    """Draw the fused rows of `robustness.figures` as PNG: AUC with its interval, and false alarms,
    from the clean clips on the left to the last level. A corruption of one level is two points.
    """
    fused = table[table["modality"] == "fused"]
    clean = fused[fused["corruption"] == "clean"].iloc[0]
    parts = [part for name, part in fused.groupby("corruption", sort=False) if name != "clean"]
    columns = min(COLUMNS, max(1, len(parts)))
    rows = -(-len(parts) // columns)
    figure = Figure(figsize=(2.3 * columns + 0.4, 2.1 * rows + 0.9), layout="constrained")
    figure.suptitle(
        f"Corrupted clips against the same clips as they are ({clean['real']} real, "
        f"{clean['fake']} fake)\n",
        fontsize=10,
    )
    grid = figure.subplots(rows, columns, squeeze=False, sharey=True).flatten()
    for axes, part in zip(grid, parts, strict=False):
        _panel(axes, part)
    for axes in grid[len(parts) :]:
        axes.set_axis_off()
    if parts:
        handles, names = grid[0].get_legend_handles_labels()
        figure.legend(handles, names, loc="outside upper right", ncols=2, frameon=False, fontsize=8)
    figure.savefig(path, dpi=120)


def _panel(axes: Axes, part: pd.DataFrame) -> None:
    """Level 0 is the clean score of the very clips that this corruption concerns."""
    first = part.iloc[0]
    levels = np.r_[0, part["level"].to_numpy(float)]
    for name, colour, meaning in (
        ("auc", AUC, "AUC, 95% interval"),
        ("false_alarms", ALARMS, "real clips called likely fake"),
    ):
        values = np.r_[first[f"clean_{name}"], part[name].to_numpy(float)]
        axes.plot(
            levels, values, color=colour, marker="o", markersize=3, linewidth=1.3, label=meaning
        )
        if name == "auc":
            low, high = (part[f"auc_{end}"].to_numpy(float) for end in ("low", "high"))
            axes.vlines(levels[1:], low, high, color=colour, linewidth=4, alpha=0.25)
    axes.axhline(0.5, color="#bbbbbb", linewidth=0.8, linestyle=":")
    axes.set_ylim(-0.03, 1.03)
    axes.set_xlim(-0.4, max(2, levels[-1]) + 0.4)
    lone = first["levels"] == 1
    names = ["corrupted"] if lone else [f"{value:g}" for value in part["value"]]
    axes.set_xticks(levels, ["clean", *names], fontsize=7)
    axes.tick_params(axis="y", labelsize=7)
    words = first["unit"] + (" (one level)" if lone else "")
    axes.set_xlabel(words, fontsize=7, labelpad=1)
    axes.set_title(f"{first['corruption']}, {first['clips']} clips", fontsize=8, color=INK)
    for side in ("top", "right"):
        axes.spines[side].set_visible(False)
