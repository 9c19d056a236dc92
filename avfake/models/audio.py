"""The audio branch: is this speech synthetic?

Raw sound in, one logit out. Level, spectra and normalisation live inside the module, so the
exported graph is fed PCM and cannot drift from training. The encoder is transformers' Audio
Spectrogram Transformer (Gong et al. 2021, `ASTModel`), small, with a convolutional stem in place
of its patch projection: a transformer trained on few data needs one (Xiao et al., "Early
convolutions help transformers see better", 2021). The stem is the first half of an image net, so
that it can start from weights that know edges and textures, as AST itself does from ImageNet's.
"""

from __future__ import annotations

from typing import ClassVar

import timm
import torch
from torch import Tensor, nn
from transformers import ASTConfig, ASTModel

WINDOW_SAMPLES = 64_000
"""Four seconds: what one logit is about."""
BINS = 256
"""Frequency bins, 31.25 Hz apart: as fine at 7 kHz, where vocoders betray themselves, as below."""
HOP = 200
"""Samples between two frames: 12.5 ms."""
PATCH = 32
"""Bins and frames under one token: the stem's 16, and two of its places joined."""
FRAMES = WINDOW_SAMPLES // HOP


class LogSpectrum(nn.Module):
    """Level-free log power spectrum, by convolution only (ONNX has no need of FFT).

    sound: float32 [N, samples]; returns [N, 1, BINS, samples // HOP], each bin with zero mean over
    time: a steady microphone, room or band limit colours every frame alike and is taken out.
    """

    def __init__(self, floor: float = 1e-7) -> None:
        super().__init__()
        self.floor = floor
        n_fft = 2 * BINS
        time = torch.arange(n_fft, dtype=torch.float64)
        angle = 2 * torch.pi * torch.arange(BINS)[:, None] * time / n_fft
        taper = torch.hann_window(n_fft, periodic=True, dtype=torch.float64)
        basis = torch.cat([torch.cos(angle), -torch.sin(angle)]) * taper / taper.sum()
        # A constant of the front end: in the graph, not in the checkpoint.
        self.register_buffer("basis", basis.float()[:, None], persistent=False)

    def forward(self, sound: Tensor) -> Tensor:
        sound = sound - sound.mean(1, keepdim=True)
        # The small constant keeps digital silence at zero instead of blowing up its rounding.
        sound = sound / (sound.square().mean(1, keepdim=True) + 1e-8).sqrt()
        spare = 2 * BINS - HOP
        sound = nn.functional.pad(sound, (spare // 2, spare - spare // 2))
        real, imaginary = nn.functional.conv1d(sound[:, None], self.basis, stride=HOP).chunk(2, 1)
        log = torch.log(real.square() + imaginary.square() + self.floor)
        return ((log - log.mean(2, keepdim=True)) / 3.0)[:, None]


class AudioNet(nn.Module):
    """Sound float32 [N, 64000] in [-1, 1] at 16 kHz -> (logit float32 [N],); fake is positive.

    `width`, `layers`, `heads`, `mlp` are the transformer's; `stem` timm's name of an
    EfficientNet, whose first stages come before it. `drop` is dropout before the answer; `mask` the
    share of bins and of frames that training hides at most (SpecAugment, Park et al. 2019), nothing
    is hidden in eval mode.
    """

    INPUTS: ClassVar[tuple[str, ...]] = ("sound",)
    OUTPUTS: ClassVar[tuple[str, ...]] = ("logit",)

    def __init__(
        self,
        width: int = 144,
        layers: int = 3,
        heads: int = 3,
        mlp: int = 288,
        stem: str = "tf_efficientnet_lite0",
        drop: float = 0.1,
        mask: float = 0.2,
    ) -> None:
        super().__init__()
        self.mask = mask
        self.front = LogSpectrum()
        config = ASTConfig(
            hidden_size=width,
            num_hidden_layers=layers,
            num_attention_heads=heads,
            intermediate_size=mlp,
            hidden_dropout_prob=0.0,
            attention_probs_dropout_prob=0.0,
            patch_size=PATCH,
            frequency_stride=PATCH,
            time_stride=PATCH,
            max_length=FRAMES,
            num_mel_bins=BINS,
            attn_implementation="sdpa",
        )
        self.encoder = ASTModel(config)
        # The stem hands over tokens; what ASTModel would cut into patches stays as it is.
        self.patches = _Patches(stem, width)
        self.encoder.embeddings.patch_embeddings = nn.Identity()
        nn.init.normal_(self.encoder.embeddings.position_embeddings, std=0.02)
        self.head = nn.Sequential(
            nn.LayerNorm(4 * width), nn.Dropout(drop), nn.Linear(4 * width, 1)
        )

    def forward(self, sound: Tensor) -> tuple[Tensor]:
        return (self.judge(self.front(sound)),)

    def judge(self, spectra: Tensor) -> Tensor:
        """What `front` answers -> logit float32 [N]. Bears bfloat16, which `front` does not."""
        if self.training:
            spectra = spectra * _gaps(spectra, 2, self.mask) * _gaps(spectra, 3, self.mask)
        patches = self.patches(spectra)
        tokens = self.encoder(patches).last_hidden_state
        # The class token sees the whole. Texture is told by the patches themselves, and how much
        # they vary: with them the convolutions learn from the first step.
        parts = [tokens[:, 0], tokens[:, 2:].mean(1), patches.mean(1), patches.std(1)]
        return self.head(torch.cat(parts, dim=1)).squeeze(1)

    @staticmethod
    def example(batch: int) -> tuple[Tensor, ...]:
        """Inputs of the right shape and range, for export and parity checks."""
        generator = torch.Generator().manual_seed(0)
        return (0.1 * torch.randn(batch, WINDOW_SAMPLES, generator=generator),)


class _Patches(nn.Module):
    """[N, 1, BINS, frames] -> tokens [N, BINS / 32 * FRAMES / 32, width], bins first."""

    def __init__(self, stem: str, width: int) -> None:
        super().__init__()
        self.backbone = _Stages(stem)
        self.join = nn.Conv2d(self.backbone.channels, width, 2, stride=2)

    def forward(self, spectra: Tensor) -> Tensor:
        # Image nets know three channels, of values about one.
        pictures = spectra.clamp(-3, 3).expand(-1, 3, -1, -1)
        return self.join(self.backbone(pictures)).flatten(2).transpose(1, 2)


class _Stages(nn.Module):
    """The first stages of an EfficientNet, down to a sixteenth of the sides, under timm's names:
    its weights fit as they are.
    """

    def __init__(self, name: str) -> None:
        super().__init__()
        net = timm.create_model(name, pretrained=False)
        (last,) = (info for info in net.feature_info if info["reduction"] == PATCH // 2)
        self.channels = last["num_chs"]
        self.blocks = net.blocks[: int(last["module"].removeprefix("blocks.")) + 1]
        self.conv_stem, self.bn1 = net.conv_stem, net.bn1

    def forward(self, pictures: Tensor) -> Tensor:
        return self.blocks(self.bn1(self.conv_stem(pictures)))


def _gaps(spectra: Tensor, axis: int, share: float) -> Tensor:
    """1, but 0 (the mean, after normalisation) in one stripe along `axis`, its own in each item."""
    count, size = spectra.shape[0], spectra.shape[axis]
    length = torch.rand(count, 1, device=spectra.device) * share * size
    first = torch.rand(count, 1, device=spectra.device) * (size - length)
    places = torch.arange(size, device=spectra.device)[None]
    kept = ((places < first) | (places >= first + length)).to(spectra.dtype)
    return kept[:, None, :, None] if axis == 2 else kept[:, None, None, :]
