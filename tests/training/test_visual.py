"""The visual recipe on a tiny prepared folder: it learns, resumes, and keeps people apart."""

import argparse
import json
from pathlib import Path

import cv2
import numpy as np
import pandas as pd
import pytest
import torch
from safetensors.torch import load_file
from skimage.data import astronaut

from avfake.crops import box_size
from avfake.models.visual import VisualNet
from training.loop import Schedule
from training.manifest import hashed, held_out
from training.visual import (
    CONFIGS,
    Recipe,
    chosen,
    main,
    measure,
    pair_loss,
    pseudo_crops,
    train,
    watch,
)
from training.visual_data import (
    COLUMNS,
    KINDS,
    Faces,
    PairBatches,
    Studio,
    jitter,
    usable,
)

BOX = np.array([86.0, 65.0, 176.0, 190.0])
POINTS = np.array([[112.0, 112.0], [153.0, 110.0], [135.0, 135.0], [117.0, 156.0], [153.0, 155.0]])
BOXED = COLUMNS[7:]
MODEL = {
    "backbone": "resnet10t",
    "backbone_args": {"channels": [8, 16, 16, 16], "stem_width": 8, "zero_init_last": False},
    "size": 48,
    "stem_pool": False,
}


@pytest.fixture(scope="module")
def prepared(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """One astronaut in many lights is many people here; two frames each; some "true fakes"."""
    root = tmp_path_factory.mktemp("prepared")
    picture = np.ascontiguousarray(astronaut()[:260, 90:350, ::-1])
    rng = np.random.default_rng(0)
    rows = []
    for person in range(14):
        for frame in range(2):
            tint, name = rng.uniform(0.6, 1.0, 3), f"{person:02d}-{frame}.png"
            cv2.imwrite(str(root / name), (picture * tint).astype(np.uint8))
            dev = person >= 10
            row = {"path": name, "split": "dev" if dev else "train", "label": int(person >= 12)}
            row |= {"group": f"person-{person}", "clip": f"{person}.mp4", "time": frame}
            row |= {"source": ("faces/a", "video/b", "dev/clips")[2 if dev else person % 2]}
            known = np.where(person % 3 == 0, np.nan, POINTS).ravel()
            rows.append(row | {"score": 0.9} | dict(zip(COLUMNS[7:], [*BOX, *known], strict=True)))
    pd.DataFrame(rows).to_csv(root / "faces.csv", index=False)
    return root


@pytest.fixture(scope="module")
def studio(prepared: Path) -> Studio:
    faces = Faces.load(prepared)
    return Studio(faces.where((faces.table["split"] == "train").to_numpy()), 48)


def test_reading_shrinks_picture_box_and_points_together(prepared: Path) -> None:
    faces = Faces.load(prepared)
    whole, small = faces.read(2), faces.read(2, tallest=62.5)
    assert whole.box == pytest.approx(BOX)
    assert small.picture.shape == (130, 130, 3)
    assert small.box == pytest.approx(BOX / 2)
    assert small.points == pytest.approx(POINTS / 2)
    assert faces.read(0).points is None
    # Decoded as RGB: the astronaut's suit is orange, not blue.
    ratio = whole.picture[230:255, 60:90].reshape(-1, 3).mean(0)
    assert ratio[0] > ratio[2]


def test_a_missing_column_or_picture_is_named(prepared: Path, tmp_path: Path) -> None:
    table = pd.read_csv(prepared / "faces.csv")
    table.drop(columns="clip").to_csv(tmp_path / "faces.csv", index=False)
    with pytest.raises(ValueError, match="clip"):
        Faces.load(tmp_path)
    table.to_csv(tmp_path / "faces.csv", index=False)
    with pytest.raises(FileNotFoundError, match=r"00-0\.png"):
        Faces.load(tmp_path).read(0)


def test_only_sure_large_sharp_faces_are_trained_on(prepared: Path, tmp_path: Path) -> None:
    table = pd.read_csv(prepared / "faces.csv").iloc[[2, 3, 4, 5]].copy()
    table["path"] = [str(prepared / name) for name in table["path"]]
    picture = cv2.imread(table["path"].iloc[3])
    cv2.imwrite(str(tmp_path / "soft.png"), cv2.GaussianBlur(picture, (0, 0), 8))
    table.iloc[1, table.columns.get_loc("score")] = 0.5
    table.iloc[2, table.columns.get_loc("right")] = table["left"].iloc[2] + 20
    table.iloc[2, table.columns.get_loc("bottom")] = table["top"].iloc[2] + 20
    table.iloc[3, table.columns.get_loc("path")] = str(tmp_path / "soft.png")
    assert usable(Faces(tmp_path, table)).tolist() == [True, False, False, False]


def test_people_are_held_out_whole_and_always_the_same(prepared: Path) -> None:
    faces = Faces.load(prepared)
    aside = held_out(faces.table["group"])
    assert 0 < aside.sum() < len(faces)
    for _, rows in faces.table.groupby("group"):
        assert len(set(aside[rows.index])) == 1
    assert (held_out(faces.where(aside).table["group"])).all()
    shares = np.bincount([hashed(f"someone-{i}", 5) for i in range(2000)], minlength=5) / 2000
    assert shares == pytest.approx(0.2, abs=0.04)


def test_a_pair_differs_by_the_forgery_alone(studio: Studio) -> None:
    for seed in range(30):
        rng = np.random.default_rng(seed)
        kind = list(KINDS)[seed % len(KINDS)]
        real, fake = studio.pair(studio.draw(rng), rng, 1.0, kind)
        assert real.shape == fake.shape == (48, 48, 3)
        # The corners are background: only a codec, which sees the whole, may tell them apart.
        corners = np.ix_([0, 1, -2, -1], [0, 1, -2, -1])
        assert np.abs(real[corners].astype(int) - fake[corners]).mean() < 6
    untouched, fake = studio.pair(0, np.random.default_rng(0), 1.0, "self-inner", augmented=False)
    changed = np.abs(untouched.astype(int) - fake).max(2)
    assert changed[12:40, 12:36].max() > 8
    assert not changed[:2].any()


def test_all_frames_of_a_clip_are_forged_alike(studio: Studio) -> None:
    """Two frames that are one picture give one forgery; another clip of that picture another."""
    table = studio.faces.table
    same = table.assign(path=table["path"].iat[0], **{name: table[name].iat[0] for name in BOXED})
    made = pseudo_crops(Studio(Faces(studio.faces.root, same), 48))
    by_clip = {}
    for clip, rows in made.table[made.table["label"] == 1].groupby("clip"):
        assert rows["source"].nunique() == 1
        first, second = (made.faces[row] for row in rows.index)
        assert np.array_equal(first, second), clip
        by_clip[clip] = first.tobytes()
    assert len(set(by_clip.values())) == len(by_clip) == 10


def test_donors_are_other_people(studio: Studio) -> None:
    rng = np.random.default_rng(0)
    for index in range(len(studio.faces)):
        assert studio.groups[studio.donor(index, rng)] != studio.groups[index]


def test_video_is_drawn_more_often_than_photographs(studio: Studio) -> None:
    rng = np.random.default_rng(0)
    sources = studio.faces.table["source"].iloc[[studio.draw(rng) for _ in range(600)]]
    assert (sources == "video/b").mean() == pytest.approx(0.6, abs=0.06)


def test_batches_depend_on_the_step_alone(studio: Studio) -> None:
    batches = PairBatches(studio, pairs=3, steps=10)
    (first, labels), (again, _), (other, _) = batches[4], batches[4], batches[5]
    assert labels.tolist() == [0, 0, 0, 1, 1, 1]
    assert torch.equal(first, again)
    assert not torch.equal(first, other)


def test_jitter_keeps_the_face_in_the_box() -> None:
    rng = np.random.default_rng(0)
    boxes = np.stack([jitter(BOX, rng) for _ in range(200)])
    scale = np.array([box_size(box) for box in boxes]) / box_size(BOX)
    assert 0.8 <= scale.min() < 0.84
    assert 1.11 < scale.max() <= 1.15
    shift = (boxes[:, :2] + boxes[:, 2:] - BOX[:2] - BOX[2:]) / 2 / box_size(BOX)
    assert 0.07 < np.abs(shift).max() <= 0.08


def test_a_few_steps_learn(studio: Studio) -> None:
    torch.manual_seed(0)
    net, loss = VisualNet(**MODEL), pair_loss(soft=0.0)
    optimiser = torch.optim.AdamW(net.parameters(), lr=3e-3)
    batch = PairBatches(studio, pairs=8, steps=100)[0]
    values = []
    for _ in range(25):
        value = loss(net, batch)
        optimiser.zero_grad()
        value.backward()
        optimiser.step()
        values.append(value.item())
    assert values[0] == pytest.approx(np.log(2), abs=0.05)  # knows nothing at first
    assert np.mean(values[-3:]) < 0.8 * values[0]


def test_training_resumes_to_the_same_weights_and_reports(
    prepared: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    schedule = Schedule(steps=4, lr=1e-3, warmup=1, evaluate_every=2, workers=0)
    recipe = Recipe(MODEL, schedule, pairs=3, watched=8)
    train(prepared, tmp_path / "whole", recipe)
    # Killed on the way to the second evaluation, then run again.
    calls = []

    def watch_and_die(*arguments: object) -> dict[str, float]:
        calls.append(arguments)
        if len(calls) == 2:
            raise KeyboardInterrupt
        return watch(*arguments)

    monkeypatch.setattr("training.visual.watch", watch_and_die)
    with pytest.raises(KeyboardInterrupt):
        train(prepared, tmp_path / "parts", recipe)
    monkeypatch.undo()
    metrics = train(prepared, tmp_path / "parts", recipe)
    whole, parts = (load_file(tmp_path / run / "last.safetensors") for run in ("whole", "parts"))
    assert all(torch.equal(whole[name], parts[name]) for name in whole)

    scored = pd.read_csv(tmp_path / "parts" / "heldout.csv")
    assert scored.columns.tolist() == ["path", "group", "source", "label", "logit"]
    dev = scored["source"].str.startswith("dev-")
    assert set(scored["source"][~dev & (scored["label"] == 1)]) <= set(KINDS)
    assert all(hashed(group, 5) == 0 for group in scored["group"][~dev])
    assert metrics["dev"]["n"] == dev.sum() == 8
    assert metrics["dev"]["fakes"] == 4
    assert metrics["dev_by_clip"]["n"] == 4
    assert metrics == json.loads((tmp_path / "parts" / "metrics.json").read_text())


def test_measures_are_those_of_the_logits() -> None:
    rows = [("a", 0, -2.0), ("b", 0, 1.0), ("a", 1, 0.5), ("c", 1, 3.0)]
    scored = pd.DataFrame(rows, columns=["clip", "label", "logit"]).assign(
        source=["dev-x"] * 4, half=["choose", "choose", "report", "report"]
    )
    metrics = measure(scored)
    assert metrics["pseudo"]["n"] == 0
    assert metrics["dev"]["auc"] == 0.75
    expected = np.mean([np.log1p(np.exp(x)) for x in (-2.0, 1.0, -0.5, -3.0)])
    assert metrics["dev"]["log_loss"] == pytest.approx(expected, abs=1e-4)
    assert metrics["dev_by_half"]["choose"]["auc"] is None


def test_true_fakes_are_shown_beside_a_face_of_their_group(
    prepared: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    faces = Faces.load(prepared)
    real = faces.where((faces.table["label"] == 0).to_numpy())
    fakes = faces.where((faces.table["label"] == 1).to_numpy())
    own = real.table["group"].iat[0]
    studio = Studio(real, 48, fakes=Faces(fakes.root, fakes.table.assign(group=own)))
    seen = []
    read = Faces.read

    def note(self: Faces, index: int, tallest: float = float("inf")) -> object:
        seen.append((int(self.table["label"].iat[index]), self.table["group"].iat[index]))
        return read(self, index, tallest)

    monkeypatch.setattr(Faces, "read", note)
    for seed in range(6):
        pair = studio.true_pair(np.random.default_rng(seed), augmented=seed % 2 == 0)
        assert pair[0].shape == pair[1].shape == (48, 48, 3)
    assert seen == [(0, own), (1, own)] * 6
    seen.clear()
    assert PairBatches(studio, pairs=12, steps=10)[3][0].shape == (24, 48, 48, 3)
    assert 0 < sum(label for label, _ in seen) < 12


def test_the_command_line_changes_the_recipe() -> None:
    options = argparse.Namespace(steps=7, backbone="convnext_atto", size=96, pairs=3, start=None)
    recipe = chosen(CONFIGS["small"], options)
    assert recipe.schedule.steps == 7
    assert recipe.model["backbone"] == "convnext_atto"
    assert recipe.model["size"] == 96
    assert recipe.pairs == 3
    assert recipe.start is None  # ImageNet's were another net's


def test_without_a_prepared_folder_there_is_one_sentence(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    where = ["--prepared", str(tmp_path / "none"), "--out", str(tmp_path / "out")]
    monkeypatch.setattr("sys.argv", ["training.visual", *where, "--config", "debug"])
    with pytest.raises(SystemExit, match=r"training\.visual: .*faces\.csv"):
        main()
