"""Pictures of the report, as SVG text that stands in the page itself.

matplotlib's `Figure` is used without pyplot: nothing global, no display.
"""

from __future__ import annotations

import io
import re
from collections.abc import Mapping, Sequence

import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.ticker import MaxNLocator

INK, FAINT = "#222222", "#bbbbbb"
COLOURS = {"fused": "#222222", "picture": "#0072b2", "voice": "#d55e00", "lip-sync": "#009e73"}
"""Told apart by colour-blind readers too (Okabe and Ito's palette)."""
REAL, FAKE = "#0072b2", "#d55e00"


def roc(curves: Mapping[str, tuple[np.ndarray, np.ndarray]]) -> str:
    """False alarms against fakes found, of each modality: (fpr, tpr), float [n] each."""
    figure, axes = _square("real clips called fake", "fakes found")
    axes.plot([0, 1], [0, 1], color=FAINT, linewidth=1, linestyle=":")
    for name, (false_alarms, found) in curves.items():
        axes.step(false_alarms, found, where="post", color=COLOURS[name], label=name, linewidth=1.6)
    axes.legend(frameon=False, loc="lower right")
    return _svg(figure, "ROC curves: " + ", ".join(curves))


def reliability(curves: Mapping[str, Sequence[tuple[float, float, int]]]) -> str:
    """What was said against what was so: (mean probability, share of fakes, clips) of each bin."""
    figure, axes = _square("probability that was given", "share that was fake")
    axes.plot([0, 1], [0, 1], color=FAINT, linewidth=1, linestyle=":")
    for name, bins in curves.items():
        said, true, counts = (np.array(column, float) for column in zip(*bins, strict=True))
        axes.plot(said, true, color=COLOURS[name], linewidth=1.2, label=name)
        axes.scatter(said, true, s=6 + 60 * counts / counts.sum(), color=COLOURS[name], zorder=3)
    axes.legend(frameon=False, loc="upper left")
    return _svg(figure, "Reliability diagram: " + ", ".join(curves))


def histogram(label: np.ndarray, probability: np.ndarray) -> str:
    """How probabilities of real and of fake clips are spread: label 0/1 [n], probability [n]."""
    figure = Figure(figsize=(4.2, 3.2), layout="constrained")
    axes = _plain(figure.subplots(), "probability of a fake", "clips")
    edges = np.linspace(0, 1, 21)
    both = [probability[label == 0], probability[label == 1]]
    axes.hist(both, bins=edges.tolist(), color=[REAL, FAKE], label=["real", "fake"], stacked=True)
    axes.set_xlim(0, 1)
    axes.yaxis.set_major_locator(MaxNLocator("auto", steps=[1, 2, 5, 10], integer=True))
    axes.legend(frameon=False)
    return _svg(figure, "Histogram of the fused probability, real and fake clips")


def risk_coverage(coverage: np.ndarray, risk: np.ndarray) -> str:
    """Share of wrong verdicts among the surest so many clips: float [n] each, rising coverage."""
    figure, axes = _square("share of the clips, surest first", "share of them judged wrongly")
    axes.plot(coverage, risk, color=INK, linewidth=1.6)
    axes.set_ylim(0, max(0.55, float(risk.max()) * 1.05))
    return _svg(figure, "Risk-coverage curve")


def _square(x: str, y: str) -> tuple[Figure, Axes]:
    figure = Figure(figsize=(4.2, 3.9), layout="constrained")
    axes = _plain(figure.subplots(), x, y)
    axes.set_xlim(-0.02, 1.02)
    axes.set_ylim(-0.02, 1.02)
    return figure, axes


def _plain(axes: Axes, x: str, y: str) -> Axes:
    axes.set_xlabel(x)
    axes.set_ylabel(y)
    for side in ("top", "right"):
        axes.spines[side].set_visible(False)
    axes.tick_params(colors=INK)
    return axes


def _svg(figure: Figure, title: str) -> str:
    """The figure as an <svg> element that a screen reader can name; the same at every run."""
    buffer = io.StringIO()
    figure.savefig(buffer, format="svg", metadata={"Date": None, "Creator": None})
    text = buffer.getvalue()
    drawing = text[text.index("<svg") :]
    # Several drawings share a page: ids must not meet.
    mark = re.sub(r"\W+", "-", title.lower())
    drawing = re.sub(r'\bid="([^"]+)"', rf'id="{mark}-\1"', drawing)
    drawing = re.sub(r'"#([\w-]+)"', rf'"#{mark}-\1"', drawing)
    drawing = re.sub(r"url\(#([\w-]+)\)", rf"url(#{mark}-\1)", drawing)
    return drawing.replace("<svg", f'<svg role="img" aria-label="{title}"', 1)
