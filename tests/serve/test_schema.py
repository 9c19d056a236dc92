"""The API's description is true: whatever it allows is answered as it says, and never by a 5xx."""

from __future__ import annotations

import re
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from avfake.serve.description import REASONS
from avfake.serve.docs import document
from avfake.serve.schemas import EXAMPLE, Job
from avfake.workers import Models
from tests.serve.servers import TOKEN, Client, served


@pytest.fixture(scope="module")
def described(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Client]:
    """A server for whatever is asked of it, with the models that ship."""
    load = Models(threads=1)
    with served(tmp_path_factory.mktemp("described"), load, queue=500, token=TOKEN) as client:
        yield client


def asked(client: Client, folder: Path, *options: str) -> None:
    command = Path(sys.executable).with_name("schemathesis")
    address = f"http://{client.host}:{client.port}"
    done = subprocess.run(
        [
            str(command),
            "run",
            f"{address}/openapi.json",
            "--url",
            address,
            "--request-timeout",
            "60",
            "--header",
            f"Authorization: Bearer {TOKEN}",
            *options,
        ],
        capture_output=True,
        text=True,
        cwd=folder,
    )
    assert done.returncode == 0, done.stdout[-6000:] + done.stderr[-2000:]


def test_requests_of_all_kinds_get_what_is_described(described: Client, tmp_path: Path) -> None:
    asked(described, tmp_path, "--max-examples", "15", "--seed", "1", "--max-time", "15")


@pytest.mark.slow
def test_many_requests_of_all_kinds_get_what_is_described(
    described: Client, tmp_path: Path
) -> None:
    asked(described, tmp_path, "--max-examples", "400", "--max-time", "600")


def test_the_description_can_be_read_without_a_network(server: Client) -> None:
    reply = server.get("/docs")
    text = reply.body.decode()
    openapi: dict[str, Any] = server.get("/openapi.json").json
    for path in openapi["paths"]:
        assert path in text
    for name in openapi["components"]["schemas"]:
        assert f'id="{name}"' in text
    assert "<script" not in text
    assert "http://" not in text
    assert "https://" not in text
    assert "style-src 'sha256-" in reply.headers["Content-Security-Policy"]


def test_every_answer_is_described(server: Client) -> None:
    openapi = server.get("/openapi.json").json
    assert {"Job", "Prediction", "Refusal"} <= openapi["components"]["schemas"].keys()
    assert "HTTPValidationError" not in openapi["components"]["schemas"]
    for path, methods in openapi["paths"].items():
        for method, operation in methods.items():
            assert operation["description"], (method, path)
            refused = operation["responses"]["4XX"]["content"]["application/json"]["schema"]
            assert refused == {"$ref": "#/components/schemas/Refusal"}


def test_the_reasons_of_refusals_are_told_with_their_statuses(repository: Path) -> None:
    sources = (repository / "avfake" / "serve").glob("*.py")
    calls = "".join(path.read_text("utf-8") for path in sources)
    given = set(re.findall(r'ApiError\(\s*(\d+), "(\w+)"', calls))
    anywhere = {"no_token", "foreign_host", "foreign_origin", "internal_error"}
    told = {(str(status), reason) for reason, (status, _) in REASONS.items()}
    assert {pair for pair in given if pair[1] not in anywhere} <= told
    assert {reason for _, reason in given} >= anywhere


def test_where_the_token_goes_is_told_if_there_is_one(server: Client, described: Client) -> None:
    openapi: dict[str, Any] = described.get("/openapi.json").json
    assert openapi["components"]["securitySchemes"]["token"] == {"type": "http", "scheme": "bearer"}
    for path, methods in openapi["paths"].items():
        for method, operation in methods.items():
            ways = [name for way in operation.get("security", []) for name in way]
            expected = ["token", "session"] if method == "get" else ["token"]
            assert ways == (expected if path.startswith("/v1/") else []), (method, path)
    assert "security" not in str(server.get("/openapi.json").json)


def test_the_example_is_one(server: Client) -> None:
    Job.model_validate(EXAMPLE)
    assert EXAMPLE["id"] in server.get("/docs").body.decode()


def test_what_is_described_is_text_in_the_page() -> None:
    hostile = "`<script>alert(1)</script>`"
    about = {"version": hostile, "description": hostile}
    paths = {f"/{hostile}": {"get": {"description": hostile, "responses": {}}}}
    schemas = {hostile: {"description": hostile, "properties": {hostile: {"type": hostile}}}}
    page = document({"info": about, "paths": paths, "components": {"schemas": schemas}})
    assert "<script" not in page
    assert "<code>&lt;script&gt;" in page
