"""The log of a submission: what happened to each video, so that a run that was killed can go on.

The first line names the models. A video has a line when it is begun ({"name", "status": "begun",
"size"}) and one when it is done (status "ok", "abstain" or "error", with "reason" and "logit"); one
that no sample lists has status "ignored".
"""

from __future__ import annotations

import json
from collections import Counter
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from avfake.types import AvfakeError


class Log:
    """What happened, a JSON object a line, only ever added to. Use as a context manager.

    `models`: what tells one set of models from another; `sizes`: name -> bytes of each video, None
    where it is missing. Raises AvfakeError `other_run` where the log is of other models or videos,
    `not_writable`.

    `answers`: name -> its last answer; `begun`: name -> how often it was begun without an answer;
    `ignored`: names that are not in the sample.
    """

    def __init__(self, path: Path, models: str, sizes: Mapping[str, int | None]) -> None:
        self.answers: dict[str, dict[str, Any]] = {}
        self.begun: Counter[str] = Counter()
        self.ignored: set[str] = set()
        self._path = path
        with writing(path):
            self._file = path.open("a+b")
        try:
            self._read(models, sizes)
        except BaseException:
            self._file.close()
            raise

    def __enter__(self) -> Log:
        return self

    def __exit__(self, *fault: object) -> None:
        self._file.close()

    def write(self, **entry: Any) -> None:
        """Add a line; it is out of this process's hands when this returns."""
        with writing(self._path):
            self._file.write(json.dumps(entry).encode() + b"\n")
            self._file.flush()

    def _read(self, models: str, sizes: Mapping[str, int | None]) -> None:
        self._file.seek(0)
        content = self._file.read()
        whole = content.rfind(b"\n") + 1
        self._file.truncate(whole)  # a last line without its end was cut off by a kill
        try:
            head, *entries = [json.loads(line) for line in content[:whole].splitlines()] or [None]
            if head is None:
                self.write(models=models)
                return
            if head["models"] != models:
                raise self._other("other models")
            for entry in entries:
                self._take(entry, sizes)
        except (ValueError, KeyError, TypeError):
            raise self._other("something else") from None

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


@contextmanager
def writing(path: Path) -> Iterator[None]:
    """Faults of writing `path` as AvfakeError `not_writable`."""
    try:
        yield
    except OSError as error:
        raise AvfakeError(
            "not_writable", f"{path} cannot be written: {error.strerror or error}."
        ) from None
