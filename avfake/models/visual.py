"""The visual branch: a CNN on face crops that answers with a logit and shows where it looked.

The head is linear on average pooling, so the class activation map (Zhou et al., "Learning deep
features for discriminative localization", CVPR 2016) is exact, not a guess made afterwards: its
spatial mean plus the head's bias is the logit.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import timm
import torch
from torch import Tensor, nn


class VisualNet(nn.Module):
    """Any timm backbone whose `forward_features` gives [N, C, h, w], with a one-logit CAM head.

    backbone: timm's name. backbone_args: passed to `timm.create_model` (widths, stem, ...).
    size: side of the square crops in pixels. stem_pool: False drops a ResNet's stem pooling; the
    traces of blending and resampling are fine, and die when resolution is given up that early.
    dropout: probability of dropping a channel of the last features, in training only.
    mean, std: of the input in [0, 1]; one number for all channels.
    """

    INPUTS = ("faces",)
    OUTPUTS = ("logit", "activation")

    def __init__(
        self,
        backbone: str = "tf_efficientnet_lite0",
        backbone_args: Mapping[str, Any] | None = None,
        size: int = 128,
        stem_pool: bool = True,
        dropout: float = 0.0,
        mean: float = 0.5,
        std: float = 0.5,
    ) -> None:
        super().__init__()
        self.size, self.mean, self.std = size, mean, std
        self.backbone = timm.create_model(
            backbone, pretrained=False, num_classes=0, **(backbone_args or {})
        )
        if not stem_pool:
            if not isinstance(getattr(self.backbone, "maxpool", None), nn.Module):
                raise ValueError(f"{backbone} has no stem pooling to drop")
            self.backbone.maxpool = nn.Identity()
        self.dropout = nn.Dropout2d(dropout)
        self.head = nn.Conv2d(self.backbone.num_features, 1, kernel_size=1)
        nn.init.normal_(self.head.weight, std=0.01)
        nn.init.zeros_(self.head.bias)

    def forward(self, faces: Tensor) -> tuple[Tensor, Tensor]:
        """faces: uint8 [N, size, size, 3] RGB.

        Returns logit float32 [N] (fake > 0) and activation float32 [N, h, w], in logits: how much
        each place speaks for fake. `activation.mean((1, 2)) + head.bias == logit`.
        """
        pictures = faces.permute(0, 3, 1, 2).to(torch.float32)
        pictures = (pictures / 255 - self.mean) / self.std
        features = self.dropout(self.backbone.forward_features(pictures))
        activation = nn.functional.conv2d(features, self.head.weight)[:, 0].float()
        return activation.mean((1, 2)) + self.head.bias, activation

    def example(self, batch: int) -> tuple[Tensor, ...]:
        """Inputs of the right shape and type, for the exporter and for tests."""
        shape = (batch, self.size, self.size, 3)
        return (torch.randint(0, 256, shape, dtype=torch.uint8),)
