"""Is one detector better than another on the same clips, or was it luck?

    python -m evaluation.compare A.parquet B.csv --manifest clips.csv [--branch audio]

A and B are score tables (`evaluation.protocols`). Only clips that both answered count, and it is
said how many did not: whoever abstains from what is hard is not made better by it. Differences of
log-loss, Brier score and AUC come with 95% intervals over people, drawn for both at once; the AUCs
also with DeLong's test, which takes each clip by itself. Exit code 2 for tables that cannot be
compared.
"""

from __future__ import annotations

import argparse
import sys
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import pandas as pd
from rich.console import Console
from rich.table import Table

from evaluation.metrics.classification import auc, brier, log_loss
from evaluation.metrics.intervals import DeLong, delong, paired_interval
from evaluation.protocols import (
    MODALITIES,
    TableError,
    probability_of,
    read_manifest,
    read_scores,
    select,
    truth_of,
)


@dataclass(frozen=True)
class Measure:
    """A figure of merit; `sign` is 1 where more is better, -1 where less is."""

    name: str
    figure: Callable[[np.ndarray, np.ndarray], float]
    sign: int


MEASURES = (
    Measure("log-loss", log_loss, -1),
    Measure("log-loss, 0.01 to 0.99", lambda label, p: log_loss(label, p, clip=0.01), -1),
    Measure("Brier score", brier, -1),
    Measure("AUC", auc, 1),
)


@dataclass(frozen=True)
class Pairs:
    """The clips that two detectors both answered, and how many they did not."""

    label: np.ndarray  # [n], 0 real, 1 fake
    first: np.ndarray  # [n], probability of being fake
    second: np.ndarray  # [n]
    group: np.ndarray  # [n], people
    only_first: int
    only_second: int
    neither: int
    unlabelled: int  # clips of the manifest whose truth nobody knows: not among those above
    own_truth: bool  # the branch was measured against labels of its own

    def __len__(self) -> int:
        return len(self.label)


@dataclass(frozen=True)
class Difference:
    """A measure of both, their difference (first - second) and its 95% interval over people."""

    measure: Measure
    first: float
    second: float
    low: float
    high: float

    @property
    def difference(self) -> float:
        return self.first - self.second


def pair(first: pd.DataFrame, second: pd.DataFrame, manifest: pd.DataFrame, modality: str) -> Pairs:
    """The clips of `manifest` with a label and an answer of both score tables.

    Raises TableError where there are none.
    """
    truth, own = truth_of(manifest, modality)
    answers = [
        probability_of(table.set_index("path"), modality).reindex(manifest["path"]).to_numpy(float)
        for table in (first, second)
    ]
    known = truth.notna().to_numpy()
    one, two = (~np.isnan(values) & known for values in answers)
    both = one & two
    if not known.any():
        raise TableError("The manifest labels no clip: nothing can be compared.")
    if not both.any():
        raise TableError(
            f"No labelled clip of the manifest has a {modality} score in both tables: "
            f"A scored {one.sum()} of them, B {two.sum()}."
        )
    return Pairs(
        label=truth.to_numpy(float)[both],
        first=answers[0][both],
        second=answers[1][both],
        group=manifest["group"].to_numpy()[both],
        only_first=int((one & ~two).sum()),
        only_second=int((two & ~one).sum()),
        neither=int((known & ~one & ~two).sum()),
        unlabelled=int((~known).sum()),
        own_truth=own,
    )


def compare(pairs: Pairs, draws: int) -> tuple[list[Difference], DeLong]:
    """Every measure with its interval from `draws` draws of people, and DeLong's test."""
    label, first, second = pairs.label, pairs.first, pairs.second
    found = [
        Difference(
            measure,
            measure.figure(label, first),
            measure.figure(label, second),
            *paired_interval(label, first, second, pairs.group, measure.figure, draws),
        )
        for measure in MEASURES
    ]
    return found, delong(label, first, second)


def show(pairs: Pairs, found: list[Difference], test: DeLong, console: Console) -> None:
    """Print the clips that counted, a table of the measures, and what to beware of."""
    real, people = int((pairs.label == 0).sum()), len(set(pairs.group))
    console.print(
        f"{len(pairs)} clips of {people} people scored by both "
        f"({real} real, {len(pairs) - real} fake)."
    )
    console.print(
        f"Left out: {pairs.only_first} that only A scored, {pairs.only_second} that only B did, "
        f"{pairs.neither} that neither did, {pairs.unlabelled} without a label.",
        soft_wrap=True,
    )
    table = Table(box=None, pad_edge=False)
    for column in ("", "A", "B", "A - B", "95% interval", "better"):
        table.add_column(column, justify="left" if column in ("", "better") else "right")
    for row in found:
        table.add_row(
            row.measure.name,
            _number(row.first),
            _number(row.second),
            _number(row.difference, "+"),
            _interval(row.low, row.high),
            _better(row.low, row.high, row.measure.sign),
        )
    table.add_row(
        "AUC, DeLong",
        _number(test.first),
        _number(test.second),
        _number(test.difference, "+"),
        _interval(test.low, test.high),
        _better(test.low, test.high, 1),
    )
    console.print(table)
    if not np.isnan(test.p):
        console.print(f"DeLong: z = {test.z:.2f}, p = {test.p:.2g}; takes each clip by itself.")
    if real in (0, len(pairs)):
        only = "real" if real else "fake"
        console.print(f"All of these clips are {only}: there is no AUC.")
    if people < 2:
        console.print("All of these clips show one person: there is no interval over people.")
    if not pairs.own_truth:
        console.print("The manifest has no labels of this branch: measured against the clip's.")


def _number(value: float, sign: str = "") -> str:
    return "-" if np.isnan(value) else f"{value:{sign}.4f}"


def _interval(low: float, high: float) -> str:
    return "-" if np.isnan(low) else f"{low:+.4f} to {high:+.4f}"


def _better(low: float, high: float, sign: int) -> str:
    """The detector whose lead the interval bears out."""
    if np.isnan(low):
        return "-"
    if low <= 0 <= high:
        return "neither"
    return "A" if (low > 0) == (sign > 0) else "B"


def main(arguments: list[str] | None = None) -> None:
    parser = argparse.ArgumentParser(
        prog="python -m evaluation.compare", description=__doc__.splitlines()[0]
    )
    parser.add_argument("first", type=Path, metavar="A", help="score table")
    parser.add_argument("second", type=Path, metavar="B", help="score table")
    parser.add_argument("--manifest", type=Path, required=True, help="the clips' truth")
    parser.add_argument("--branch", choices=MODALITIES, default="fused", help="(default: fused)")
    parser.add_argument(
        "--where", action="append", default=[], metavar="COLUMN=VALUE", help="only these rows"
    )
    parser.add_argument("--draws", type=int, default=1000, help="of the bootstrap (default: 1000)")
    options = parser.parse_args(arguments)
    if options.draws < 1:
        parser.error("--draws must be 1 or more")
    try:
        pairs = pair(
            read_scores(options.first),
            read_scores(options.second),
            select(read_manifest(options.manifest), options.where),
            options.branch,
        )
    except TableError as error:
        print(f"evaluation.compare: {error}", file=sys.stderr)
        sys.exit(2)
    found, test = compare(pairs, options.draws)
    console = Console(highlight=False)
    console.print(
        f"A {options.first}\nB {options.second}\nbranch {options.branch}",
        markup=False,
        soft_wrap=True,
    )
    show(pairs, found, test, console)


if __name__ == "__main__":
    main()
