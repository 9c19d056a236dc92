"""Content Credentials (C2PA): what a signed manifest in a file says about itself (extra `c2pa`).

Told beside a score and never part of it: most fakes have no manifest, nor have most real clips, and
whoever signs may say what they like. No network: a manifest that lies elsewhere is not fetched, no
certificate is looked up, and who signed is not checked against any list of trusted signers.

c2pa's native code parses strangers' bytes, so it runs in a process of its own.
"""

from __future__ import annotations

import json
import os
from collections.abc import Callable, Mapping
from dataclasses import asdict, dataclass
from importlib.util import find_spec
from pathlib import Path
from typing import Any

from avfake.container import open_regular
from avfake.limits import DEFAULT_LIMITS, Limits
from avfake.process import Fault, Worker
from avfake.terminal import visible
from avfake.types import AvfakeError

MEMORY = 1 << 30
"""Bytes that the process may hold; it starts at about 0.1 GB."""
_SETTINGS = {
    "verify": {"remote_manifest_fetch": False, "ocsp_fetch": False, "verify_trust": False},
    "core": {"allowed_network_hosts": []},
}
_MISSHAPEN = (AttributeError, LookupError, RecursionError, TypeError, ValueError)
_TEXT = 200  # characters of any one text that are kept
_MOST = 20  # actions and problems that are kept
_MADE = {
    "algorithmicMedia": "made by an algorithm",
    "composite": "put together from several sources",
    "compositeCapture": "put together from camera pictures",
    "compositeSynthetic": "put together, with synthetic parts",
    "compositeWithTrainedAlgorithmicMedia": "put together, with parts made by generative AI",
    "computationalCapture": "taken by a camera that computes its pictures",
    "digitalCapture": "taken by a camera",
    "digitalCreation": "made by a person with software",
    "humanEdits": "edited by a person",
    "screenCapture": "taken off a screen",
    "trainedAlgorithmicMedia": "made by generative AI",
    "virtualRecording": "recorded in a virtual scene",
}
"""IPTC's digital source types, in words; others are shown by their own names."""


@dataclass(frozen=True)
class Action:
    """What was done to the file, as its manifest says.

    `words`: "created", "edited"; `tool`: with what; `source`: how it came about, in words; `when`:
    as it is written there. All but `words` may be None.
    """

    words: str
    tool: str | None = None
    source: str | None = None
    when: str | None = None


@dataclass(frozen=True)
class Credentials:
    """What there is to say about a file's manifest; every text in it is a stranger's.

    `status`: "valid" (it belongs to these very bytes, and its signature holds; not that the signer
    is who they say), "invalid" (one of the two is not so: `problems` says what), "none", "remote"
    (it lies at an address, which was not fetched), "unreadable", "not_installed". `message` says it
    in a sentence. `signer` and `organisation` are those of the certificate; `signed`: when, where
    a time-stamp tells; `tool`: what made the manifest; `ingredients`: how many files went in.
    """

    status: str
    message: str
    signer: str | None = None
    organisation: str | None = None
    signed: str | None = None
    tool: str | None = None
    actions: tuple[Action, ...] = ()
    ingredients: int = 0
    problems: tuple[str, ...] = ()

    def to_dict(self) -> dict[str, Any]:
        """JSON-ready."""
        return asdict(self) | {
            "actions": [asdict(action) for action in self.actions],
            "problems": list(self.problems),
        }


def read_credentials(
    path: str | os.PathLike[str], timeout: float = 30.0, limits: Limits = DEFAULT_LIMITS
) -> Credentials:
    """What the manifest in a file says. Faults of the file are a status, and raise nothing.

    Starts a process, so a worker process (which may not) cannot call it. `timeout`: seconds for the
    file, whose every byte is read where there is a manifest.
    """
    if (missing := not_installed()) is not None:
        return missing
    worker = Worker[tuple[str, int], Credentials](reader, MEMORY)
    try:
        return worker.call((os.fspath(path), limits.bytes), timeout)
    except Fault as fault:
        return unreadable(f"the file {fault}")
    except AvfakeError as error:
        return unreadable(str(error).rstrip("."))
    finally:
        worker.stop()


def not_installed() -> Credentials | None:
    """The answer where the extra is not installed, else None. Nothing native is loaded."""
    if find_spec("c2pa") is not None:
        return None
    text = "Content Credentials are not looked for: pip install 'avfake[c2pa]'."
    return Credentials("not_installed", text)


def reader() -> Callable[[tuple[str, int]], Credentials]:
    """What a process does once, for `avfake.process.Worker`: it gives the function that reads
    (path, most bytes) items. That raises AvfakeError where a file cannot be opened."""
    from c2pa import C2paError, Context, Reader, Settings

    context = Context(Settings.from_dict(_SETTINGS))

    def read(item: tuple[str, int]) -> Credentials:
        path, most = item
        with open_regular(Path(path), most) as file:
            try:
                # The format is told from the bytes: a file's name may lie.
                reader = Reader.try_create(None, file, context=context)
                if reader is None:
                    return Credentials("none", "The file has no Content Credentials.")
                return credentials_of(json.loads(reader.json()))
            except C2paError as error:
                return _refused(error)
            except _MISSHAPEN as error:
                return unreadable(f"its manifest is not what it should be ({error})")

    return read


def credentials_of(store: Mapping[str, Any]) -> Credentials:
    """What c2pa's JSON says, checked as far as its shape goes.

    Raises one of _MISSHAPEN where it is not what c2pa promises.
    """
    manifest = store["manifests"][store["active_manifest"]]
    signature = _mapping(manifest.get("signature_info"))
    state = store.get("validation_state")
    results = _mapping(_mapping(store.get("validation_results")).get("activeManifest"))
    problems = [
        text
        for entry in _list(results.get("failure"))
        if (text := _text(entry.get("explanation")) or _text(entry.get("code")))
    ]
    valid = state in ("Valid", "Trusted")
    message = (
        "The file has Content Credentials that belong to it; who signed them was not checked."
        if valid
        else "The file has Content Credentials that do not hold: it, or they, were changed."
    )
    generators = _list(manifest.get("claim_generator_info"))
    return Credentials(
        "valid" if valid else "invalid",
        message,
        signer=_text(signature.get("common_name")),
        organisation=_text(signature.get("issuer")),
        signed=_text(signature.get("time")),
        tool=_tool(generators[0]) if generators else _text(manifest.get("claim_generator")),
        actions=tuple(_actions(manifest))[:_MOST],
        ingredients=len(_list(manifest.get("ingredients"))),
        problems=tuple(problems[:_MOST]),
    )


def _actions(manifest: Mapping[str, Any]) -> list[Action]:
    found = []
    for assertion in _list(manifest.get("assertions")):
        if not str(assertion.get("label", "")).startswith("c2pa.actions"):
            continue
        for action in _list(_mapping(assertion.get("data")).get("actions")):
            name = _text(action.get("action")) or "something unnamed"
            words = name.removeprefix("c2pa.").replace("_", " ")
            agent = action.get("softwareAgent")
            source = _text(action.get("digitalSourceType"))
            if source is not None:
                source = source.rsplit("/", 1)[-1]
                source = _MADE.get(source, source)
            tool = _tool(agent) if isinstance(agent, Mapping) else _text(agent)
            found.append(Action(words, tool, source, _text(action.get("when"))))
    return found


def _tool(entry: Mapping[str, Any]) -> str | None:
    parts = [text for key in ("name", "version") if (text := _text(entry.get(key)))]
    return " ".join(parts) or None


def _refused(error: Exception) -> Credentials:
    """c2pa's errors come as "Kind: text"."""
    kind, _, text = str(error).partition(":")
    if kind == "NotSupported":
        return unreadable("files of this kind are not supported")
    if kind == "Remote":
        where = _text(text.partition("url ")[2])
        return Credentials(
            "remote",
            "The file's Content Credentials are kept at an address, which was not asked.",
            problems=(where,) if where else (),
        )
    return unreadable((_text(text) or kind).rstrip("."))


def unreadable(why: str) -> Credentials:
    """The answer where a process, or c2pa, did not get to one; `why` completes the sentence."""
    return Credentials("unreadable", f"Content Credentials could not be looked for: {why}.")


def _text(value: object) -> str | None:
    """A stranger's text, made visible and short; None where there is none."""
    if not isinstance(value, str | int | float) or not str(value).strip():
        return None
    return visible(str(value).strip()[:_TEXT])


def _mapping(value: object) -> Mapping[str, Any]:
    return value if isinstance(value, Mapping) else {}


def _list(value: object) -> list[Mapping[str, Any]]:
    entries = value if isinstance(value, list) else []
    return [entry for entry in entries if isinstance(entry, Mapping)]
