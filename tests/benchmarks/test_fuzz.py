"""The fuzz run is the same for the same seed, keeps what it finds, and finds nothing in passing."""

from __future__ import annotations

import os
from pathlib import Path

import pytest

from avfake.types import Prediction
from benchmarks import fuzz
from benchmarks.fuzz import CLIPS, STILLS, Seed, damaged, main, make_seeds


@pytest.fixture(scope="module")
def seeds() -> list[Seed]:
    return make_seeds()


def test_it_starts_from_every_kind_of_file(seeds: list[Seed]) -> None:
    assert {seed.name for seed in seeds} == {"av1", *CLIPS, *STILLS}
    assert all(len(seed.data) > 1000 for seed in seeds)


def test_the_same_seed_gives_the_same_files(seeds: list[Seed]) -> None:
    again = make_seeds()
    for index in range(100):
        assert damaged(seeds, 7, index) == damaged(again, 7, index)
    assert [damaged(seeds, 7, i) for i in range(9)] != [damaged(seeds, 8, i) for i in range(9)]


def test_nearly_every_file_is_another_than_its_clip(seeds: list[Seed]) -> None:
    files = [damaged(seeds, 0, index) for index in range(300)]
    assert sum(data != origin.data for origin, data in files) > 280
    assert len({origin.name for origin, _ in files}) == len(seeds)


def test_a_short_run_finds_no_fault(tmp_path: Path, capfd: pytest.CaptureFixture[str]) -> None:
    """Of the numbers from a thousand on; another thousand each time would not be reproducible."""
    status = main(
        ["--count", "400", "--start", "1000", "--seconds", "60", "--keep", str(tmp_path / "kept")]
    )
    output = capfd.readouterr().out
    assert status == 0, output
    assert "0 faults" in output
    assert "ok" in output
    assert "error/not_media" in output
    assert not (tmp_path / "kept").exists()


class Crashing:
    """Judges nothing: it ends its process over every second file."""

    def predict(self, path: str, longest: float | None = None) -> Prediction:
        if int(Path(path).name.split("-")[1]) % 2:
            os._exit(3)
        return Prediction(path, "error", "not_media", "No media.", bundle={"name": "none"})


class Load:
    def __call__(self) -> Crashing:
        return Crashing()


def test_what_a_worker_dies_of_is_kept_and_told(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capfd: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr(fuzz, "Watched", Load)
    clip = tmp_path / "clip.wav"
    clip.write_bytes(bytes(range(256)) * 4)
    keep = tmp_path / "kept"
    status = main([str(clip), "--count", "4", "--keep", str(keep), "--workers", "1"])
    assert status == 1
    assert sorted(path.name for path in keep.iterdir()) == ["0-1-clip.wav", "0-3-clip.wav"]
    seed = Seed("clip", "wav", clip.read_bytes())
    assert (keep / "0-3-clip.wav").read_bytes() == damaged([seed], 0, 3)[1]
    output = capfd.readouterr().out
    assert "2  error/worker_exited (worker lost)" in output
    assert "2 faults" in output
