"""What the API answers when something is wrong: a status, a reason and one sentence."""

from __future__ import annotations

from collections.abc import Mapping

from fastapi.responses import JSONResponse


class ApiError(Exception):
    """A refusal that is told to the client.

    `status`: of HTTP; `reason`: a stable snake_case code; `message`: one sentence, without paths.
    """

    def __init__(
        self, status: int, reason: str, message: str, headers: Mapping[str, str] | None = None
    ) -> None:
        super().__init__(message)
        self.status = status
        self.reason = reason
        self.message = message
        self.headers = dict(headers or {})

    def response(self) -> JSONResponse:
        body = {"error": {"reason": self.reason, "message": self.message}}
        return JSONResponse(body, self.status, self.headers)
