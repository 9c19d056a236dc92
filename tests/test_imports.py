"""Imports point one way, and nobody with one clip waits for a training framework."""

from __future__ import annotations

import ast
import json
import os
import subprocess
import sys
from pathlib import Path

import pytest

# A room may import rooms with a smaller number, and no other.
ORDER = {
    "avfake": 0,
    "avfake.types": 0,
    "avfake.terminal": 0,
    "avfake.graphs": 1,
    "avfake.limits": 1,
    "avfake.cli_limits": 2,
    "avfake.windows": 2,
    "avfake.pictures": 2,
    "avfake.boxes": 2,
    "avfake.container": 3,
    "avfake.media": 4,
    "avfake.crops": 2,
    "avfake.speech": 2,
    "avfake.bundle": 2,
    "avfake.bundles": 2,
    "avfake.faces": 3,
    "avfake.tracks": 4,
    "avfake.branches": 5,
    "avfake.fusion": 6,
    "avfake.analysis": 6,
    "avfake.detector": 7,
    "avfake.process": 7,
    "avfake.workers": 8,
    "avfake.isolation": 9,
    "avfake.lines": 2,
    "avfake.scratch": 3,
    "avfake.sources": 4,
    "avfake.scores": 3,
    "avfake.batch": 9,
    "avfake.cluster": 9,
    "avfake.remote": 9,
    "avfake.pace": 2,
    "avfake.runlog": 3,
    "avfake.submission": 9,
    "avfake.timeline": 2,
    "avfake.evidence": 8,
    "avfake.credentials": 8,
    "avfake.report": 8,
    "avfake.markup": 8,
    "avfake.html": 9,
    "avfake.serve": 10,
    "avfake.cli_common": 10,
    "avfake.cli_predict": 11,
    "avfake.cli_report": 11,
    "avfake.cli_submit": 11,
    "avfake.cli_batch": 11,
    "avfake.cli_serve": 11,
    "avfake.cli": 12,
    "avfake.__main__": 13,
    "evaluation": 20,
    "training": 30,
}
# `import avfake` answers with names of these, on first use; the detector tells the version. What is
# called as `python -m avfake.cli` goes in by the front door.
LAZY = {"avfake": {"avfake.detector", "avfake.types"}, "avfake.cli": {"avfake.__main__"}}
WORKSHOP = {"torch", "torchvision", "torchaudio", "timm", "transformers", "librosa", "onnx"}


def room_of(module: str) -> str:
    """avfake.serve.app -> avfake.serve; training.fakes.audio -> training."""
    top, *rest = module.split(".")
    return f"{top}.{rest[0]}" if top == "avfake" and rest else top


def modules(root: Path, package: str) -> dict[str, Path]:
    found = {}
    for path in sorted((root / package).rglob("*.py")):
        parts = path.relative_to(root).with_suffix("").parts
        found[".".join(parts[:-1] if parts[-1] == "__init__" else parts)] = path
    return found


def imports(path: Path) -> set[str]:
    """Every module that a file imports, wherever in it; `from a import b` gives a and a.b."""
    found: set[str] = set()
    for node in ast.walk(ast.parse(path.read_text())):
        if isinstance(node, ast.Import):
            found |= {alias.name for alias in node.names}
        elif isinstance(node, ast.ImportFrom):
            assert node.level == 0, f"{path.name}: relative import"
            assert node.module is not None
            found |= {node.module} | {f"{node.module}.{alias.name}" for alias in node.names}
    return found


def test_no_arrow_points_back(repository: Path) -> None:
    known = {
        name: path
        for package in ("avfake", "evaluation", "training")
        for name, path in modules(repository, package).items()
    }
    faults = []
    for name, path in known.items():
        room = room_of(name)
        if room == "avfake.models":
            continue  # see the next test
        assert room in ORDER, f"{room} is new: give it a place in the order above"
        for target in imports(path) & set(known):
            other = room_of(target)
            if other == room or other in LAZY.get(room, ()):
                continue
            if other == "avfake.models":
                if room != "training":
                    faults.append(f"{name} imports {target}")
                continue
            if ORDER[other] >= ORDER[room]:
                faults.append(f"{name} imports {target}")
    assert not faults


def test_model_definitions_use_nothing_but_the_basics(repository: Path) -> None:
    allowed = {"avfake.types", "avfake.windows", "avfake.models"}
    for path in modules(repository, "avfake.models".replace(".", "/")).values():
        used = {room_of(name) for name in imports(path) if name.startswith("avfake.")}
        assert used <= allowed, path.name
        tops = {name.split(".")[0] for name in imports(path)}
        assert not tops & {"training", "evaluation", "tests"}, path.name


def test_what_a_user_installs_names_no_training_framework(repository: Path) -> None:
    for name, path in modules(repository, "avfake").items():
        if not name.startswith("avfake.models"):
            tops = {target.split(".")[0] for target in imports(path)}
            assert not tops & WORKSHOP, name
            assert not tops & {"training", "evaluation", "tests"}, name


def loaded_after(code: str) -> set[str]:
    """Top-level packages in memory after `code`, in a Python of its own."""
    script = f"{code}\nimport json, sys\nprint(json.dumps(sorted(sys.modules)))"
    done = subprocess.run(
        [sys.executable, "-c", script], capture_output=True, text=True, check=True
    )
    return {name.split(".")[0] for name in json.loads(done.stdout.splitlines()[-1])}


def test_predicting_loads_no_training_framework(bundle_folder: str, sample_path: Path) -> None:
    loaded = loaded_after(
        f"import avfake\n"
        f"detector = avfake.Detector.from_pretrained({bundle_folder!r})\n"
        f"answer = detector.predict({str(sample_path)!r})\n"
        f"assert answer.status == 'ok', answer"
    )
    assert "onnxruntime" in loaded
    assert not loaded & (WORKSHOP | {"pandas", "scipy", "sklearn", "moviepy", "matplotlib"})


def test_importing_avfake_costs_nothing() -> None:
    script = (
        "import time; start = time.process_time(); import avfake; "
        "print(time.process_time() - start)"
    )
    run = [sys.executable, "-c", script]
    spent = [
        float(subprocess.run(run, capture_output=True, text=True, check=True).stdout)
        for _ in range(3)
    ]
    assert min(spent) < 0.2
    assert not loaded_after("import avfake") & {"numpy", "cv2", "av", "onnxruntime", "dlib"}


def test_help_loads_no_networks_and_no_pictures() -> None:
    loaded = loaded_after(
        "from avfake.cli import main\n"
        "try:\n    main(['--help'])\nexcept SystemExit as stop:\n    assert stop.code == 0"
    )
    assert not loaded & {"onnxruntime", "cv2", "av", "dlib", "rich", "pandas"}


def test_unknown_names_of_the_package_are_told() -> None:
    import avfake

    for name in avfake.__all__:
        assert getattr(avfake, name) is not None
    with pytest.raises(AttributeError, match="no attribute 'nobody'"):
        _ = avfake.nobody


@pytest.mark.parametrize(
    "code",
    [
        "import avfake; avfake.predict({sample!r})",
        "import training, onnxruntime",
        "from evaluation.score import main",
        "from avfake.cli import main; main(['info'])",
    ],
)
def test_onnxruntime_sends_nothing_home(code: str, sample_path: Path, tmp_path: Path) -> None:
    """Its builds keep an identifier of this machine in the temporary folder, and send telemetry."""
    mine = {key: value for key, value in os.environ.items() if key != "ORT_DISABLE_TELEMETRY"}
    subprocess.run(
        [sys.executable, "-c", code.format(sample=str(sample_path))],
        env=mine | {"TMPDIR": str(tmp_path), "HOME": str(tmp_path)},
        check=True,
        capture_output=True,
        cwd=Path(__file__).parent.parent,
    )
    assert not list(tmp_path.iterdir())
