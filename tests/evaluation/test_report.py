"""The report's figures on tables made by hand, and the page that shows them."""

from __future__ import annotations

import json
import re
from html.parser import HTMLParser
from pathlib import Path

import numpy as np
import pandas as pd
import pytest

from evaluation.protocols import join, read_manifest, read_scores
from evaluation.report import main, page
from evaluation.summary import mistakes, summarize

CLASSES = [(0, 0), (0, 1), (1, 0), (1, 1)]


def tables(folder: Path, count: int = 48, seed: int = 0) -> tuple[Path, Path]:
    """A score table and its manifest: clips of the four classes, a third of them of known seconds;
    the last clip of the manifest is not scored, the first was abstained from.
    """
    rng = np.random.default_rng(seed)
    truth, scores = [], []
    for index in range(count):
        visual, audio = CLASSES[index % 4]
        path, label = f"clips/{index}.mp4", int(visual or audio)
        truth.append(
            {
                "path": path,
                "label": label,
                "label_visual": visual,
                "label_audio": audio,
                "group": f"person {index // 5}",
                "method": "swapper" if visual else "",
                "segments": "[[1.0, 2.0]]" if label and index % 3 == 0 else "[]",
                "offset_ms": 0,
            }
        )
        said = {
            "fake_probability": 0.25 + 0.5 * label,
            "visual_probability": 0.2 + 0.6 * visual,
            "audio_probability": 0.4 + 0.2 * audio,
        }
        said = {k: float(np.clip(v + rng.normal(0, 0.2), 0, 1)) for k, v in said.items()}
        found = [{"start": 1.0, "end": 2.0, "branch": "visual", "fake_probability": 0.9}]
        scores.append(
            {"path": path, "status": "ok", "reason": "", "verdict": "uncertain", "bundle": "b" * 64}
            | said
            | {"without_visual": said["audio_probability"], "lipsync_offset_ms": 40.0}
            | {"segments": json.dumps(found if label else [])}
        )
    scores[0] |= {"fake_probability": None, "status": "abstain", "reason": "no_evidence"}
    manifest, table = folder / "truth.csv", folder / "scores.csv"
    pd.DataFrame(truth).to_csv(manifest, index=False)
    pd.DataFrame(scores[:-1]).to_csv(table, index=False)
    return table, manifest


@pytest.fixture
def joined(tmp_path: Path) -> tuple[pd.DataFrame, list[str]]:
    scores, manifest = tables(tmp_path)
    return join(read_scores(scores), read_manifest(manifest))


def test_every_clip_is_accounted_for(joined: tuple[pd.DataFrame, list[str]]) -> None:
    table, missing = joined
    summary = summarize(table, missing, prior=0.5, draws=20)
    clips = summary["clips"]
    assert (clips["in_manifest"], clips["scored"], clips["missing"]) == (48, 47, 1)
    assert clips["missing_such_as"] == ["clips/47.mp4"]
    assert clips["abstained"] == 1
    assert clips["reasons"] == {"no_evidence": 1}
    assert summary["abstention"]["coverage"] == pytest.approx(46 / 47)
    filled = table["fake_probability"].fillna(0.5).to_numpy()
    label = table["label"].to_numpy()
    wanted = -np.log(np.where(label == 1, filled, 1 - filled).clip(1e-15)).mean()
    assert summary["abstention"]["log_loss"] == pytest.approx(wanted)


def test_modalities_are_held_against_their_own_labels(
    joined: tuple[pd.DataFrame, list[str]],
) -> None:
    table, missing = joined
    modalities = summarize(table, missing, prior=0.5, draws=20)["modalities"]
    assert modalities["visual"]["against"] == "own"
    assert modalities["visual"]["fake"] == int(table["label_visual"].sum())
    assert modalities["lipsync"]["against"] == "clip"
    assert modalities["lipsync"]["note"] == "no clip has both a label and an answer"
    assert modalities["lipsync"]["offset"]["median_error_ms"] == 40
    assert modalities["lipsync"]["offset"]["within_one_picture"] == 1
    assert set(modalities["audio"]["figures"]) - set(modalities["visual"]["figures"]) == {
        *("min_dcf", "act_dcf", "cllr")
    }
    auc = modalities["visual"]["figures"]["auc"]
    assert 0.5 < auc["low"] <= auc["value"] <= auc["high"] <= 1


def test_the_four_classes_methods_and_fusion(joined: tuple[pd.DataFrame, list[str]]) -> None:
    table, missing = joined
    summary = summarize(table, missing, prior=0.5, draws=20)
    assert {c["class"]: c["clips"] for c in summary["classes"]} == {
        **dict.fromkeys(("RvRa", "RvFa", "FvRa"), 12),
        "FvFa": 11,
    }
    assert "auc" not in summary["classes"][0]
    assert summary["classes"][3]["auc"]["value"] > 0.7
    assert [m["method"] for m in summary["methods"]] == ["swapper"]
    assert set(summary["fusion"]) == {"best branch alone: visual", "without visual"}
    gain = summary["fusion"]["without visual"]["auc"]
    assert gain["low"] <= gain["value"] <= gain["high"]


def test_the_best_branch_is_best_at_the_clips_label(tmp_path: Path) -> None:
    """Voices are judged without a mistake, but most fakes are pictures."""
    truth = "path,label,label_visual,label_audio\na,0,0,0\nb,0,0,0\nc,1,1,0\nd,1,1,0\ne,1,0,1\n"
    said = "path,fake_probability,visual_probability,audio_probability\n" + "\n".join(
        ("a,0.1,0.1,0.3", "b,0.2,0.4,0.2", "c,0.8,0.9,0.1", "d,0.8,0.3,0.1", "e,0.9,0.5,0.9")
    )
    (tmp_path / "truth.csv").write_text(truth)
    (tmp_path / "said.csv").write_text(said)
    table, missing = join(read_scores(tmp_path / "said.csv"), read_manifest(tmp_path / "truth.csv"))
    summary = summarize(table, missing, prior=0.5, draws=20)
    figures = {name: part["figures"]["auc"] for name, part in summary["modalities"].items()}
    assert figures["audio"]["value"] == 1 > figures["visual"]["value"]
    assert list(summary["fusion"]) == ["best branch alone: visual"]
    # Of six pairs the picture's answers put one the wrong way round.
    gain = summary["fusion"]["best branch alone: visual"]["auc"]["value"]
    assert gain == pytest.approx(1 - 5 / 6)


def test_forged_seconds_count_where_they_are_named(
    joined: tuple[pd.DataFrame, list[str]],
) -> None:
    table, missing = joined
    found = summarize(table, missing, prior=0.5, draws=20)["localisation"]
    named = int((table["segments"].map(len) > 0).sum())
    assert found["segments"] == found["proposals"] == named
    assert found["ap@0.5"] == found["ar@5"] == 1
    bare = table.assign(segments=[[]] * len(table))
    assert summarize(bare, missing, prior=0.5, draws=20)["localisation"] is None


def test_mistakes_are_the_surest_first() -> None:
    table = pd.DataFrame(
        {
            "path": ["right", "mild", "grave", "silent"],
            "label": [1.0, 1.0, 0.0, 1.0],
            "fake_probability": [0.9, 0.4, 0.99, np.nan],
        }
    )
    assert mistakes(table)["path"].tolist() == ["grave", "mild"]


@pytest.mark.parametrize("keep", ["real", "fake", "none"])
def test_one_class_gives_notes_and_no_crash(
    joined: tuple[pd.DataFrame, list[str]], keep: str
) -> None:
    table, missing = joined
    if keep == "none":
        table = table.assign(label=np.nan, label_visual=np.nan, label_audio=np.nan)
    else:
        table = table[table["label"] == (keep == "fake")]
    summary = summarize(table, missing, prior=0.5, draws=20)
    fused = summary["modalities"]["fused"]
    assert fused["figures"]["auc"] == {"value": None, "low": None, "high": None}
    assert fused["note"]
    json.dumps(summary, allow_nan=False)
    assert "cannot be judged here" in page(table, summary, "One class")


class Page(HTMLParser):
    """The page's text, what it would load, and whether each element that opens also closes."""

    def __init__(self) -> None:
        super().__init__()
        self.text, self.loads, self.open = "", [], []  # type: ignore[var-annotated]

    def handle_starttag(self, tag: str, attributes: list[tuple[str, str | None]]) -> None:
        given = dict(attributes)
        self.loads += [given[name] for name in ("src", "href", "xlink:href") if name in given]
        if tag not in ("meta", "br", "img"):
            self.open.append(tag)

    def handle_endtag(self, tag: str) -> None:
        assert self.open.pop() == tag

    def handle_startendtag(self, tag: str, attributes: list[tuple[str, str | None]]) -> None:
        self.handle_starttag(tag, attributes)
        self.open = self.open[:-1] if self.open and self.open[-1] == tag else self.open

    def handle_data(self, data: str) -> None:
        self.text += data


def test_the_page_stands_alone_and_says_what_the_json_says(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    scores, manifest = tables(tmp_path)
    out = tmp_path / "report"
    main([str(scores), "--manifest", str(manifest), "--out", str(out), "--draws", "50"])
    html = (out / "index.html").read_text("utf-8")
    shown = Page()
    shown.feed(html)
    assert not shown.open
    assert all(link.startswith("#") for link in shown.loads if link)
    assert html.count("<svg") == 4
    ids = re.findall(r'\bid="([^"]+)"', html)
    assert len(ids) == len(set(ids))
    metrics = json.loads((out / "metrics.json").read_text())
    for name in ("log_loss", "auc", "eer", "brier"):
        value = metrics["modalities"]["fused"]["figures"][name]["value"]
        assert f"{value:.3f}" in shown.text
    assert "RvFa" in shown.text
    assert "swapper" in shown.text
    assert "index.html" in capsys.readouterr().out


def test_names_of_files_are_text_not_markup(tmp_path: Path) -> None:
    text = "path,label\n<script>alert(1)</script>,1\nb,0\n"
    (tmp_path / "m.csv").write_text(text)
    (tmp_path / "s.csv").write_text("path,fake_probability\n<script>alert(1)</script>,0.1\nb,0.2\n")
    table, missing = join(read_scores(tmp_path / "s.csv"), read_manifest(tmp_path / "m.csv"))
    html = page(table, summarize(table, missing, 0.5, 20), "<b>title</b>")
    assert "<script>" not in html
    assert "<b>title" not in html
    assert "&lt;script&gt;" in html


def test_bad_tables_end_with_a_sentence(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    scores, manifest = tables(tmp_path)
    for arguments in (
        [str(tmp_path / "none.csv"), "--manifest", str(manifest)],
        [str(scores), "--manifest", str(scores)],
        [str(scores), "--manifest", str(manifest), "--where", "colour=red"],
        [str(scores), "--manifest", str(manifest), "--prior", "3"],
        [str(scores), "--manifest", str(manifest), "--draws", "0"],
        [str(scores), "--manifest", str(manifest), "--out", str(manifest)],
    ):
        with pytest.raises(SystemExit) as stop:
            main(["--out", str(tmp_path / "report"), *arguments])
        assert stop.value.code == 2
        told = capsys.readouterr().err
        assert told.startswith("evaluation.report: ")
        assert told.count("\n") == 1
