"""Every code that a user may meet is explained on one page, and that page explains no other."""

from __future__ import annotations

import ast
import re
from pathlib import Path

TELLING = {
    "ApiError": 1,
    "AvfakeError": 0,
    "Fault": 0,
    "_error": 1,
    "_warn": 0,
    "absent": 0,
    "failed": 0,
}
"""What gives a code, and which of its arguments that is."""


def codes(source: str) -> set[str]:
    """The codes that a file of the package gives, as far as they stand there as they are."""
    found = set()
    for node in ast.walk(ast.parse(source)):
        if not isinstance(node, ast.Call):
            continue
        name = getattr(node.func, "id", getattr(node.func, "attr", ""))
        place = TELLING.get(name)
        if place is None or len(node.args) <= place:
            continue
        code = node.args[place]
        if isinstance(code, ast.Constant) and isinstance(code.value, str):
            found.add(code.value)
    return found


def test_codes_are_found() -> None:
    source = 'raise AvfakeError("empty_file", text)\nself._warn("gap")\nf("not_this")'
    assert codes(source) == {"empty_file", "gap"}


def test_each_reason_and_warning_is_explained(repository: Path) -> None:
    page = (repository / "docs" / "reasons.md").read_text("utf-8")
    explained = set(re.findall(r"`([a-z]+(?:_[a-z]+)*)`", page))
    given: set[str] = set()
    text = ""
    files = [*(repository / "avfake").rglob("*.py"), repository / "training" / "batches.py"]
    for path in files:
        source = path.read_text("utf-8")
        given |= codes(source)
        text += source
    assert given - explained == set()
    words = explained - {"ok", "error", "abstain", "absent", "failed", "status", "reason"}
    for word in sorted(words):
        assert word in text, f"{word} is explained, but nothing gives it"
