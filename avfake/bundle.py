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
The finder is the only graph that a bundle may lack: dlib finds the faces then. A graph whose bytes
do not match its checksum is never run.
"""

from __future__ import annotations

import hashlib
import json
import os
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import onnxruntime

from avfake.types import BRANCHES, AvfakeError

FORMAT = 1
MANIFEST = "bundle.json"
GRAPHS = (*BRANCHES, "fusion")
OPTIONAL = ("finder",)
FACTS = {
    "visual": ("size",),
    "audio": ("samples",),
    "lipsync": ("pictures", "size"),
    "finder": ("side", "threshold"),
}
"""Numbers that the manifest must tell of a graph: shapes of its inputs, how to use it."""


@dataclass(frozen=True)
class Bundle:
    """A checked bundle. `sha256` is that of `bundle.json`, which holds those of the graphs."""

    name: str
    version: str
    sha256: str
    folder: Path
    manifest: dict[str, Any]

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
        """Load one graph into onnxruntime, after checking its bytes; `threads` 0 = all cores.

        Raises AvfakeError `bundle_missing` or `bundle_damaged`, naming the file.
        """
        data = _checked_bytes(self.folder, self.graph(name))
        options = onnxruntime.SessionOptions()
        options.intra_op_num_threads = threads
        # Waiting threads must not burn the cores that the decoder needs.
        options.add_session_config_entry("session.intra_op.allow_spinning", "0")
        options.log_severity_level = 3
        try:
            return onnxruntime.InferenceSession(data, options, providers=providers())
        except Exception as error:  # onnxruntime's own exceptions share no narrower base class
            path = self.folder / self.graph(name)["file"]
            raise AvfakeError(
                "bundle_damaged", f"onnxruntime cannot load {path}: {error}"
            ) from error

    def to_dict(self) -> dict[str, str]:
        return {"name": self.name, "version": self.version, "sha256": self.sha256}


def providers() -> list[str]:
    """onnxruntime's execution providers to use, best first: CUDA where it is there, then CPU."""
    wanted = ("CUDAExecutionProvider", "CPUExecutionProvider")
    return [name for name in wanted if name in onnxruntime.get_available_providers()]


def load_bundle(name_or_folder: str | os.PathLike[str] = "default") -> Bundle:
    """The bundle in a folder, or the one of that name that ships with avfake.

    Every file is checked against its checksum. Raises AvfakeError `bundle_missing` (no such
    bundle, or a file of it is not there) or `bundle_damaged`, naming the file.
    """
    folder = Path(name_or_folder)
    if not folder.is_dir():
        shipped = Path(__file__).parent / "bundles" / folder
        if not shipped.is_dir() or len(folder.parts) != 1:
            raise AvfakeError(
                "bundle_missing",
                f"There is no bundle {name_or_folder}: neither a folder of that name nor one of "
                f"the bundles that come with avfake ({', '.join(shipped_bundles()) or 'none'}).",
            )
        folder = shipped
    path = folder / MANIFEST
    try:
        data = path.read_bytes()
    except OSError:
        raise AvfakeError("bundle_missing", f"The bundle has no {path}.") from None
    try:
        manifest = json.loads(data)
        if manifest["format"] != FORMAT:
            raise AvfakeError(
                "bundle_damaged",
                f"{path} has format {manifest['format']}; this version reads format {FORMAT}.",
            )
        present = [name for name in OPTIONAL if name in manifest["graphs"]]
        for graph in (*GRAPHS, *present):
            _checked_bytes(folder, manifest["graphs"][graph])
            for fact in FACTS.get(graph, ()):
                float(manifest["graphs"][graph][fact])
        for branch in BRANCHES:
            float(manifest["calibration"][branch]["scale"])
            float(manifest["calibration"][branch]["bias"])
        float(manifest["thresholds"]["likely_fake"]), float(manifest["thresholds"]["likely_real"])
        name, version = str(manifest["name"]), str(manifest["version"])
    except (ValueError, KeyError, TypeError) as error:
        raise AvfakeError("bundle_damaged", f"{path} is not a valid manifest: {error!r}.") from None
    return Bundle(name, version, hashlib.sha256(data).hexdigest(), folder, manifest)


def shipped_bundles() -> list[str]:
    """Names of the bundles that come with avfake."""
    root = Path(__file__).parent / "bundles"
    return sorted(path.parent.name for path in root.glob(f"*/{MANIFEST}"))


def _checked_bytes(folder: Path, entry: dict[str, Any]) -> bytes:
    path = folder / entry["file"]
    try:
        data = path.read_bytes()
    except OSError:
        raise AvfakeError("bundle_missing", f"The bundle's file {path} is missing.") from None
    if hashlib.sha256(data).hexdigest() != entry["sha256"]:
        raise AvfakeError(
            "bundle_damaged",
            f"{path} is damaged: its checksum is not the one in {MANIFEST}. Install avfake again "
            "or fetch the bundle anew.",
        )
    return data
