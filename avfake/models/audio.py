"""The audio branch: is this speech synthetic?

Raw sound in, one logit out. Level, spectrogram and normalisation live inside the module, so the
exported graph is fed PCM and cannot drift from training. The encoder is transformers' Audio
Spectrogram Transformer (Gong et al. 2021, `ASTModel`), small, with a convolutional stem in place
of its patch projection: a transformer trained from scratch on few data needs one (Xiao et al.,
"Early convolutions help transformers see better", 2021).
"""

from __future__ import annotations

from typing import ClassVar

import torch
from torch import Tensor, nn
from torchaudio.functional import melscale_fbanks
from transformers import ASTConfig, ASTModel

SAMPLE_RATE = 16_000
WINDOW_SAMPLES = 64_000
"""Four seconds: what one logit is about."""
PATCH = 16
"""Mel bands and frames under one token; the stem halves four times."""


class LogMel(nn.Module):
    """Level-free log-mel spectrogram up to 8 kHz, by convolutions only (ONNX has no need of FFT).

    sound: float32 [N, samples]; returns [N, samples // hop, bands], each band with zero mean over
    time: a steady microphone, room or band limit colours every frame alike and is taken out.
    """

    def __init__(self, bands: int, n_fft: int = 512, hop: int = 160) -> None:
        super().__init__()
        self.hop, self.pad = hop, n_fft - hop
        time = torch.arange(n_fft, dtype=torch.float64)
        frequency = torch.arange(n_fft // 2 + 1, dtype=torch.float64)[:, None]
        angle = 2 * torch.pi * frequency * time / n_fft
        taper = torch.hann_window(n_fft, periodic=True, dtype=torch.float64)
        basis = torch.cat([torch.cos(angle), -torch.sin(angle)]) * taper / taper.sum()
        filters = melscale_fbanks(
            n_fft // 2 + 1, 20.0, SAMPLE_RATE / 2, bands, SAMPLE_RATE, mel_scale="slaney"
        )
        # Constants of the front end: in the graph, not in the checkpoint.
        self.register_buffer("basis", basis.float()[:, None], persistent=False)
        self.register_buffer("filters", filters, persistent=False)

    def forward(self, sound: Tensor) -> Tensor:
        sound = sound - sound.mean(1, keepdim=True)
        # The small constant keeps digital silence at zero instead of blowing up its rounding.
        sound = sound / (sound.square().mean(1, keepdim=True) + 1e-8).sqrt()
        sound = nn.functional.pad(sound, (self.pad // 2, self.pad - self.pad // 2))
        real, imaginary = nn.functional.conv1d(sound[:, None], self.basis, stride=self.hop).chunk(
            2, dim=1
        )
        power = (real.square() + imaginary.square()).transpose(1, 2)
        mel = torch.log(power @ self.filters + 1e-7)
        return (mel - mel.mean(1, keepdim=True)) / 3.0


class AudioNet(nn.Module):
    """Sound float32 [N, 64000] in [-1, 1] at 16 kHz -> (logit float32 [N],); fake is positive.

    `width`, `layers`, `heads`, `mlp` are the transformer's; `bands` mel bands (a multiple of 16).
    `drop` is dropout in the transformer; `mask` the share of bands and of frames that training
    hides at most (SpecAugment, Park et al. 2019), nothing is hidden in eval mode.
    """

    INPUTS: ClassVar[tuple[str, ...]] = ("sound",)
    OUTPUTS: ClassVar[tuple[str, ...]] = ("logit",)

    def __init__(
        self,
        width: int = 192,
        layers: int = 4,
        heads: int = 3,
        mlp: int = 320,
        bands: int = 128,
        drop: float = 0.1,
        mask: float = 0.2,
    ) -> None:
        super().__init__()
        self.mask = mask
        self.front = LogMel(bands)
        config = ASTConfig(
            hidden_size=width,
            num_hidden_layers=layers,
            num_attention_heads=heads,
            intermediate_size=mlp,
            hidden_dropout_prob=drop,
            attention_probs_dropout_prob=drop,
            patch_size=PATCH,
            frequency_stride=PATCH,
            time_stride=PATCH,
            max_length=WINDOW_SAMPLES // self.front.hop,
            num_mel_bins=bands,
            attn_implementation="sdpa",
        )
        self.encoder = ASTModel(config)
        self.encoder.embeddings.patch_embeddings.projection = _stem(width)
        nn.init.normal_(self.encoder.embeddings.position_embeddings, std=0.02)
        self.head = nn.Sequential(
            nn.LayerNorm(2 * width), nn.Dropout(drop), nn.Linear(2 * width, 1)
        )

    def forward(self, sound: Tensor) -> tuple[Tensor]:
        mel = self.front(sound)
        if self.training:
            mel = _masked(_masked(mel, 1, self.mask), 2, self.mask)
        tokens = self.encoder(mel).last_hidden_state
        # The class tokens see the whole; the mean makes every patch answer from the first step.
        pooled = torch.cat([tokens[:, 0], tokens[:, 2:].mean(1)], dim=1)
        return (self.head(pooled).squeeze(1),)

    @staticmethod
    def example(batch: int) -> tuple[Tensor, ...]:
        """Inputs of the right shape and range, for export and parity checks."""
        generator = torch.Generator().manual_seed(0)
        return (0.1 * torch.randn(batch, WINDOW_SAMPLES, generator=generator),)


def _stem(width: int) -> nn.Sequential:
    """[N, 1, bands, frames] -> [N, width, bands / 16, frames / 16]."""
    layers: list[nn.Module] = []
    inside = 1
    for outside in (width // 12, width // 6, width // 3):
        layers += [
            nn.Conv2d(inside, outside, 3, stride=2, padding=1, bias=False),
            nn.BatchNorm2d(outside),
            nn.GELU(),
        ]
        inside = outside
    return nn.Sequential(*layers, nn.Conv2d(inside, width, 2, stride=2))


def _masked(mel: Tensor, axis: int, share: float) -> Tensor:
    """One band of zeros (the mean, after normalisation) along `axis`, of its own in each item."""
    count, size = mel.shape[0], mel.shape[axis]
    length = torch.rand(count, 1) * share * size
    first = torch.rand(count, 1) * (size - length)
    places = torch.arange(size)[None]
    hidden = (places >= first) & (places < first + length)
    return mel.masked_fill(hidden[:, :, None] if axis == 1 else hidden[:, None, :], 0.0)
