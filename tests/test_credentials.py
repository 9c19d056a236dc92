"""Content Credentials: what a manifest says is told, what does not hold is told, nothing is asked
of the network, and no file harms whoever looks."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import threading
from collections.abc import Callable
from http.server import BaseHTTPRequestHandler, HTTPServer
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest

from avfake import credentials
from avfake.credentials import Action, credentials_of, read_credentials, reader
from tests.clips import grey_frames, write_clip
from tests.signing import AI, sign


@pytest.fixture(scope="module")
def plain(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write_clip(tmp_path_factory.mktemp("plain") / "plain.mp4", grey_frames([40] * 10))


@pytest.fixture(scope="module")
def signed(plain: Path) -> Path:
    return sign(plain, plain.with_name("signed.mp4"))


def test_a_signed_file_tells_who_signed_and_what_was_done(signed: Path) -> None:
    found = read_credentials(signed)
    assert (found.status, found.problems) == ("valid", ())
    assert (found.signer, found.organisation) == ("A Signer", "An Organisation")
    assert found.tool == "Studio 2"
    assert found.actions == (
        Action("created", "Painter", "made by generative AI"),
        Action("color adjustments"),
    )
    assert "was not checked" in found.message
    assert json.loads(json.dumps(found.to_dict()))["actions"][0]["tool"] == "Painter"


def test_a_picture_that_was_changed_afterwards_is_told(signed: Path, tmp_path: Path) -> None:
    data = bytearray(signed.read_bytes())
    data[data.rindex(b"mdat") + 20] ^= 1
    path = tmp_path / "changed.mp4"
    path.write_bytes(data)
    found = read_credentials(path)
    assert found.status == "invalid"
    assert any("hash" in problem for problem in found.problems)
    assert found.signer == "A Signer"


def test_a_signer_who_was_put_in_afterwards_is_told(signed: Path, tmp_path: Path) -> None:
    path = tmp_path / "forged.mp4"
    path.write_bytes(signed.read_bytes().replace(b"A Signer", b"A Golfer"))
    found = read_credentials(path)
    assert found.status == "invalid"
    assert any("signature" in problem for problem in found.problems)


def test_a_file_without_any_has_none(plain: Path) -> None:
    found = read_credentials(plain)
    assert found.status == "none"
    assert found.actions == ()


def test_a_manifest_elsewhere_is_not_fetched(plain: Path, tmp_path: Path) -> None:
    asked = []

    class Listener(BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            asked.append(self.path)
            self.send_error(404)

        do_HEAD = do_GET

        def log_message(self, *_: object) -> None:
            pass

    server = HTTPServer(("127.0.0.1", 0), Listener)
    threading.Thread(target=server.serve_forever, daemon=True).start()
    try:
        address = f"http://127.0.0.1:{server.server_port}/manifest.c2pa"
        path = sign(plain, tmp_path / "remote.mp4", remote=address)
        found = read_credentials(path)
        assert (found.status, found.problems) == ("remote", (address,))
        assert asked == []
        import c2pa  # left to itself it does ask: the test could fail

        with path.open("rb") as file, pytest.raises(c2pa.C2paError):
            c2pa.Reader("video/mp4", file)
        assert asked == ["/manifest.c2pa"]
    finally:
        server.shutdown()
        server.server_close()


def test_the_name_of_a_file_says_nothing_about_its_kind(signed: Path, tmp_path: Path) -> None:
    path = tmp_path / "picture.jpg"
    path.write_bytes(signed.read_bytes())
    assert read_credentials(path).status == "valid"


def awkward(folder: Path, signed: Path) -> dict[str, Path]:
    made = {name: folder / f"{name}.mp4" for name in ("text", "empty", "cut", "broken", "nobody")}
    made["text"].write_text("no clip at all")
    made["empty"].touch()
    data = signed.read_bytes()
    made["cut"].write_bytes(data[: len(data) // 2])
    made["broken"].write_bytes(data.replace(b"claim_generator_info", b"claim_generatox_info"))
    made["matroska"] = write_clip(folder / "clip.mkv", grey_frames([40] * 5))
    made["folder"] = folder
    return made


def test_what_cannot_be_read_is_told_in_a_sentence(signed: Path, tmp_path: Path) -> None:
    for name, path in awkward(tmp_path, signed).items():
        found = read_credentials(path)
        assert found.status == "unreadable", name
        assert found.message.startswith("Content Credentials could not be looked for: "), name
        assert found.message.endswith("."), name
        assert str(tmp_path) not in found.message, name


def _crashing() -> Callable[[Any], Any]:
    return lambda item: os.kill(os.getpid(), signal.SIGSEGV)


def _stalling() -> Callable[[Any], Any]:
    return lambda item: threading.Event().wait()


def test_a_crash_or_a_stall_costs_nobody_else(plain: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(credentials, "reader", _crashing)
    found = read_credentials(plain)
    assert (found.status, "SIGSEGV" in found.message) == ("unreadable", True)
    monkeypatch.setattr(credentials, "reader", _stalling)
    found = read_credentials(plain, timeout=0.2)
    assert (found.status, "more than 0.2 s" in found.message) == ("unreadable", True)


def test_without_the_extra_it_says_so(plain: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(credentials, "find_spec", lambda name: None)
    found = read_credentials(plain)
    assert found.status == "not_installed"
    assert "avfake[c2pa]" in found.message


def test_the_native_library_stays_out_of_whoever_asks(plain: Path) -> None:
    script = (
        "import sys; from avfake.credentials import read_credentials; "
        f"print(read_credentials({str(plain)!r}).status, 'c2pa' in sys.modules)"
    )
    done = subprocess.run(
        [sys.executable, "-c", script], capture_output=True, text=True, check=True
    )
    assert done.stdout.split() == ["none", "False"]


# Texts and shapes of strangers


def store(**manifest: Any) -> dict[str, Any]:
    return {"active_manifest": "m", "manifests": {"m": manifest}, "validation_state": "Valid"}


def test_texts_are_short_and_hide_nothing() -> None:
    found = credentials_of(
        store(signature_info={"common_name": "a\x1b[31m\u202eb" + "x" * 9999, "issuer": " "})
    )
    assert found.signer is not None
    assert len(found.signer) < 300
    assert "\x1b" not in found.signer
    assert "\u202e" not in found.signer
    assert found.organisation is None


def test_many_actions_are_cut() -> None:
    actions = [{"action": f"c2pa.{i}"} for i in range(1000)]
    found = credentials_of(
        store(assertions=[{"label": "c2pa.actions.v2", "data": {"actions": actions}}])
    )
    assert len(found.actions) == 20


@pytest.mark.parametrize(
    "manifest",
    [
        {"signature_info": None, "assertions": None, "claim_generator_info": None},
        {"signature_info": [1], "assertions": {"a": 1}, "claim_generator_info": "x"},
        {"assertions": [None, 3, {"label": None}, {"label": "c2pa.actions", "data": 7}]},
        {"assertions": [{"label": "c2pa.actions", "data": {"actions": [{"action": {}}, 3]}}]},
    ],
)
def test_odd_shapes_are_no_fault(manifest: dict[str, Any]) -> None:
    assert credentials_of(store(**manifest)).status == "valid"


@pytest.mark.parametrize(
    "found",
    ["{}", "[]", "null", "not JSON", '{"manifests": {"a": null}, "active_manifest": "a"}'],
)
def test_a_store_of_another_shape_is_told_in_a_sentence(
    plain: Path, monkeypatch: pytest.MonkeyPatch, found: str
) -> None:
    c2pa = pytest.importorskip("c2pa")
    answer = SimpleNamespace(json=lambda: found)
    monkeypatch.setattr(c2pa.Reader, "try_create", lambda *_, **__: answer)
    told = reader()((str(plain), 1 << 20))
    assert told.status == "unreadable"
    assert told.message.endswith(".")


def test_a_state_that_is_unknown_does_not_hold() -> None:
    assert credentials_of(store() | {"validation_state": None}).status == "invalid"
    assert credentials_of(store() | {"validation_state": "Trusted"}).status == "valid"


def test_sources_are_told_in_words_or_by_their_names() -> None:
    actions = [{"action": "x", "digitalSourceType": source} for source in (AI, "http://a/b/New")]
    found = credentials_of(
        store(assertions=[{"label": "c2pa.actions", "data": {"actions": actions}}])
    )
    assert [action.source for action in found.actions] == ["made by generative AI", "New"]


def test_a_sound_file_can_have_them(tmp_path: Path) -> None:
    path = write_clip(
        tmp_path / "a.wav", sound=np.zeros(16_000, np.float32), audio_codec="pcm_s16le"
    )
    assert read_credentials(sign(path, tmp_path / "b.wav")).status == "valid"
