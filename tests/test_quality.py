"""The code's own state: linters, types, and the promise that CI runs the README's command."""

from __future__ import annotations

import json
import re
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).parent.parent


@pytest.mark.parametrize(
    "command",
    [["ruff", "check", "."], ["ruff", "format", "--check", "."], ["mypy"]],
    ids=lambda command: " ".join(command),
)
def test_linters_are_content(command: list[str]) -> None:
    done = subprocess.run(
        [sys.executable, "-m", *command], cwd=ROOT, capture_output=True, text=True
    )
    assert done.returncode == 0, done.stdout + done.stderr


def test_ci_finds_the_readmes_test_command() -> None:
    readme = (ROOT / "README.md").read_text()
    assert '<!-- tests -->\n```sh\npip install -e ".[train,report,dev]" && pytest\n```' in readme
    assert "<!-- tests -->" in (ROOT / ".ci" / "run").read_text()


def test_the_readme_has_no_gaps_left_to_fill() -> None:
    readme = (ROOT / "README.md").read_text()
    assert not re.findall(r"^(?:[A-Z]+_)?[A-Z]{5,}$", readme, re.MULTILINE)


def test_likely_means_at_least_two_to_one() -> None:
    manifest = json.loads((ROOT / "avfake/bundles/default/bundle.json").read_text())
    assert manifest["thresholds"]["likely_fake"] >= 2 / 3
    assert manifest["thresholds"]["likely_real"] <= 1 / 3
