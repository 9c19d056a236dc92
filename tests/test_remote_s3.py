"""What lies in S3's buckets is judged as if it lay here: against a server that speaks S3."""

from __future__ import annotations

import io
import json
import os
import subprocess
import sys
from collections.abc import Iterator
from importlib.util import find_spec
from pathlib import Path
from types import SimpleNamespace
from typing import Any
from urllib.request import Request, urlopen

import pytest

import avfake.remote
from avfake.remote import Fetching
from avfake.types import Prediction
from tests.test_remote import Reader

s3fs = pytest.importorskip("s3fs")
boto3 = pytest.importorskip("boto3")
pytest.importorskip("flask_cors")  # moto's server is there whole or not at all
server = pytest.importorskip("moto.server")

SECRETS = ("AKIATHEKEY", "the-secret", "the-token", "Signature")
ODD = "a b/100% \u00fcber #1 & %20+.mp4"
LIMIT = 1_000_000


@pytest.fixture(scope="module")
def bucket() -> Iterator[Any]:
    """A client of the server; the environment says to all libraries where that is, and who asks."""
    moto = server.ThreadedMotoServer("127.0.0.1", 0)
    moto.start()
    host, port = moto.get_host_and_port()
    key, secret, token, _ = SECRETS
    settings = {
        "AWS_ENDPOINT_URL": f"http://{host}:{port}",
        "AWS_ACCESS_KEY_ID": key,
        "AWS_SECRET_ACCESS_KEY": secret,
        "AWS_SESSION_TOKEN": token,
        "AWS_DEFAULT_REGION": "us-east-1",
        "AWS_EC2_METADATA_DISABLED": "true",
        "AWS_CONFIG_FILE": os.devnull,
        "AWS_SHARED_CREDENTIALS_FILE": os.devnull,
        "AWS_MAX_ATTEMPTS": "1",
    }
    with pytest.MonkeyPatch.context() as patch:
        for name, value in settings.items():
            patch.setenv(name, value)
        yield boto3.client("s3")
    moto.stop()


@pytest.fixture(autouse=True)
def anew(bucket: Any) -> Iterator[None]:
    """Nothing is there of another test's, and nothing is remembered of it."""
    urlopen(Request(f"{os.environ['AWS_ENDPOINT_URL']}/moto-api/reset", method="POST")).close()
    bucket.create_bucket(Bucket="clips")
    s3fs.S3FileSystem.clear_instance_cache()
    yield
    s3fs.S3FileSystem.clear_instance_cache()


def judged(url: str, most: int = 10 * LIMIT) -> Prediction:
    return Fetching(Reader, ("s3",), most)().predict(url)


def put(bucket: Any, name: str, content: bytes) -> None:
    bucket.put_object(Bucket="clips", Key=name, Body=content)


@pytest.mark.parametrize("engine", ["local", "ray"])
def test_each_object_of_a_list_has_its_row(
    bucket: Any, tmp_path: Path, sample_path: Path, engine: str
) -> None:
    if engine == "ray" and find_spec("ray") is None:
        pytest.skip("Ray is not installed")
    put(bucket, "good.mp4", sample_path.read_bytes())
    put(bucket, "folder/large.mp4", bytes(LIMIT + 1))
    for name in (ODD, "broken.mp4"):
        put(bucket, name, b"no clip")
    bucket.create_bucket(Bucket="locked")
    refusal = {"Effect": "Deny", "Principal": "*", "Action": "s3:*"}
    refusal["Resource"] = "arn:aws:s3:::locked/*"
    policy = {"Version": "2012-10-17", "Statement": [refusal]}
    bucket.put_object(Bucket="locked", Key="a.mp4", Body=b"no clip")
    bucket.put_bucket_policy(Bucket="locked", Policy=json.dumps(policy))
    fetched = "could not be fetched:"
    expected = {
        "s3://clips/good.mp4": (None, None),
        "s3://clips/broken.mp4": ("not_media", "broken.mp4 is"),
        f"s3://clips/{ODD}": ("not_media", f"{ODD.removeprefix('a b/')} is"),
        "S3://clips/broken.mp4": ("not_media", "broken.mp4 is"),
        "s3://clips/none.mp4": ("not_fetched", f"none.mp4 {fetched} it is not there."),
        "s3://nowhere/a.mp4": ("not_fetched", f"a.mp4 {fetched} it is not there."),
        "s3://locked/a.mp4": ("not_fetched", f"a.mp4 {fetched} access is refused."),
        "s3://clips/folder": ("not_fetched", f"folder {fetched} it is a folder."),
        "s3://[/a.mp4": ("not_fetched", f"a.mp4 {fetched} its address is not valid."),
        "s3://clips/folder/large.mp4": (
            "file_too_large",
            f"large.mp4 {fetched} it has more than {LIMIT} bytes.",
        ),
    }
    listed, out = tmp_path / "names.txt", tmp_path / "rows.jsonl"
    listed.write_text("".join(f"{url}\n" for url in expected), encoding="utf-8")
    code = "import sys; from avfake.cli import main; sys.exit(main(sys.argv[1:]))"
    command = [sys.executable, "-c", code, "batch", "--list", str(listed), "--out", str(out)]
    options = ["--workers", "1", "--fetch", "s3", "--max-bytes", str(LIMIT), "--engine", engine]
    done = subprocess.run([*command, *options, "--verbose"], capture_output=True, text=True)
    assert done.returncode == 1, done.stderr
    rows = [json.loads(line) for line in out.read_text().splitlines()]
    assert sorted(row["path"] for row in rows) == sorted(expected)
    for row in rows:
        reason, message = expected[row["path"]]
        assert row["reason"] == reason, row
        assert (row["message"] or "").startswith(message or "")
        assert "\n" not in (row["message"] or "")
    assert not any(one in done.stdout + done.stderr + out.read_text() for one in SECRETS)


@pytest.mark.parametrize(
    ("meddle", "why"),
    [("replaced", "it was changed while it was read"), ("removed", "it is not there")],
)
def test_an_object_that_is_changed_meanwhile_is_not_judged(
    bucket: Any, monkeypatch: pytest.MonkeyPatch, meddle: str, why: str
) -> None:
    class File(io.BytesIO):
        """Where the object is written to; at its first bytes, somebody is at the object."""

        def write(self, part: Any) -> int:
            if not self.tell() and meddle == "replaced":
                put(bucket, "changing.mp4", b"y" * (8 << 20))
            elif not self.tell():
                bucket.delete_object(Bucket="clips", Key="changing.mp4")
            return super().write(part)

    put(bucket, "changing.mp4", b"x" * (8 << 20))
    monkeypatch.setattr(s3fs.S3FileSystem, "default_block_size", 1 << 20)  # asked for at a time
    monkeypatch.setattr(avfake.remote, "tempfile", SimpleNamespace(TemporaryFile=File))
    answer = judged("s3://clips/changing.mp4")
    text = f"changing.mp4 could not be fetched: {why}."
    assert (answer.reason, answer.message) == ("not_fetched", text)


@pytest.mark.parametrize(
    ("lacking", "why"),
    [
        ("AWS_ACCESS_KEY_ID", "there are no credentials for it"),
        ("AWS_ENDPOINT_URL", "the server cannot be reached"),
    ],
)
def test_what_is_wrong_with_the_settings_is_told(
    bucket: Any, monkeypatch: pytest.MonkeyPatch, lacking: str, why: str
) -> None:
    monkeypatch.delenv(lacking)
    if lacking == "AWS_ENDPOINT_URL":
        monkeypatch.setenv(lacking, "http://127.0.0.1:1")
    answer = judged("s3://clips/a.mp4")
    assert (answer.reason, answer.message) == ("not_fetched", f"a.mp4 could not be fetched: {why}.")
