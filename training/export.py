"""Trained branches -> a model bundle that `avfake` runs without torch.

    python -m training.export --runs runs --out avfake/bundles/default --name default

Reads `runs/{visual,audio,lipsync,fusion}/best.safetensors` (weights and the config that rebuilds
the model) and `runs/fusion/calibration.json`; writes one ONNX graph a branch and `bundle.json`.
Each graph is run once in onnxruntime and compared with torch before the manifest is written.
"""

from __future__ import annotations

import argparse
import hashlib
import json
import logging
import warnings
from pathlib import Path
from typing import Any

import numpy as np
import onnxruntime
import torch
from torch import Tensor, nn

from avfake import __version__
from avfake.bundle import FORMAT, MANIFEST
from avfake.models.audio import AudioNet
from avfake.models.fusion import FusionNet
from avfake.models.lipsync import LipSyncNet
from avfake.models.visual import VisualNet
from training.loop import load_state

OPSET = 18
MODELS: dict[str, type[nn.Module]] = {
    "visual": VisualNet,
    "audio": AudioNet,
    "lipsync": LipSyncNet,
    "fusion": FusionNet,
}
TOLERANCE = 1e-3  # on logits, between torch and onnxruntime


def rebuild(branch: str, checkpoint: Path) -> nn.Module:
    """The model of a checkpoint, in eval mode."""
    state, config = load_state(checkpoint)
    model = MODELS[branch](**config)
    model.load_state_dict(state)
    return model.eval()


def export_graph(model: nn.Module, path: Path) -> float:
    """Write `model` as ONNX with a free batch size; return its largest difference from torch.

    The model names its INPUTS and OUTPUTS and gives an `example(batch)`. Raises ValueError where
    torch and onnxruntime differ by more than 1e-3 on the logits.
    """
    batch = torch.export.Dim("batch", min=1, max=4096)
    shapes = {name: {0: batch} for name in model.INPUTS}
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
    graphs = {}
    for branch, model in models.items():
        path = out / f"{branch}.onnx"
        worst = export_graph(model, path)
        data = path.read_bytes()
        graphs[branch] = {
            "file": path.name,
            "sha256": hashlib.sha256(data).hexdigest(),
            **facts[branch](model),
        }
        parameters = sum(p.numel() for p in model.parameters())
        print(
            f"{branch:8s} {len(data) / 1e6:5.2f} MB  {parameters:9,d} parameters  "
            f"differs from torch by {worst:.1e}"
        )
    manifest = {"format": FORMAT, "name": name, "version": version, "graphs": graphs}
    text = json.dumps(manifest | calibration, indent=2) + "\n"
    (out / MANIFEST).write_text(text)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--runs", type=Path, default=Path("runs"))
    parser.add_argument("--out", type=Path, required=True)
    parser.add_argument("--name", default="default")
    parser.add_argument("--version", default=__version__, help="of these models")
    options = parser.parse_args()
    models = {
        branch: rebuild(branch, options.runs / branch / "best.safetensors") for branch in MODELS
    }
    calibration = json.loads((options.runs / "fusion" / "calibration.json").read_text())
    write_bundle(models, calibration, options.out, options.name, options.version)


if __name__ == "__main__":
    main()
