"""The log of a submission: what happened to each video, so that a run that was killed can go on.

The first line names the models. A video has a line when it is begun ({"name", "status": "begun",
"size"}) and one when it is done (status "ok", "abstain" or "error", with "reason" and "logit"); one
that no sample lists has status "ignored".
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from avfake.lines import Lines
from avfake.types import AvfakeError


class Log:
    """What happened, a JSON object a line, only ever added to. Use as a context manager.

    `models`: what tells one set of models from another; `sizes`: name -> bytes of each video, None
    where it is missing. Raises AvfakeError `other_run` where the log is of other models or videos,
    `in_use` where another run is writing it, `not_writable`.

    `answers`: name -> its last answer; `begun`: name -> how often it was begun without an answer;
    `ignored`: names that are not in the sample.
    """

    def __init__(self, path: Path, models: str, sizes: Mapping[str, int | None]) -> None:
        self.answers: dict[str, dict[str, Any]] = {}
        self.begun: Counter[str] = Counter()
        self.ignored: set[str] = set()
        self._path = path
        self._lines = Lines(path)
        try:
            self._read(models, sizes)
        except BaseException:
            self._lines.close()
            raise

    def __enter__(self) -> Log:
        return self

    def __exit__(self, *fault: object) -> None:
        self._lines.close()

    def write(self, **entry: Any) -> None:
        """Add a line; it is out of this process's hands when this returns."""
        self._lines.add(entry)

    def _read(self, models: str, sizes: Mapping[str, int | None]) -> None:
        entries = self._lines.read()
        try:
            head = next(entries, None)
            if head is not None and head["models"] != models:
                raise self._other("other models")
            for entry in entries:
                self._take(entry, sizes)
        except (ValueError, KeyError, TypeError):
            raise self._other("something else") from None
        if head is None:
            self.write(models=models)

    def _take(self, entry: dict[str, Any], sizes: Mapping[str, int | None]) -> None:
        name, status = entry["name"], entry["status"]
        if status == "ignored":
            self.ignored.add(name)
            return
        known = entry["size"] is not None
        if name not in sizes or (known and sizes[name] not in (None, entry["size"])):
            raise self._other("other videos")
        if status == "begun":
            self.begun[name] += 1
        else:
            self.begun[name] = 0
            self.answers[name] = entry

    def _other(self, what: str) -> AvfakeError:
        return AvfakeError(
            "other_run",
            f"{self._path} is the log of {what}: delete it to begin anew, or choose another --out.",
        )
