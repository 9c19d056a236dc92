"""What the API's description (OpenAPI) says beyond its schemas."""

from __future__ import annotations

from typing import Any

from avfake.serve import schemas
from avfake.serve.guards import COOKIE

DESCRIPTION = """\
How likely is a video a deepfake? Send a clip, ask about it once a second until its `state` is
`done`, read its `result`, and delete it; who does not delete it has it forgotten after a while.

`curl -F file=@clip.mp4 localhost:8765/v1/predictions`, then
`curl localhost:8765/v1/predictions/ID`

A file that cannot be judged is an answer, too: a `result` that has the `status` "error" and a
`reason`. A request that is refused has an HTTP status from 400 on, and a reason as well: at any
address `no_token` (401), `foreign_host` or `foreign_origin` (403), `not_allowed` (405) and
`internal_error` (500).

Where the server has a token, it comes along as `Authorization: Bearer TOKEN`. Elements of a page
that can send no header get in by a cookie, which `POST /v1/session` gives to who brings the token,
and which is good for reading only.

A probability is no proof: treat "likely fake" as a reason to look closer."""
FORM = {
    "requestBody": {
        "required": True,
        "content": {
            "multipart/form-data": {
                "schema": {
                    "type": "object",
                    "properties": {"file": {"type": "string", "format": "binary"}},
                    "required": ["file"],
                    "additionalProperties": False,
                }
            }
        },
    }
}
REFUSED: dict[int | str, dict[str, Any]] = {
    "4XX": {"model": schemas.Refusal, "description": "Refused, as at any address."},
    "5XX": {"model": schemas.Refusal, "description": "Failed, as at any address."},
}
PNG = {"image/png": {"schema": {"type": "string", "format": "binary"}}}
NO_VIEW = ("not_found", "no_evidence", "not_done", "busy")
"""Why there may be no picture of what an answer rests on."""
REASONS = {
    "bad_form": (400, "The form is damaged or incomplete."),
    "not_found": (404, "There is no such prediction, or not any more."),
    "no_media": (404, "Nothing of this clip plays."),
    "no_such_face": (404, "This face was not judged in this clip."),
    "no_sound": (404, "The clip has no sound."),
    "no_evidence": (404, "There is nothing of this kind to show."),
    "too_slow": (408, "The upload came too slowly."),
    "not_done": (409, "The clip is not judged yet."),
    "file_too_large": (413, "The file has more bytes than `/v1/about` allows."),
    "not_a_form": (415, "The body is no `multipart/form-data`."),
    "no_such_range": (416, "The clip ends before that."),
    "wrong_part": (422, "The form holds something else than one part called `file`."),
    "bad_request": (422, "A parameter is not right."),
    "busy": (429, "Too many are waiting; the header `Retry-After` says when to ask again."),
    "no_room": (507, "The disk is full."),
}
"""Why an address refuses what it is asked: the status, and what the code means."""


def refusals(*reasons: str) -> dict[int | str, dict[str, Any]]:
    """What an address refuses for these reasons, as OpenAPI has it."""
    told: dict[int | str, dict[str, Any]] = {}
    for reason in reasons:
        status, meaning = REASONS[reason]
        answer = told.setdefault(status, {"model": schemas.Refusal, "description": ""})
        answer["description"] = f"{answer['description']} `{reason}`: {meaning}".strip()
    return told


def guarded(openapi: dict[str, Any]) -> None:
    """Say in an OpenAPI description where the token goes (see `avfake.serve.guards`)."""
    openapi["components"]["securitySchemes"] = {
        "token": {"type": "http", "scheme": "bearer"},
        "session": {"type": "apiKey", "in": "cookie", "name": COOKIE},
    }
    for path, methods in openapi["paths"].items():
        for method, operation in methods.items():
            if path.startswith("/v1/"):
                ways = ["token", "session"] if method == "get" else ["token"]
                operation["security"] = [{way: []} for way in ways]
