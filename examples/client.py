"""Send a clip to a running `avfake serve`, wait, and print what it says. Needs Python alone.

    avfake serve &
    python examples/client.py clip.mp4 http://127.0.0.1:8765

A server with a token wants it in the environment variable AVFAKE_TOKEN.
"""

from __future__ import annotations

import json
import os
import secrets
import sys
import time
import urllib.error
import urllib.request
from collections.abc import Iterator
from pathlib import Path
from typing import Any


class Client:
    """Talks to one server. Raises urllib.error.HTTPError for what the server refuses; `explained`
    gives its reason."""

    def __init__(self, server: str = "http://127.0.0.1:8765", token: str | None = None) -> None:
        self._api = server.rstrip("/") + "/v1"
        self._headers = {} if token is None else {"Authorization": f"Bearer {token}"}

    def predict(self, path: Path, every: float = 0.5) -> dict[str, Any]:
        """Send a clip and wait for its result: what `avfake predict --json` prints."""
        job = self.send(path)
        try:
            while job["state"] != "done":
                time.sleep(every)
                job = self._ask("GET", f"/predictions/{job['id']}")
        finally:
            self._ask("DELETE", f"/predictions/{job['id']}")
        result: dict[str, Any] = job["result"]
        return result

    def send(self, path: Path) -> dict[str, Any]:
        """Upload a clip, of any size; the job that judges it. Waits while the server is busy."""
        boundary = secrets.token_hex(16)
        name = path.name.replace("\\", "\\\\").replace('"', '\\"')
        name = name.replace("\r", "%0D").replace("\n", "%0A")  # as browsers do
        head = (
            f'--{boundary}\r\nContent-Disposition: form-data; name="file"; filename="{name}"\r\n'
            "Content-Type: application/octet-stream\r\n\r\n"
        ).encode(errors="replace")  # a name may be no text
        tail = f"\r\n--{boundary}--\r\n".encode()
        headers = {
            "Content-Type": f"multipart/form-data; boundary={boundary}",
            "Content-Length": str(len(head) + path.stat().st_size + len(tail)),
        }

        def body() -> Iterator[bytes]:
            yield head
            with path.open("rb") as file:
                while part := file.read(1 << 16):
                    yield part
            yield tail

        while True:
            try:
                return self._ask("POST", "/predictions", body(), headers)
            except urllib.error.HTTPError as error:
                if error.code != 429:
                    raise
                time.sleep(float(error.headers["Retry-After"]))  # too many clips are waiting

    def _ask(
        self, method: str, path: str, data: Any = None, headers: dict[str, str] | None = None
    ) -> Any:
        request = urllib.request.Request(
            self._api + path, data, self._headers | (headers or {}), method=method
        )
        with urllib.request.urlopen(request, timeout=60) as reply:
            content = reply.read()
        return json.loads(content) if content else None


def explained(error: urllib.error.HTTPError) -> str:
    """The server's own words for a refusal."""
    try:
        return str(json.load(error)["error"]["message"])
    except (ValueError, KeyError, TypeError):
        return f"the server answers {error.code}"


def main(arguments: list[str]) -> int:
    if not 1 <= len(arguments) <= 2 or arguments[0] in ("-h", "--help"):
        print(__doc__, file=sys.stderr)
        return 2
    client = Client(*arguments[1:], token=os.environ.get("AVFAKE_TOKEN"))
    try:
        result = client.predict(Path(arguments[0]))
    except urllib.error.HTTPError as error:
        print(f"refused: {explained(error)}", file=sys.stderr)
        return 1
    except OSError as error:
        print(f"failed: {error}", file=sys.stderr)
        return 1
    if result["status"] != "ok":
        print(f"{result['path']}: {result['message']}")
        return 1
    print(f"{result['path']}: {result['verdict']}, probability {result['fake_probability']:.2f}")
    for name, branch in result["branches"].items():
        value = branch["fake_probability"]
        print(f"  {name:8s} {branch['reason'] if value is None else f'{value:.2f}'}")
    return 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
