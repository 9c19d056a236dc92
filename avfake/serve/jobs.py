"""Who waits, who is judged and what came out: everything the server remembers."""

from __future__ import annotations

import asyncio
import json
import logging
import secrets
import time
from collections.abc import AsyncIterator, Callable, Iterator
from contextlib import asynccontextmanager, contextmanager
from dataclasses import replace
from datetime import UTC, datetime
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any

from avfake import credentials
from avfake.credentials import Credentials, not_installed, unreadable
from avfake.process import Fault
from avfake.serve import work
from avfake.serve.desks import Desk
from avfake.serve.faults import ApiError
from avfake.serve.settings import Settings
from avfake.serve.store import Store
from avfake.serve.upload import Upload
from avfake.types import AvfakeError, Prediction, Progress

if TYPE_CHECKING:
    from avfake.detector import Detector

MOST_DONE = 200
"""Clips that are remembered at most; beyond that, those that were asked for longest ago go."""
MOST_ASKED = 16  # pictures of evidence that may be waited for at a time
VIEW_TIME = 120.0
"""Seconds that making one picture of evidence may take."""
REST_AFTER = 300.0  # seconds without a question after which the process for pictures ends
PREVIEW_TIME = 600.0
"""Seconds that making a preview may take."""
CREDENTIALS_TIME = 30.0
"""Seconds that reading a clip's Content Credentials may take."""
_NOTHING = {
    "no_such_face": "This face was not judged in this clip.",
    "no_sound": "The clip has no sound.",
    "no_evidence": "There is nothing of this kind to show.",
}
_LOOK_EVERY = 1.0  # seconds between two looks for what is too old

log = logging.getLogger("avfake.serve")


class Job:
    """One clip. `state`: "queued", "working" or "done"; `progress` is set from another thread."""

    def __init__(self, upload: Upload, folder: Path) -> None:
        self.id = secrets.token_urlsafe(16)
        self.upload = upload
        self.folder = folder
        self.created = datetime.now(UTC)
        self.state = "queued"
        self.progress: Progress | None = None
        self.judged: work.Judged | None = None
        self.credentials: Credentials | None = None
        self.judging: asyncio.Task[None] | None = None
        self.preview: asyncio.Task[Path | None] | None = None
        self.used = time.monotonic()

    def body(self, position: int | None) -> bytes:
        """The job as JSON. `position`: 1 is the next to be judged."""
        head = {
            "id": self.id,
            "name": self.upload.name,
            "size": self.upload.size,
            "sha256": self.upload.sha256,
            "state": self.state,
            "position": position,
            "progress": self._progress(),
            "created": self.created.isoformat(timespec="milliseconds"),
            "media": self._media(),
            "credentials": None if self.credentials is None else self.credentials.to_dict(),
        }
        # The result may be megabytes of boxes: it was written in the worker, and once.
        result = b"null" if self.judged is None else self.judged.text
        return json.dumps(head).encode()[:-1] + b', "result": ' + result + b"}"

    def _progress(self) -> dict[str, Any] | None:
        if self.state != "working" or self.progress is None:
            return None
        return {"stage": self.progress.stage, "share": round(self.progress.share, 3)}

    def _media(self) -> dict[str, Any] | None:
        playback = None if self.judged is None else self.judged.playback
        if playback is None:
            return None
        made = self.preview is None or self.preview.done()
        if self.preview is not None and made and self.preview.result() is None:
            return None
        return {
            "url": f"/v1/predictions/{self.id}/media",
            "preview": playback.type is None,
            "ready": made,
            "kind": playback.kind,
        }


class Jobs:
    """All clips of a run, and the worker processes that look at them.

    `load`: what gives each of these its detector; picklable.
    """

    def __init__(self, settings: Settings, store: Store, load: Callable[[], Detector]) -> None:
        self._settings = settings
        self._store = store
        self._jobs: dict[str, Job] = {}
        self._queue: asyncio.Queue[Job] = asyncio.Queue()
        self._coming = 0  # uploads under way
        memory = settings.limits.memory
        self._ears = [_Ear() for _ in range(settings.workers)]
        self._judges = [Desk(partial(work.judging, load), memory, ear) for ear in self._ears]
        self._viewer = Desk(partial(work.viewing, load), memory, short=True)
        self._copier = Desk(work.copying, memory)
        self._notary = Desk(credentials.reader, credentials.MEMORY)
        self._viewed = time.monotonic()
        self.fault: str | None = None
        """Why no clip can be judged at present, if so: a reason code."""
        self.facts = work.Facts({}, False, {})

    @asynccontextmanager
    async def open(self) -> AsyncIterator[None]:
        """Start the first worker, and look after clips until the end.

        Raises what loading the models raises: AvfakeError, or Fault where its process dies.
        """
        tasks: list[asyncio.Task[Any]] = []
        try:
            self.facts = await self._judges[0].ask(work.facts, VIEW_TIME)
            for ear, desk in zip(self._ears, self._judges, strict=True):
                tasks.append(asyncio.create_task(self._judge_on(desk, ear)))
            tasks.append(asyncio.create_task(self._look_after()))
            yield
        finally:
            doing = [*tasks, *(t for job in self._jobs.values() for t in _tasks(job))]
            for task in doing:
                task.cancel()
            await asyncio.gather(*doing, return_exceptions=True)
            desks = [*self._judges, self._viewer, self._copier, self._notary]
            await asyncio.gather(*(asyncio.to_thread(desk.close) for desk in desks))

    @contextmanager
    def place(self) -> Iterator[None]:
        """Hold a place for a clip that is being uploaded. Raises ApiError 429 `busy`."""
        active = sum(job.state != "done" for job in self._jobs.values())
        if self._coming + active >= self._settings.workers + self._settings.queue:
            raise ApiError(
                429, "busy", "Too many clips are waiting; try again soon.", {"Retry-After": "5"}
            )
        self._coming += 1
        try:
            yield
        finally:
            self._coming -= 1

    def add(self, upload: Upload, folder: Path) -> Job:
        """Queue a clip. `folder`: what is removed with it."""
        job = Job(upload, folder)
        self._jobs[job.id] = job
        self._queue.put_nowait(job)
        return job

    def get(self, id_: str) -> Job:
        """Raises ApiError 404 `not_found`."""
        job = self._jobs.get(id_)
        if job is None:
            raise ApiError(404, "not_found", "There is no such prediction, or not any more.")
        job.used = time.monotonic()
        return job

    def position(self, job: Job) -> int | None:
        """Where in the queue a clip is; 1 is the next. None for one that is not."""
        if job.state != "queued":
            return None
        return [other for other in self._jobs.values() if other.state == "queued"].index(job) + 1

    async def remove(self, job: Job) -> None:
        """Forget a clip: stop whatever is done with it, and remove its files."""
        self._jobs.pop(job.id, None)
        doing = _tasks(job)
        for task in doing:
            task.cancel()
        await asyncio.gather(*doing, return_exceptions=True)
        await asyncio.to_thread(self._store.remove, job.folder)

    async def view(self, task: Callable[..., Any]) -> Any:
        """What a worker with models makes of a clip that was judged.

        Raises ApiError: 404 `no_such_face`, `no_sound` or `no_evidence` where there is nothing to
        show, 429 `busy`, 500 for what the worker did not survive.
        """
        if self._viewer.waiting >= MOST_ASKED:
            raise ApiError(
                429, "busy", "Too many pictures are waited for; try again.", {"Retry-After": "2"}
            )
        try:
            answer = await self._viewer.ask(task, VIEW_TIME)
        except Fault as fault:
            log.error("a picture of evidence: its worker %s", fault)
            raise ApiError(500, fault.reason, "This picture cannot be made.") from None
        finally:
            self._viewed = time.monotonic()
        if isinstance(answer, AvfakeError):
            log.debug("no evidence: %s", answer)
            reason = answer.reason if answer.reason in _NOTHING else "no_evidence"
            raise ApiError(404, reason, _NOTHING[reason])
        return answer

    async def _judge_on(self, desk: Desk, ear: _Ear) -> None:
        while True:
            job = await self._queue.get()
            if job.id in self._jobs:  # it was not deleted meanwhile
                job.state, ear.job = "working", job
                job.judging = asyncio.create_task(self._judge(desk, job))
                await asyncio.wait([job.judging])
                ear.job = None

    async def _judge(self, desk: Desk, job: Job) -> None:
        started = time.monotonic()
        upload = job.upload
        task = partial(work.judge, upload.path, upload.name)
        reading = asyncio.create_task(self._credentials(upload))
        try:
            judged = await self._attempts(desk, task, upload)
            self.fault = None
            job.credentials = await reading
        except asyncio.CancelledError:
            raise
        except Exception as error:
            # Not this clip's fault: models that cannot be loaded, processes that do not start.
            log.error("no clip can be judged: %s", error)
            log.debug("", exc_info=error)
            self.fault = error.reason if isinstance(error, AvfakeError) else "no_worker"
            text = "The server cannot judge clips at present; its own log says why."
            judged = self._error(upload, self.fault, text)
        finally:
            reading.cancel()
        job.judged, job.state, job.progress = judged, "done", None
        job.used = time.monotonic()
        if judged.playback is not None and judged.playback.type is None:
            job.preview = asyncio.create_task(self._preview(job))
        answer = judged.prediction
        log.info(
            "judged %.1f MB in %.1f s: %s", upload.size / 1e6, job.used - started,
            answer.reason or answer.status,
        )  # fmt: skip

    async def _attempts(self, desk: Desk, task: Callable[..., Any], upload: Upload) -> work.Judged:
        """A clip that its worker does not survive is tried once more; one that took too long is
        not."""
        try:
            return await desk.ask(task, self._settings.timeout)
        except Fault as fault:
            log.warning("a clip %s", fault)
            if fault.reason == "timeout":
                return self._error(upload, fault.reason, f"{upload.name} {fault}.")
        try:
            judged: work.Judged = await desk.ask(task, self._settings.timeout)
        except Fault as fault:
            log.warning("a clip %s, again", fault)
            return self._error(upload, fault.reason, f"{upload.name} {fault}, twice.")
        warned = replace(judged.prediction, warnings=(*judged.prediction.warnings, "retried"))
        return replace(judged, prediction=warned, text=work.as_json(warned, upload.name))

    async def _credentials(self, upload: Upload) -> Credentials:
        """What the file's manifest says. It is read beside the judging, in another process."""
        missing = not_installed()
        if missing is not None:
            return missing
        item = str(upload.path), self._settings.limits.bytes
        try:
            found: Credentials = await self._notary.ask(item, CREDENTIALS_TIME)
        except Exception as error:  # whatever it is, the score does not depend on it
            log.debug("no credentials: %s", error)
            return unreadable("they could not be read")
        return found

    def _error(self, upload: Upload, reason: str, message: str) -> work.Judged:
        path = str(upload.path)
        prediction = Prediction(path, "error", reason, message, bundle=self.facts.bundle)
        return work.Judged(prediction, work.as_json(prediction, upload.name), None)

    async def _preview(self, job: Job) -> Path | None:
        out = job.folder / "preview.mp4"
        try:
            await self._copier.ask(partial(work.preview, job.upload.path, out), PREVIEW_TIME)
        except Exception as error:
            log.warning("no preview: %s", type(error).__name__)
            log.debug("", exc_info=error)
            return None
        self._copier.rest()
        return out

    async def _look_after(self) -> None:
        """Forget clips that nobody has asked for in a long time, and let processes rest."""
        while True:
            await asyncio.sleep(_LOOK_EVERY)
            now = time.monotonic()
            done = [job for job in self._jobs.values() if job.state == "done"]
            done.sort(key=lambda job: job.used)
            for number, job in enumerate(done):
                if now - job.used > self._settings.keep or number < len(done) - MOST_DONE:
                    await self.remove(job)
            if not self._viewer.waiting and now - self._viewed > REST_AFTER:
                self._viewed = now
                self._viewer.rest()


class _Ear:
    """Hears how far a worker is, in the thread that watches it."""

    def __init__(self) -> None:
        self.job: Job | None = None

    def __call__(self, progress: Progress) -> None:
        if (job := self.job) is not None:
            job.progress = progress


def _tasks(job: Job) -> list[asyncio.Task[Any]]:
    return [task for task in (job.judging, job.preview) if task is not None and not task.done()]
