"""Long batches hold no more at their end than at their beginning; awkward ones end all the same."""

from __future__ import annotations

import json
import os
import random
import subprocess
import sys
import tempfile
from collections import Counter
from pathlib import Path

import pytest

from benchmarks.soak import make_files, quarters, report, soak
from tests.traps import COSTLY, FILES, LARGE, NOT_FILES, TRAPS, flipped


@pytest.mark.parametrize("items", [192, pytest.param(2000, marks=pytest.mark.slow)])
def test_a_long_batch_holds_no_more_in_its_end_than_in_its_beginning(
    tmp_path: Path, items: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    files, temporary = tmp_path / "files", tmp_path / "tmp"
    files.mkdir()
    temporary.mkdir()
    monkeypatch.setattr(tempfile, "tempdir", str(temporary))
    outcome, looks = soak(make_files(files, items), tmp_path / "s.jsonl", temporary, workers=2)
    report(outcome, looks)
    assert outcome.total == items
    assert outcome.in_quarantine == 0
    kinds = {status: outcome.count(status) * 8 // items for status in ("ok", "abstain", "error")}
    assert kinds == {"ok": 5, "abstain": 2, "error": 1}
    held = quarters(looks)
    more = {name: last - first for name, (first, last) in held.items()}
    assert more["parent"] < 5  # MB
    assert more["worker"] < 50  # some 10 are usual; a leak of a megabyte an item would be told
    assert more["descriptors"] <= 4  # archives that are open, and what is unpacked just then
    assert held["temporary"][1] <= 1 + 2  # the lock, and one file a worker
    assert list(temporary.iterdir()) == []


def awkward(folder: Path, count: int, seed: int) -> Path:
    """A folder of `count` awkward files and some that go with them: each trap as it is, where there
    is room for all, then files with damage of every size."""
    chance = random.Random(seed)
    names = sorted(NOT_FILES) + chance.sample(sorted(FILES), len(FILES))
    if count >= len(TRAPS):
        names += sorted(COSTLY | LARGE)
    files = []
    for name in names[: 2 * count // 3]:
        place = folder / name
        place.mkdir(parents=True)
        path = TRAPS[name](place)
        if name in FILES and path.is_file() and path.stat().st_size < 1 << 20:
            files.append(path)
    damaged = folder / "damaged"
    damaged.mkdir()
    for number in range(count - min(len(names), 2 * count // 3)):
        path = chance.choice(files)
        content = path.read_bytes()
        if chance.random() < 0.3:
            content = content[: chance.randint(0, len(content))]
        elif content:
            content = flipped(content, number)
        (damaged / f"{number:04d}{path.suffix}").write_bytes(content)
    return folder


@pytest.mark.parametrize("count", [60, pytest.param(1000, marks=pytest.mark.slow)])
def test_a_folder_of_awkward_files_ends_with_a_row_for_each(tmp_path: Path, count: int) -> None:
    folder = awkward(tmp_path / "awkward", count, seed=count)
    temporary = tmp_path / "tmp"
    temporary.mkdir()
    done = subprocess.run(
        [sys.executable, "-m", "avfake.cli", "batch", "awkward", "--out", "s.jsonl", "--brief"],
        cwd=tmp_path,
        env=os.environ | {"TMPDIR": str(temporary)},
        capture_output=True,
        text=True,
        errors="replace",
        timeout=3600,
    )
    print(done.stdout, done.stderr)
    assert done.returncode == 1
    assert "Traceback" not in done.stdout + done.stderr
    rows = [json.loads(line) for line in (tmp_path / "s.jsonl").read_text("ascii").splitlines()]
    names = [
        bytes.fromhex(row["path_hex"]) if "path_hex" in row else row["path"].encode()
        for row in rows
    ]
    there = [
        os.path.relpath(os.path.join(place, name), os.fsencode(tmp_path))
        for place, _, files in os.walk(os.fsencode(folder))
        for name in files
    ]
    assert len(there) >= count - 2
    assert Counter(names) == Counter(there)
    for row in rows:
        assert (row["fake_probability"] is None) == (row["status"] != "ok"), row
        assert (row["reason"] is None) == (row["status"] == "ok"), row
    assert "internal_error" not in {row["reason"] for row in rows}
    assert list(temporary.iterdir()) == []
