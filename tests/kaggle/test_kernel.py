"""The Kaggle kernel: its files fit together, and it runs from an empty environment, offline."""

from __future__ import annotations

import csv
import json
import os
import runpy
import shutil
import subprocess
import sys
import venv
from pathlib import Path
from typing import Any

import pytest


@pytest.fixture(scope="module")
def kernel(repository: Path) -> dict[str, Any]:
    return json.loads((repository / "kaggle" / "kernel-metadata.json").read_text())


@pytest.fixture(scope="module")
def builder(repository: Path) -> dict[str, Any]:
    return runpy.run_path(str(repository / "kaggle" / "build_dataset.py"))


def code(repository: Path) -> str:
    """The notebook's code cells, one after the other."""
    notebook = json.loads((repository / "kaggle" / "kernel.ipynb").read_text())
    assert (notebook["nbformat"], notebook["nbformat_minor"]) == (4, 5)
    assert all(cell.get("outputs", []) == [] for cell in notebook["cells"])
    cells = [cell for cell in notebook["cells"] if cell["cell_type"] == "code"]
    return "\n".join("".join(cell["source"]) for cell in cells)


def test_the_kernel_is_offline_and_names_what_the_builder_makes(
    repository: Path, kernel: dict[str, Any], builder: dict[str, Any]
) -> None:
    assert kernel["enable_internet"] == "false"
    assert kernel["dataset_sources"] == [f"{builder['USER']}/{builder['SLUG']}"]
    assert kernel["competition_sources"] == ["deepfake-detection-challenge"]
    user, slug = kernel["id"].split("/")
    assert user == builder["USER"] == "INSERT_KAGGLE_USERNAME"
    assert slug == kernel["title"].lower().replace(" ", "-")  # Kaggle makes the one of the other
    assert (repository / "kaggle" / kernel["code_file"]).exists()
    assert user in (repository / "kaggle" / "README.md").read_text()


def test_the_notebooks_code_is_python(repository: Path) -> None:
    compile(code(repository), "kernel.ipynb", "exec")


def test_older_platforms_are_taken_too(builder: dict[str, Any]) -> None:
    tags = builder["platform_tags"]("manylinux_2_28_x86_64")
    assert tags[0] == "manylinux_2_28_x86_64"
    assert {"manylinux_2_17_x86_64", "manylinux2014_x86_64", "manylinux1_x86_64"} < set(tags)
    assert "manylinux_2_31_x86_64" not in tags
    assert builder["platform_tags"]("win_amd64") == ["win_amd64"]


def test_a_folder_that_holds_something_is_left_alone(
    builder: dict[str, Any], tmp_path: Path
) -> None:
    (tmp_path / "mine.txt").write_text("mine")
    assert builder["main"](["--out", str(tmp_path)]) == 2
    assert [path.name for path in tmp_path.iterdir()] == ["mine.txt"]


@pytest.mark.slow
def test_the_kernel_runs_from_an_empty_environment_without_an_index(
    repository: Path, sample_path: Path, bundle_folder: str, tmp_path: Path
) -> None:
    venv.create(tmp_path / "venv", with_pip=True)
    python = str(tmp_path / "venv" / ("Scripts" if os.name == "nt" else "bin") / "python")
    dataset = tmp_path / "input" / "avfake-wheels"
    bundle = shutil.copytree(bundle_folder, tmp_path / "mine")
    build = [python, str(repository / "kaggle" / "build_dataset.py"), "--out", str(dataset)]
    subprocess.run([*build, "--user", "somebody", "--bundle", str(bundle)], check=True)
    metadata = json.loads((dataset / "dataset-metadata.json").read_text())
    assert metadata["id"] == "somebody/avfake-wheels"
    assert {path.suffix for path in dataset.iterdir()} == {".whl", ".json"}

    competition = tmp_path / "input" / "deepfake-detection-challenge"
    (competition / "test_videos").mkdir(parents=True)
    names = [f"{letter}.mp4" for letter in "abcde"]
    for name in names:
        shutil.copy(sample_path, competition / "test_videos" / name)
    (competition / "test_videos" / "e.mp4").write_bytes(b"damaged")
    with (competition / "sample_submission.csv").open("w", newline="") as file:
        csv.writer(file).writerows([("filename", "label"), *((name, 0.5) for name in names)])

    work = tmp_path / "working"
    work.mkdir()
    offline = {
        "PATH": os.environ["PATH"],
        "TMPDIR": str(tmp_path),
        "PIP_CONFIG_FILE": os.devnull,
        "AVFAKE_KERNEL_INPUT": str(tmp_path / "input"),
        **{name: "http://127.0.0.1:9" for name in ("http_proxy", "https_proxy")},
    }
    done = subprocess.run(
        [python, "-I", "-c", code(repository).replace('BUNDLE = "default"', 'BUNDLE = "mine"')],
        cwd=work,
        env=offline,
        capture_output=True,
        text=True,
    )
    assert done.returncode == 0, done.stdout + done.stderr
    assert "4 scored" in done.stdout
    assert "5 rows, complete and valid" in done.stdout
    with (work / "submission.csv").open(newline="") as file:
        values = {row["filename"]: float(row["label"]) for row in csv.DictReader(file)}
    assert list(values) == names
    assert values["e.mp4"] == 0.5 != values["a.mp4"]
    assert sys.executable != python
