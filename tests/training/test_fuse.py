"""Fusion's recipe: fair calibration, honest compositions, thresholds that keep their promise."""

from __future__ import annotations

import itertools
import json
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

torch = pytest.importorskip("torch")
pd = pytest.importorskip("pandas")
pytest.importorskip("sklearn")

import training.fuse as recipe  # noqa: E402
from avfake.types import BRANCHES  # noqa: E402
from evaluation.metrics.classification import auc  # noqa: E402
from training.export import rebuild  # noqa: E402
from training.fuse import (  # noqa: E402
    KINDS,
    ComposedClips,
    Pool,
    calibrate,
    first_half,
    fuse,
    read_scores,
)


def scored(
    seed: int,
    people: int = 60,
    gap: float = 2.0,
    scale: float = 3.0,
    shift: float = 1.0,
    windows: int = 8,
) -> pd.DataFrame:
    """Held-out windows whose true log-odds are `(logit - shift) / scale`."""
    rng = np.random.default_rng(seed)
    rows = []
    for person in range(people):
        label = person % 2
        for window in range(windows):
            # Two normals of variance `gap`, a `gap` apart, have exactly these log-odds.
            odds = rng.normal((label - 0.5) * gap, np.sqrt(gap))
            rows.append(
                {
                    "path": f"{person}-{window}",
                    "group": f"person{person}",
                    "source": "fakes" if label else "reals",
                    "label": label,
                    "logit": scale * odds + shift,
                }
            )
    return pd.DataFrame(rows)


# Calibration


def test_calibration_finds_scale_and_bias() -> None:
    found = calibrate(scored(0, people=600))
    assert found["scale"] == pytest.approx(1 / 3, rel=0.12)
    assert found["bias"] == pytest.approx(-1 / 3, abs=0.1)


def test_calibration_does_not_depend_on_how_many_fakes_there_are() -> None:
    """A branch's log-odds are for even odds: the recipe's share of fakes is not the world's."""
    rows = scored(0, people=600)
    few = rows[(rows["label"] == 0) | (np.arange(len(rows)) % 10 == 0)]
    even, odd = calibrate(rows), calibrate(few)
    assert odd["bias"] == pytest.approx(even["bias"], abs=0.15)
    assert odd["scale"] == pytest.approx(even["scale"], rel=0.2)


def test_a_large_source_does_not_drown_a_small_one() -> None:
    """Many easy pseudo-fakes and a few true fakes: repeating the easy ones changes nothing."""
    true = scored(1, people=40, gap=1.0)
    easy = scored(2, people=40, gap=6.0)
    easy = easy[easy["label"] == 1].assign(source="pseudo")
    once = calibrate(pd.concat([true, easy]))
    often = calibrate(pd.concat([true, *[easy] * 10]))
    assert often["scale"] == pytest.approx(once["scale"], rel=0.02)
    assert often["bias"] == pytest.approx(once["bias"], abs=0.02)


def test_a_branch_the_wrong_way_round_is_refused() -> None:
    rows = scored(0).assign(logit=lambda t: -t["logit"])
    with pytest.raises(ValueError, match="below held-out real"):
        calibrate(rows)


# Composed clips


@pytest.fixture(scope="module")
def pools() -> dict[str, Pool]:
    """Real windows have log-odds below zero and fake ones above, a range a branch."""
    made = {}
    for index, branch in enumerate(BRANCHES):
        rows = scored(index, people=20)
        rows["log_odds"] = np.where(rows["label"] == 1, 1.0, -1.0) * (index + 1)
        made[branch] = Pool.of(rows)
    return made


def test_a_composed_clip_is_fake_if_any_part_is(pools: dict[str, Pool]) -> None:
    logits, present, label = ComposedClips(pools, size=2000)[0]
    assert logits.shape == present.shape == (2000, 3)
    whole = present.bool().all(1)
    parts = (logits[whole] > 0).any(1)
    assert torch.equal(parts, label[whole].bool())
    magnitudes = logits.abs()[present.bool()]
    assert set(magnitudes.tolist()) == {1.0, 2.0, 3.0}


def test_half_of_the_clips_are_real_and_every_kind_occurs(pools: dict[str, Pool]) -> None:
    logits, present, label = ComposedClips(pools, size=4000)[1]
    assert float(label.mean()) == pytest.approx(0.5, abs=0.04)
    whole = present.bool().all(1)
    seen = {tuple(int(v > 0) for v in row) for row in logits[whole].tolist()}
    assert seen == {(0, 0, 0), *(parts for _, parts in KINDS.values())}
    assert sum(share for share, _ in KINDS.values()) == pytest.approx(1.0)


def test_half_are_fake_whatever_is_missing(pools: dict[str, Pool]) -> None:
    """A silent clip is no likelier to be real, and its fake part is one that can be seen."""
    logits, present, label = ComposedClips(pools, size=20_000)[3]
    for pattern in itertools.product([0.0, 1.0], repeat=3):
        rows = (present == torch.tensor(pattern)).all(1)
        if rows.sum() > 200:
            assert float(label[rows].mean()) == pytest.approx(0.5, abs=0.08)
    assert torch.equal((logits > 0).any(1), label.bool())


def test_branches_are_dropped_but_never_all(pools: dict[str, Pool]) -> None:
    logits, present, _ = ComposedClips(pools, size=4000)[2]
    assert set(present.unique().tolist()) == {0.0, 1.0}
    assert (present.sum(1) >= 1).all()
    assert float(present.mean()) == pytest.approx(1 - recipe.DROP, abs=0.03)
    assert not logits[present == 0].any()


def test_an_item_is_always_the_same_and_no_two_are(pools: dict[str, Pool]) -> None:
    clips = ComposedClips(pools, size=64)
    again = ComposedClips(pools, size=64)
    assert all(torch.equal(a, b) for a, b in zip(clips[5], again[5], strict=True))
    assert not torch.equal(clips[5][1], clips[6][1])
    other = ComposedClips(pools, size=64, seed=1)
    assert not torch.equal(clips[5][1], other[5][1])


def test_a_pool_needs_both_real_and_fake() -> None:
    rows = scored(0).assign(log_odds=0.0)
    with pytest.raises(ValueError, match="both real and fake"):
        Pool.of(rows[rows["label"] == 1])


def test_a_clip_comes_from_a_single_person() -> None:
    """People score alike over their windows: mixing people would average that away."""
    rows = scored(0, people=20)
    rows["log_odds"] = rows["group"].str.removeprefix("person").astype(float)
    drawn = Pool.of(rows).draw(np.ones(400, int), np.random.default_rng(0))
    assert set(drawn.tolist()) == set(np.arange(1.0, 20.0, 2))


def test_people_are_halved_the_same_way_every_time() -> None:
    names = pd.Series([f"person{i}" for i in range(400)])
    half = first_half(names)
    assert 0.4 < half.mean() < 0.6
    shuffled = names.sample(frac=1, random_state=0)
    assert (first_half(shuffled) == half[shuffled.index]).all()


def test_true_fakes_stand_alone_where_there_are_any(tmp_path: Path) -> None:
    """Pseudo-fakes leave the picture and the voice; generators not heard join the voice."""
    sources = {
        "visual": ["faces/humans", "self-face", "dev-clips", "dev-clips", "dev-faces"],
        "audio": ["librispeech", "twin-world", "nsf"],
        "lipsync": ["in-sync", "wandering", "dev-real", "dev-fake"],
    }
    real = {"faces/humans", "librispeech", "in-sync", "dev-real"}
    for branch, names in sources.items():
        rows = [
            {"path": name, "group": name, "source": name, "label": int(name not in real)}
            for name in names
        ]
        rows[2]["label"] = 0 if branch == "visual" else rows[2]["label"]
        (tmp_path / branch).mkdir()
        pd.DataFrame(rows).assign(logit=0.5).to_csv(tmp_path / branch / "heldout.csv", index=False)
    folder = tmp_path / "audio" / "leave_out" / "univnet"
    folder.mkdir(parents=True)
    unheard = pd.DataFrame({"source": ["univnet", "librispeech"], "label": [1, 0], "logit": -1.0})
    unheard.assign(path="u", group="u").to_csv(folder / "unheard.csv", index=False)
    tables = read_scores(tmp_path)
    assert tables["visual"]["source"].tolist() == ["dev-clips", "dev-clips", "dev-faces"]
    assert tables["audio"]["source"].tolist() == [
        *("librispeech", "nsf", "unheard-univnet", "librispeech")
    ]
    assert tables["lipsync"]["source"].tolist() == ["in-sync", "wandering", "dev-real"]
    none = pd.read_csv(tmp_path / "visual" / "heldout.csv")
    none[~none["source"].str.startswith("dev-")].to_csv(
        tmp_path / "visual" / "heldout.csv", index=False
    )
    assert read_scores(tmp_path)["visual"]["source"].tolist() == sources["visual"][:2]


# The whole recipe


@pytest.fixture(scope="module", autouse=True)
def one_thread() -> None:
    torch.set_num_threads(1)  # nets this small only wait for each other's threads


@pytest.fixture(scope="module")
def runs(tmp_path_factory: pytest.TempPathFactory) -> Path:
    root = tmp_path_factory.mktemp("runs")
    for index, branch in enumerate(BRANCHES):
        (root / branch).mkdir()
        # One window a person: then a clip's log-odds are a window's, as where all windows agree.
        rows = scored(index, people=640, gap=(4.0, 3.0, 2.0)[index], windows=1)
        rows.to_csv(root / branch / "heldout.csv", index=False)
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(recipe, "SCHEDULE", replace(recipe.SCHEDULE, steps=600))
        patch.setattr(ComposedClips.__init__, "__defaults__", (192, 0))  # smaller batches
        fuse(root)
    return root


def test_the_recipe_writes_what_the_exporter_reads(runs: Path) -> None:
    calibration = json.loads((runs / "fusion" / "calibration.json").read_text())
    assert set(calibration["calibration"]) == set(BRANCHES)
    for entry in calibration["calibration"].values():
        assert entry["scale"] == pytest.approx(1 / 3, rel=0.35)
    thresholds = calibration["thresholds"]
    assert 0 < thresholds["likely_real"] <= 0.5 <= thresholds["likely_fake"] < 1
    net = rebuild("fusion", runs / "fusion" / "best.safetensors")
    assert float(net.temperature) > 0


def test_the_fused_answer_beats_each_branch_alone(runs: Path) -> None:
    figures = json.loads((runs / "fusion" / "metrics.json").read_text())
    by_kind = figures["fused"]["by_kind_of_fake_auc"]
    assert set(by_kind) == set(KINDS)
    assert by_kind["face and voice"] > by_kind["voice converted"] > 0.5
    assert figures["fused"]["auc"] > 0.7
    assert figures["fused"]["log_loss"] < np.log(2)


def test_probabilities_are_calibrated_and_thresholds_keep_their_rates(runs: Path) -> None:
    """On clips composed anew of people whose scores the head was not trained on."""
    calibration = json.loads((runs / "fusion" / "calibration.json").read_text())
    pools = {}
    for branch in BRANCHES:
        rows = pd.read_csv(runs / branch / "heldout.csv")
        entry = calibration["calibration"][branch]
        rows["log_odds"] = entry["scale"] * rows["logit"] + entry["bias"]
        pools[branch] = Pool.of(rows[~first_half(rows["group"])])
    logits, present, label = ComposedClips(pools, size=8000, seed=7)[0]
    net = rebuild("fusion", runs / "fusion" / "best.safetensors")
    with torch.no_grad():
        fake = torch.sigmoid(net(logits, present)[0]).numpy()
    truth = label.numpy()
    assert auc(truth, fake) > 0.7
    for low in (0.1, 0.3, 0.5, 0.7):
        inside = (fake >= low) & (fake < low + 0.2)
        if inside.sum() > 200:
            assert truth[inside].mean() == pytest.approx(fake[inside].mean(), abs=0.12)
    thresholds = calibration["thresholds"]
    assert (fake[truth == 0] >= thresholds["likely_fake"]).mean() < 0.1
    assert (fake[truth == 1] <= thresholds["likely_real"]).mean() < 0.1


def test_a_branch_that_is_missing_is_an_error(runs: Path, tmp_path: Path) -> None:
    with pytest.raises(FileNotFoundError, match="visual"):
        fuse(tmp_path)
