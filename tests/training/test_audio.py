"""The audio recipe on a handful of made-up voices: it learns, resumes and reports."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

torch = pytest.importorskip("torch")
pytest.importorskip("transformers")
pd = pytest.importorskip("pandas")

from avfake.models.audio import AudioNet  # noqa: E402
from tests.training.utterances import some_speech  # noqa: E402
from training.audio import (  # noqa: E402
    RECIPES,
    Recipe,
    by_source,
    figures,
    main,
    pair_loss,
    score,
    train_and_report,
    train_without,
)
from training.checkpoints import load_state  # noqa: E402
from training.loop import Schedule, fit  # noqa: E402
from training.pairs import Trial  # noqa: E402
from training.runtime import Runtime  # noqa: E402
from training.speech import Utterance, write_store  # noqa: E402

NET: dict[str, object] = {
    "width": 48,
    "layers": 1,
    "heads": 2,
    "mlp": 48,
    "stem": "test_efficientnet",
}
NET |= {"drop": 0.0, "mask": 0.0}
CPU = Runtime(threads=1)
RECIPE = Recipe(
    Schedule(steps=3, lr=3e-3, warmup=1, evaluate_every=3, workers=0),
    pairs=5,
    net=NET,
    probe_batches=3,
    start=None,
)


@pytest.fixture(scope="module")
def utterances() -> list[Utterance]:
    return some_speech()


class OneBatch(torch.utils.data.Dataset):
    """The same four hums against four noises at every step."""

    def __len__(self) -> int:
        return 100

    def __getitem__(self, index: int) -> dict[str, torch.Tensor]:
        rng = np.random.default_rng(0)
        time = np.arange(64_000) / 16_000
        beat = 0.2 + np.abs(np.sin(2 * np.pi * 3 * time))
        hums = [beat * np.sin(2 * np.pi * hertz * time) for hertz in (120, 150, 180, 210)]
        noises = [beat * rng.standard_normal(64_000) for _ in range(4)]
        sound = torch.from_numpy(0.1 * np.stack(hums + noises)).float()
        return {"sound": sound, "label": torch.tensor([0.0] * 4 + [1.0] * 4)}


def test_the_net_learns_and_a_killed_run_ends_where_an_unbroken_one_does(tmp_path: Path) -> None:
    def run(out: Path, steps: int) -> None:
        torch.manual_seed(0)
        net = AudioNet(**NET)
        schedule = Schedule(6, lr=3e-3, warmup=1, evaluate_every=2, workers=0)
        batch = OneBatch()[0]

        def evaluate(averaged: AudioNet) -> dict[str, float]:
            with torch.no_grad():
                return {"loss": float(pair_loss(averaged.eval(), batch))}

        def loss(model: AudioNet, batch: dict[str, torch.Tensor]) -> torch.Tensor:
            losses.append(pair_loss(model, batch))
            if len(losses) > steps:
                raise KeyboardInterrupt
            return losses[-1]

        losses: list[torch.Tensor] = []
        fit(net, OneBatch(), loss, evaluate, schedule, out, NET)
        if len(losses) == 6:
            assert losses[-1] < losses[0]

    run(tmp_path / "whole", 6)
    with pytest.raises(KeyboardInterrupt):
        run(tmp_path / "broken", 4)
    run(tmp_path / "broken", 6)
    whole, config = load_state(tmp_path / "whole" / "best.safetensors")
    broken, _ = load_state(tmp_path / "broken" / "best.safetensors")
    assert config == NET
    for name, value in whole.items():
        assert torch.equal(value, broken[name]), name


def test_the_recipe_reports_speakers_it_never_heard(
    utterances: list[Utterance], tmp_path: Path
) -> None:
    train_and_report(utterances, RECIPE, tmp_path, CPU)
    table = pd.read_csv(tmp_path / "heldout.csv")
    assert list(table.columns) == ["path", "group", "source", "label", "logit"]
    assert table["logit"].notna().all()
    assert set(table["label"]) == {0, 1}
    metrics = json.loads((tmp_path / "metrics.json").read_text())
    assert 2 * metrics["heldout"]["n_real"] == (table["label"] == 0).sum()  # and through codecs
    assert 0 <= metrics["heldout"]["auc"] <= 1
    assert "univnet" in metrics["heldout"]["by_source"]
    assert 0 <= metrics["shortcut_probe"]["auc"] <= 1

    # The figures are those of the stored weights, rebuilt from the file alone.
    state, config = load_state(tmp_path / "best.safetensors")
    net = AudioNet(**config)
    net.load_state_dict(state)
    row = table[table["source"] == "librispeech"].iloc[0]
    item = next(item for item in utterances if item.path == row["path"])
    window = np.resize(item.sound(), 64_000)
    assert score(net, [window])[0] == pytest.approx(row["logit"], abs=1e-4)

    train_without(utterances, ["univnet"], RECIPE, tmp_path, CPU)
    after = json.loads((tmp_path / "metrics.json").read_text())
    assert after["heldout"] == metrics["heldout"]
    row = after["leave_one_generator_out"]["univnet"]
    assert (row["n_fake"], row["steps"]) == (3, 3)
    assert {"auc", "auc_travelled", "auc_against_own_truth"} <= set(row)
    unheard = pd.read_csv(tmp_path / "leave_out" / "univnet" / "unheard.csv")
    assert list(unheard.columns) == list(table.columns)
    assert (unheard["source"] == "univnet").sum() == 3
    assert set(unheard["source"][unheard["label"] == 1]) == {"univnet"}


def test_a_generator_that_is_not_there_is_an_error(
    utterances: list[Utterance], tmp_path: Path
) -> None:
    with pytest.raises(ValueError, match="nosuch"):
        train_without(utterances, ["nosuch"], RECIPE, tmp_path, CPU)


def test_several_generators_are_left_out_at_once(
    utterances: list[Utterance], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    write_store(utterances, tmp_path)
    monkeypatch.setitem(RECIPES, "short", RECIPE)
    options = ["--store", str(tmp_path), "--out", str(tmp_path), "--threads", "1"]
    main([*options, "--leave-out", "univnet,tortoise"])
    metrics = json.loads((tmp_path / "metrics.json").read_text())
    table = metrics["leave_one_generator_out"]
    assert set(table) == {"univnet", "tortoise"}
    assert {row["trained_without"] for row in table.values()} == {"univnet,tortoise"}


def test_classes_told_apart_without_listening_stop_the_recipe(
    utterances: list[Utterance], tmp_path: Path
) -> None:
    loud = [
        replace(item, versions=tuple(0 * version + 1000 for version in item.versions))
        if item.label == 1
        else item
        for item in utterances
    ]
    with pytest.raises(ValueError, match="leaks"):
        train_and_report(loud, RECIPE, tmp_path, CPU)


def trial(source: str, label: int, group: str = "g") -> Trial:
    return Trial("p", group, source, label, np.zeros(1), np.zeros(1))


def test_figures_weigh_sources_by_the_root_of_their_size() -> None:
    trials = [trial("a", 0)] * 90 + [trial("b", 0)] * 2 + [trial("c", 1)] * 10
    wrong_on_b = np.array([-4.0] * 90 + [4.0] * 2 + [4.0] * 10)
    small, big = np.log1p(np.exp(-4.0)), np.log1p(np.exp(4.0))
    many, few = np.sqrt(90), np.sqrt(2)
    expected = 0.5 * (many * small + few * big) / (many + few) + 0.5 * small
    assert figures(trials, wrong_on_b)["log_loss"] == pytest.approx(expected, abs=1e-3)


def test_each_generator_is_held_against_all_real_speech_and_against_its_own() -> None:
    trials = [trial("a", 0, "x"), trial("a", 0, "y"), trial("f", 1, "x"), trial("f", 1, "y")]
    trials += [trial("g", 1, "nobody")]
    result = by_source(trials, np.array([0.0, 2.0, 1.0, 1.0, 3.0]))
    assert result["f"] == {"auc": 0.5, "n": 2, "above_own_real": 0.5}
    assert result["g"] == {"auc": 1.0, "n": 1}


def test_the_pair_term_wants_the_fake_above_the_real() -> None:
    class Fixed(torch.nn.Module):
        def front(self, sound: torch.Tensor) -> torch.Tensor:
            return sound

        def judge(self, spectra: torch.Tensor) -> torch.Tensor:
            return spectra[:, 0]

    label = torch.tensor([0.0, 1.0])
    right = pair_loss(Fixed(), {"sound": torch.tensor([[-1.0], [1.0]]), "label": label})
    wrong = pair_loss(Fixed(), {"sound": torch.tensor([[1.0], [-1.0]]), "label": label})
    assert right < wrong
