"""The code's own state: linters, types, and the promise that CI runs the README's command."""

from __future__ import annotations

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
