"""Trained branches -> a model bundle that `avfake` runs without torch.

    python -m training.export --runs runs --out avfake/bundles/default --name default
    python -m training.export --runs runs --out avfake/bundles/default --only finder

Reads `runs/{visual,audio,lipsync,fusion}/best.safetensors` (weights and the config that rebuilds
the model) and `runs/fusion/calibration.json`; writes one ONNX graph a branch and `bundle.json`.
Each graph is run once in onnxruntime and compared with torch before the manifest is written.
Where `runs/finder` is, the bundle gets that face finder too; `--only finder` gives it to a bundle
that exists, whose other graphs stay as they are.
"""

from __future__ import annotations

import argparse
import hashlib
import json
import logging
import warnings
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
import onnxruntime
import torch
from torch import Tensor, nn

from avfake import __version__
from avfake.bundle import FORMAT, GRAPHS, MANIFEST
from avfake.models.audio import AudioNet
from avfake.models.finder import STRIDES, FinderNet
from avfake.models.fusion import FusionNet
from avfake.models.lipsync import LipSyncNet
from avfake.models.visual import VisualNet
from training.checkpoints import load_state

OPSET = 18
MODELS: dict[str, type[nn.Module]] = {
    "visual": VisualNet,
    "audio": AudioNet,
    "lipsync": LipSyncNet,
    "fusion": FusionNet,
    "finder": FinderNet,
}
TOLERANCE = 1e-3  # on logits, between torch and onnxruntime


def rebuild(branch: str, checkpoint: Path) -> nn.Module:
    """The model of a checkpoint, in eval mode."""
    state, config = load_state(checkpoint)
    model = MODELS[branch](**config)
    model.load_state_dict(state)
    return model.eval()


def export_graph(model: nn.Module, path: Path, free: Mapping[int, Any] | None = None) -> float:
    """Write `model` as ONNX with a free batch size; return its largest difference from torch.

    free: further dimensions of the inputs that may vary, as `torch.export.Dim`s.

    The model names its INPUTS and OUTPUTS and gives an `example(batch)`. Raises ValueError where
    torch and onnxruntime differ by more than 1e-3 on the logits.
    """
    batch = torch.export.Dim("batch", min=1, max=4096)
    shapes = {name: {0: batch, **(free or {})} for name in model.INPUTS}
    quiet = [logging.getLogger(name) for name in ("torch.onnx", "onnxscript", "onnx_ir")]
    for logger in quiet:
        logger.setLevel(logging.ERROR)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        program = torch.onnx.export(
            model,
            model.example(2),
            dynamo=True,
            input_names=list(model.INPUTS),
            output_names=list(model.OUTPUTS),
            dynamic_shapes=shapes,
            opset_version=OPSET,
            verbose=False,
        )
    path.parent.mkdir(parents=True, exist_ok=True)
    # The exporter notes where in which source file each node was made: nobody else's business.
    for part in (program.model, program.model.graph, *program.model.graph.all_nodes()):
        part.metadata_props.clear()
    program.save(path, external_data=False)
    worst = max(difference(model, path, model.example(count)) for count in (1, 3))
    if not worst <= TOLERANCE:
        raise ValueError(f"{path.name} differs from torch by {worst:.2g} on the logits")
    return worst


@torch.no_grad()
def difference(model: nn.Module, path: Path, inputs: tuple[Tensor, ...]) -> float:
    """Largest difference of the logits between torch and onnxruntime on the same inputs."""
    session = onnxruntime.InferenceSession(path, providers=["CPUExecutionProvider"])
    feed = {n: value.numpy() for n, value in zip(model.INPUTS, inputs, strict=True)}
    there = session.run(["logit"], feed)[0]
    here = model(*inputs)[model.OUTPUTS.index("logit")].numpy()
    return float(np.abs(here - there).max())


def write_bundle(
    models: dict[str, nn.Module],
    calibration: dict[str, Any],
    out: Path,
    name: str,
    version: str = __version__,
) -> None:
    """Export all graphs and write the manifest over them.

    `calibration` holds "calibration" (scale and bias a branch) and "thresholds".
    """
    facts = {
        "visual": lambda m: {"size": m.size},
        "audio": lambda m: {"samples": m.example(1)[0].shape[1]},
        "lipsync": lambda m: dict(
            zip(("pictures", "size"), m.example(1)[0].shape[1:3], strict=True)
        ),
        "fusion": lambda m: {},
    }
    graphs = {
        branch: _write_graph(branch, model, out) | facts[branch](model)
        for branch, model in models.items()
    }
    manifest = {"format": FORMAT, "name": name, "version": version, "graphs": graphs}
    _write_manifest(out, manifest | calibration)


def add_finder(model: FinderNet, side: int, threshold: float, out: Path) -> None:
    """Export the face finder into the bundle at `out`; its other graphs stay as they are.

    side: longest side in pixels at which pictures are searched; threshold: least score of a face.
    """
    rows, columns = (torch.export.Dim(name, min=1, max=256) for name in ("rows", "columns"))
    entry = _write_graph("finder", model, out, {1: STRIDES[-1] * rows, 2: STRIDES[-1] * columns})
    manifest = json.loads((out / MANIFEST).read_text())
    manifest["graphs"]["finder"] = entry | {"side": side, "threshold": threshold}
    _write_manifest(out, manifest)


def _write_graph(
    name: str, model: nn.Module, out: Path, free: Mapping[int, Any] | None = None
) -> dict[str, Any]:
    """Export one graph and say how large it is; return its file and checksum."""
    path = out / f"{name}.onnx"
    worst = export_graph(model, path, free)
    data = path.read_bytes()
    parameters = sum(p.numel() for p in model.parameters())
    print(
        f"{name:8s} {len(data) / 1e6:5.2f} MB  {parameters:9,d} parameters  "
        f"differs from torch by {worst:.1e}"
    )
    return {"file": path.name, "sha256": hashlib.sha256(data).hexdigest()}


def _write_manifest(out: Path, manifest: dict[str, Any]) -> None:
    (out / MANIFEST).write_text(json.dumps(manifest, indent=2) + "\n")


def main() -> None:
    parser = argparse.ArgumentParser(
        prog="python -m training.export", description=__doc__.splitlines()[0]
    )
    parser.add_argument("--runs", type=Path, default=Path("runs"))
    parser.add_argument("--out", type=Path, required=True)
    parser.add_argument("--name", default="default")
    parser.add_argument("--version", default=__version__, help="of these models")
    parser.add_argument("--only", choices=["finder"], help="leave the rest of the bundle as it is")
    options = parser.parse_args()
    if options.only is None:
        models = {
            branch: rebuild(branch, options.runs / branch / "best.safetensors") for branch in GRAPHS
        }
        calibration = json.loads((options.runs / "fusion" / "calibration.json").read_text())
        write_bundle(models, calibration, options.out, options.name, options.version)
    finder = options.runs / "finder"
    if options.only == "finder" or finder.exists():
        found = json.loads((finder / "metrics.json").read_text())
        model = rebuild("finder", finder / "best.safetensors")
        add_finder(model, found["side"], found["threshold"], options.out)


if __name__ == "__main__":
    main()
