"""The card's tables are computed from what the recipes wrote."""

import pandas as pd

from training.card import _interval_table


def test_sets_of_fakes_alone_are_set_against_the_real_of_their_side() -> None:
    rows = [("a", "talking/a", 0, -1.0), ("b", "talking/b", 0, 0.0), ("a", "self-face", 1, 2.0)]
    rows += [("b", "self-face", 1, 1.0), ("b", "swap", 1, -2.0)]
    rows += [("c", "dev-x", 0, 5.0), ("d", "dev-x", 1, 4.0), ("e", "dev-y", 1, 6.0)]
    scored = pd.DataFrame(rows, columns=["group", "source", "label", "logit"])
    lines = _interval_table(scored).splitlines()[2:]
    shown = {line.split(" | ")[0].lstrip("| "): line.split(" | ")[1:] for line in lines}
    assert set(shown) == {"self-face", "swap", "dev-x", "dev-y"}
    # Two fakes above both real ones; one below both; a dev fake below its own side's only real one.
    assert shown["self-face"][:2] == ["4", "2"]
    assert shown["self-face"][2].startswith("1.000")
    assert shown["swap"][2].startswith("0.000")
    assert shown["dev-x"][2].startswith("0.000")
    assert shown["dev-y"][2].startswith("1.000")
