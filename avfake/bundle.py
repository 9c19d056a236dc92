"""A model bundle: a folder with `bundle.json` and one ONNX graph a branch.

    bundle.json = {
      "format": 1, "name": ..., "version": ...,
      "graphs": {
        "visual":  {"file": "visual.onnx", "sha256": ..., "size": 128},
        "audio":   {"file": "audio.onnx", "sha256": ..., "samples": 64000},
        "lipsync": {"file": "lipsync.onnx", "sha256": ..., "pictures": 50, "size": 112},
        "fusion":  {"file": "fusion.onnx", "sha256": ...},
        "finder":  {"file": "finder.onnx", "sha256": ..., "side": 640, "threshold": 0.5}},
      "calibration": {"visual": {"scale": 1.0, "bias": 0.0}, ...},
      "thresholds": {"likely_real": 0.2, "likely_fake": 0.8}}

`calibration` maps a branch's raw logit to the log-odds that users read and the fusion combines.
The finder is the only graph that a bundle may lack: dlib finds the faces then.

A bundle may be a stranger's. Each file is read once; its checksum is compared before anything
parses it, `graphs` looks at what it holds before onnxruntime does, and the very bytes that were
checked are those that run. Reasons of the AvfakeErrors raised here: `bundle_missing` (it, or a
file of it, is not there or cannot be read), `bundle_damaged` (it is not what its manifest or this
version says) and `bundle_unsafe` (it reaches for more than a bundle may: files outside its folder,
things that are no files, code, more than the limits below).
"""

from __future__ import annotations

import hashlib
import json
import os
import re
import stat
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
import onnxruntime

from avfake.graphs import Value, read_graph
from avfake.terminal import visible
from avfake.types import BRANCHES, FRAME_RATE, SAMPLE_RATE, AvfakeError

FORMAT = 1
MANIFEST = "bundle.json"
GRAPHS = (*BRANCHES, "fusion")
OPTIONAL = ("finder",)
FACTS = {
    "visual": {"size": (8, 1024)},
    "audio": {"samples": (1600, 960_000)},
    "lipsync": {"pictures": (2, 250), "size": (8, 1024)},
    "finder": {"side": (32, 4096)},
}
"""Whole numbers that the manifest must tell of a graph, with their least and greatest: shapes of
its inputs (pixels, samples, pictures), the longest side of pictures that the finder searches."""
MAX_MANIFEST = 1 << 20
MAX_GRAPH = 1 << 29
"""Bytes of the largest files that are read: 1 MB of manifest, 512 MB a graph."""
_FILE_NAME = re.compile(r"[A-Za-z0-9_][A-Za-z0-9_.+-]{0,99}")
_SHA256 = re.compile(r"[0-9a-f]{64}")


@dataclass(frozen=True)
class Bundle:
    """A checked bundle. `sha256` is that of `bundle.json`, which holds those of the graphs;
    `data`: the bytes of each graph, as they were checked; `shipped`: it came with avfake."""

    name: str
    version: str
    sha256: str
    folder: Path
    manifest: dict[str, Any]
    data: Mapping[str, bytes] = field(repr=False)
    shipped: bool = False

    def graph(self, name: str) -> dict[str, Any]:
        """The manifest's entry for one graph."""
        return self.manifest["graphs"][name]

    def has(self, name: str) -> bool:
        """Whether there is such a graph; only OPTIONAL ones may be missing."""
        return name in self.manifest["graphs"]

    def calibrate(self, branch: str, logit: float) -> float:
        """A branch's raw logit as calibrated log-odds."""
        entry = self.manifest["calibration"][branch]
        return float(entry["scale"] * logit + entry["bias"])

    def threshold(self, verdict: str) -> float:
        """Probability beyond which the verdict is "likely_fake" or "likely_real"."""
        return float(self.manifest["thresholds"][verdict])

    def session(self, name: str, threads: int = 0) -> onnxruntime.InferenceSession:
        """Load one graph into onnxruntime and try it once; `threads` 0 = all cores.

        Raises AvfakeError `bundle_damaged`, naming the file. The graphs that ship are not tried:
        tests did that, and nobody should wait for it again (0.09 s for all, of 0.23 s of loading).
        """
        path = self.folder / self.graph(name)["file"]
        try:
            session = open_session(self.data[name], threads)
            if not self.shipped:
                _try(session, name, self.graph(name))
        except ValueError as error:
            raise AvfakeError("bundle_damaged", f"{path} {error}.") from None
        except Exception as error:  # onnxruntime's own exceptions share no narrower base class
            text = first_line(error)
            raise AvfakeError("bundle_damaged", f"onnxruntime cannot run {path}: {text}") from error
        return session

    def to_dict(self) -> dict[str, str]:
        return {"name": self.name, "version": self.version, "sha256": self.sha256}


def open_session(data: bytes, threads: int) -> onnxruntime.InferenceSession:
    """Load an ONNX file that `read_graph` has passed. Raises whatever onnxruntime does."""
    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads = min(threads, os.cpu_count() or 1)  # 0: as many
    # Waiting threads must not burn the cores that the decoder needs.
    options.add_session_config_entry("session.intra_op.allow_spinning", "0")
    # What was checked is ONNX: nothing may be taken for onnxruntime's own format.
    options.add_session_config_entry("session.load_model_format", "ONNX")
    options.log_severity_level = 4
    return onnxruntime.InferenceSession(data, options, providers=providers())


def first_line(error: Exception) -> str:
    """What onnxruntime says, short enough for a sentence."""
    return visible(str(error).strip().split("\n")[0][:200])


def providers() -> list[str]:
    """onnxruntime's execution providers to use, best first: CUDA where it is there, then CPU."""
    wanted = ("CUDAExecutionProvider", "CPUExecutionProvider")
    return [name for name in wanted if name in onnxruntime.get_available_providers()]


def load_bundle(name_or_folder: str | os.PathLike[str] = "default") -> Bundle:
    """The bundle of that name that ships with avfake, or the one in a folder.

    A name that ships always means the bundle that ships, whatever lies in the current folder:
    `./default` is the folder. Every file is read and checked. Raises AvfakeError
    `bundle_missing`, `bundle_damaged` or `bundle_unsafe`, naming the file.
    """
    shipped = os.fspath(name_or_folder) in shipped_bundles()
    folder = _shipped_root() / name_or_folder if shipped else Path(name_or_folder)
    if not os.path.isdir(folder):
        raise AvfakeError(
            "bundle_missing",
            f"There is no bundle {name_or_folder}: neither a folder of that name nor one of "
            f"the bundles that come with avfake ({', '.join(shipped_bundles()) or 'none'}).",
        )
    # Installers may link what they install to elsewhere; a bundle's own maker has no need to.
    inside = None if shipped else folder.resolve()
    path = folder / MANIFEST
    content = read_file(path, MAX_MANIFEST, inside)
    try:
        manifest = _manifest(content)
    except (ValueError, RecursionError) as error:
        text = visible(str(error))[:300]
        raise AvfakeError("bundle_damaged", f"{path} is not a valid manifest: {text}.") from None
    data = {}
    for graph, entry in manifest["graphs"].items():
        if not _FILE_NAME.fullmatch(entry["file"]):
            raise AvfakeError(
                "bundle_unsafe",
                f"{path} names a file {entry['file'][:100]!r}: a bundle's files lie beside its "
                "manifest, and have names of letters, digits and . _ + - alone.",
            )
        data[graph] = _graph(folder / entry["file"], graph, entry, inside)
    digest = hashlib.sha256(content).hexdigest()
    return Bundle(manifest["name"], manifest["version"], digest, folder, manifest, data, shipped)


def shipped_bundles() -> list[str]:
    """Names of the bundles that come with avfake."""
    return sorted(path.parent.name for path in _shipped_root().glob(f"*/{MANIFEST}"))


def _shipped_root() -> Path:
    return Path(__file__).parent / "bundles"


def read_file(path: Path, most: int, inside: Path | None = None) -> bytes:
    """A file's bytes, `most` of them, without ever waiting for a pipe or a device.

    `inside`: the folder that a link must not lead out of. Raises AvfakeError `bundle_missing` or
    `bundle_unsafe`.
    """
    try:
        if inside is not None and not path.resolve().is_relative_to(inside):
            raise AvfakeError("bundle_unsafe", f"{path} is a link that leads out of the bundle.")
        handle = os.open(path, os.O_RDONLY | getattr(os, "O_NONBLOCK", 0))
        with os.fdopen(handle, "rb") as file:
            if not stat.S_ISREG(os.fstat(handle).st_mode):
                raise AvfakeError("bundle_unsafe", f"{path} is no regular file.")
            data = file.read(most + 1) if os.fstat(handle).st_size <= most else None
    except FileNotFoundError:
        raise AvfakeError("bundle_missing", f"There is no file {path}.") from None
    except (OSError, RuntimeError) as error:  # RuntimeError: links that lead in a circle
        text = getattr(error, "strerror", None) or "it is a link to itself"
        raise AvfakeError("bundle_missing", f"{path} cannot be read: {text}.") from None
    if data is None or len(data) > most:
        raise AvfakeError("bundle_unsafe", f"{path} is larger than {most >> 20} MB.")
    return data


def _graph(path: Path, name: str, entry: Mapping[str, Any], inside: Path | None) -> bytes:
    """The bytes of one graph, once they are what the manifest and this version say."""
    data = read_file(path, MAX_GRAPH, inside)
    if hashlib.sha256(data).hexdigest() != entry["sha256"]:
        raise AvfakeError(
            "bundle_damaged",
            f"{path} is damaged: its checksum is not the one in {MANIFEST}. Install avfake again "
            "or fetch the bundle anew.",
        )
    graph = read_graph(data, str(path))
    inputs, outputs = _signature(name, entry)
    if set(graph.inputs) != set(inputs):
        names = visible(", ".join(sorted(graph.inputs)))[:200] or "nothing"
        raise AvfakeError("bundle_damaged", f"{path} takes {names}, not {', '.join(inputs)}.")
    for what, wanted in (inputs | outputs).items():
        given = graph.inputs.get(what) or graph.outputs.get(what)
        exact = what in inputs
        if given is None or not _fits(given, wanted, exact):
            verb = "takes" if exact else "gives"
            raise AvfakeError(
                "bundle_damaged",
                f"{path} {verb} {what} as {given or 'nothing'}; it must be {wanted} (*: any size).",
            )
    return data


def _signature(name: str, facts: Mapping[str, Any]) -> tuple[dict[str, Value], dict[str, Value]]:
    """What is fed to a graph, and what is read of its answers."""
    logit = {"logit": Value("float32", (None,))}
    if name == "visual":
        side = facts["size"]
        inputs = {"faces": Value("uint8", (None, side, side, 3))}
        return inputs, logit | {"activation": Value("float32", (None, None, None))}
    if name == "audio":
        return {"sound": Value("float32", (None, facts["samples"]))}, logit
    if name == "lipsync":
        pictures, side = facts["pictures"], facts["size"]
        samples = round(pictures / FRAME_RATE * SAMPLE_RATE)
        inputs = {
            "mouths": Value("uint8", (None, pictures, side, side)),
            "sound": Value("float32", (None, samples)),
        }
        return inputs, {what: logit["logit"] for what in ("logit", "offset", "confidence")}
    if name == "fusion":
        row = Value("float32", (None, len(BRANCHES)))
        return {"logits": row, "present": row}, logit
    outputs = {
        "logit": Value("float32", (None, None)),
        "places": Value("float32", (None, None, 14)),
    }
    return {"pictures": Value("uint8", (None, None, None, 3))}, outputs


def _fits(given: Value, wanted: Value, exact: bool) -> bool:
    """Whether a graph's value is as it must be; an output may promise more than is asked for."""
    if exact or given.kind != wanted.kind or len(given.shape) != len(wanted.shape):
        return given == wanted
    pairs = list(zip(given.shape, wanted.shape, strict=True))
    return given.shape[0] is None and all(want in (None, size) for size, want in pairs)


def _try(session: onnxruntime.InferenceSession, name: str, facts: Mapping[str, Any]) -> None:
    """Run a graph once, on a saw-tooth: weights of a right shape may still give no answer.

    Raises ValueError where what comes out is of another shape, or no number.
    """
    inputs, outputs = _signature(name, facts)
    feed = {what: _saw(value) for what, value in inputs.items()}
    for (what, wanted), found in zip(
        outputs.items(), session.run(list(outputs), feed), strict=True
    ):
        shape = (1, *wanted.shape[1:])
        fits = len(shape) == found.ndim and all(
            want in (None, size) for size, want in zip(found.shape, shape, strict=True)
        )
        if not fits:
            raise ValueError(f"gives {what} of shape {list(found.shape)} for an input")
        if not np.isfinite(found).all():
            raise ValueError(f"gives {what} that is no number (NaN or infinite)")


def _saw(value: Value) -> np.ndarray:
    """One input of the kind: 0 to 250 for pictures, 0 to 1 for sound; free axes have 32."""
    shape = (1, *(32 if size is None else size for size in value.shape[1:]))
    steps = np.arange(np.prod(shape)).reshape(shape) % 251
    return steps.astype(value.kind) if value.kind == "uint8" else (steps / 250).astype(value.kind)


def _manifest(content: bytes) -> dict[str, Any]:
    """Parse and check `bundle.json`. Raises ValueError, in words, or RecursionError."""
    manifest = json.loads(content, object_pairs_hook=_once, parse_constant=_no_constant)
    if not isinstance(manifest, dict):
        raise ValueError("it is no object")
    if manifest.get("format") != FORMAT:
        raise ValueError(f"it has format {manifest.get('format')!r}, not {FORMAT}")
    for what in ("name", "version"):
        text = manifest.get(what)
        if not isinstance(text, str) or not 0 < len(text) <= 100 or not text.isprintable():
            raise ValueError(f"{what} must be a text of up to 100 letters")
    graphs = _object(manifest, "graphs")
    for name in graphs:
        if name not in GRAPHS + OPTIONAL:
            raise ValueError(f"there is a graph {name!r}, which is not known")
    for name in (*GRAPHS, *(name for name in OPTIONAL if name in graphs)):
        entry = _object(graphs, name)
        if not isinstance(entry.get("file"), str):
            raise ValueError(f"file of {name} must be a text")
        if not isinstance(entry.get("sha256"), str) or not _SHA256.fullmatch(entry["sha256"]):
            raise ValueError(f"sha256 of {name} must be 64 hexadecimal digits")
        for fact, (least, most) in FACTS.get(name, {}).items():
            if type(_number(entry, fact, least, most)) is not int:
                raise ValueError(f"{fact} must be a whole number")
    if "finder" in graphs:
        _number(graphs["finder"], "threshold", 0, 1)
    for branch in BRANCHES:
        entry = _object(_object(manifest, "calibration"), branch)
        # Fake is 1 everywhere: no branch may be turned round.
        _number(entry, "scale", 1e-6, 1e6)
        _number(entry, "bias", -1e6, 1e6)
    thresholds = _object(manifest, "thresholds")
    real, fake = (_number(thresholds, what, 0, 1) for what in ("likely_real", "likely_fake"))
    if real > fake:
        raise ValueError("likely_real must not be above likely_fake")
    return manifest


def _once(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    found = dict(pairs)
    if len(found) < len(pairs):
        twice = next(key for key, _ in pairs if sum(key == other for other, _ in pairs) > 1)
        raise ValueError(f"{twice[:100]!r} is given twice")
    return found


def _no_constant(text: str) -> float:
    raise ValueError(f"{text} is no number")


def _object(parent: Mapping[str, Any], key: str) -> dict[str, Any]:
    value = parent.get(key)
    if not isinstance(value, dict):
        raise ValueError(f"{key} must be an object")
    return value


def _number(parent: Mapping[str, Any], key: str, least: float, most: float) -> float:
    value = parent.get(key)
    if isinstance(value, bool) or not isinstance(value, int | float) or not least <= value <= most:
        raise ValueError(f"{key} must be a number from {least:g} to {most:g}")
    return value
