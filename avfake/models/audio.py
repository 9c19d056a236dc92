"""The audio branch: is this speech synthetic?

Raw sound in, one logit out. Level, spectra and normalisation live inside the module, so the
exported graph is fed PCM and cannot drift from training. The encoder is transformers' Audio
Spectrogram Transformer (Gong et al. 2021, `ASTModel`), small, with a convolutional stem in place
of its patch projection: a transformer trained from scratch on few data needs one (Xiao et al.,
"Early convolutions help transformers see better", 2021).
"""

from __future__ import annotations

from typing import ClassVar

import torch
from torch import Tensor, nn
from transformers import ASTConfig, ASTModel

SAMPLE_RATE = 16_000
WINDOW_SAMPLES = 64_000
"""Four seconds: what one logit is about."""
BINS = 256
"""Frequency bins, 31.25 Hz apart: as fine at 7 kHz, where vocoders betray themselves, as below."""
HOP = 200
"""Samples between two frames: 12.5 ms."""
PATCH = 32
"""Bins and frames under one token; the stem halves five times."""
FRAMES = WINDOW_SAMPLES // HOP


class Spectra(nn.Module):
    """What a mel spectrogram throws away: fine linear frequency, and phase.

    sound: float32 [N, samples]; returns [N, 5, BINS, samples // HOP], independent of loudness:
    log power, each bin with zero mean over time (a steady microphone, room or band limit colours
    every frame alike and is taken out); cosine and sine of the phase's step to the next lower bin
    (group delay: when in the frame the energy falls), and of its step from the frame before, less
    the bin's own turn (instantaneous frequency). By convolutions only: ONNX has no need of FFT.
    """

    CHANNELS = 5

    def __init__(self, floor: float = 1e-7) -> None:
        super().__init__()
        self.floor = floor
        n_fft = 2 * BINS
        # Phase is told from the middle of the frame: a click there has no group delay.
        time = torch.arange(n_fft, dtype=torch.float64) - BINS
        angle = 2 * torch.pi * torch.arange(BINS)[:, None] * time / n_fft
        taper = torch.hann_window(n_fft, periodic=True, dtype=torch.float64)
        basis = torch.cat([torch.cos(angle), -torch.sin(angle)]) * taper / taper.sum()
        turn = 2 * torch.pi * torch.arange(BINS, dtype=torch.float64) * HOP / n_fft
        # Constants of the front end: in the graph, not in the checkpoint.
        self.register_buffer("basis", basis.float()[:, None], persistent=False)
        self.register_buffer("turn_cos", torch.cos(turn).float()[:, None], persistent=False)
        self.register_buffer("turn_sin", torch.sin(turn).float()[:, None], persistent=False)

    def forward(self, sound: Tensor) -> Tensor:
        sound = sound - sound.mean(1, keepdim=True)
        # The small constant keeps digital silence at zero instead of blowing up its rounding.
        sound = sound / (sound.square().mean(1, keepdim=True) + 1e-8).sqrt()
        spare = 2 * BINS - HOP
        sound = nn.functional.pad(sound, (spare // 2, spare - spare // 2))
        real, imaginary = nn.functional.conv1d(sound[:, None], self.basis, stride=HOP).chunk(2, 1)
        power = real.square() + imaginary.square() + self.floor
        log = torch.log(power)
        log = (log - log.mean(2, keepdim=True)) / 3.0
        # Of length 1 where there is sound, near 0 where there is none.
        real, imaginary = real / power.sqrt(), imaginary / power.sqrt()
        # Towards the next lower bin, and towards the frame before as it would have turned by now.
        lower = [_shifted(x, 1) for x in (real, imaginary)]
        before = [_shifted(x, 2) for x in (real, imaginary)]
        turned = (
            before[0] * self.turn_cos - before[1] * self.turn_sin,
            before[0] * self.turn_sin + before[1] * self.turn_cos,
        )
        steps = [
            part
            for other in (lower, turned)
            for part in (
                real * other[0] + imaginary * other[1],
                imaginary * other[0] - real * other[1],
            )
        ]
        return torch.stack([log, *steps], 1)


def _shifted(x: Tensor, axis: int) -> Tensor:
    """[N, bins, frames] one place on along `axis`, zeros first."""
    return nn.functional.pad(x, (0, 0, 1, 0) if axis == 1 else (1, 0))[
        :, : x.shape[1], : x.shape[2]
    ]


class AudioNet(nn.Module):
    """Sound float32 [N, 64000] in [-1, 1] at 16 kHz -> (logit float32 [N],); fake is positive.

    `width`, `layers`, `heads`, `mlp` are the transformer's; `stem` the channels of the
    convolutions before it. `drop` is dropout before the answer; `mask` the share of bins and of
    frames that training hides at most (SpecAugment, Park et al. 2019), nothing is hidden in eval
    mode. `phase` off leaves the log spectrum alone.
    """

    INPUTS: ClassVar[tuple[str, ...]] = ("sound",)
    OUTPUTS: ClassVar[tuple[str, ...]] = ("logit",)

    def __init__(
        self,
        width: int = 144,
        layers: int = 3,
        heads: int = 3,
        mlp: int = 288,
        stem: tuple[int, ...] = (16, 32, 64, 96),
        drop: float = 0.1,
        mask: float = 0.2,
        phase: bool = True,
    ) -> None:
        super().__init__()
        self.mask, self.phase = mask, phase
        self.front = Spectra()
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
        channels = Spectra.CHANNELS if phase else 1
        self.encoder.embeddings.patch_embeddings = _Patches(channels, [*stem], width)
        nn.init.normal_(self.encoder.embeddings.position_embeddings, std=0.02)
        self.head = nn.Sequential(
            nn.LayerNorm(2 * width), nn.Dropout(drop), nn.Linear(2 * width, 1)
        )

    def forward(self, sound: Tensor) -> tuple[Tensor]:
        return (self.judge(self.front(sound)),)

    def judge(self, spectra: Tensor) -> Tensor:
        """What `front` answers -> logit float32 [N]. Bears bfloat16, which `front` does not."""
        spectra = spectra if self.phase else spectra[:, :1]
        if self.training:
            spectra = spectra * _gaps(spectra, 2, self.mask) * _gaps(spectra, 3, self.mask)
        tokens = self.encoder(spectra).last_hidden_state
        # The class tokens see the whole; the mean makes every patch answer from the first step.
        pooled = torch.cat([tokens[:, 0], tokens[:, 2:].mean(1)], dim=1)
        return self.head(pooled).squeeze(1)

    @staticmethod
    def example(batch: int) -> tuple[Tensor, ...]:
        """Inputs of the right shape and range, for export and parity checks."""
        generator = torch.Generator().manual_seed(0)
        return (0.1 * torch.randn(batch, WINDOW_SAMPLES, generator=generator),)


class _Patches(nn.Module):
    """[N, channels, BINS, frames] -> tokens [N, BINS / 32 * FRAMES / 32, width], bins first."""

    def __init__(self, channels: int, stem: list[int], width: int) -> None:
        super().__init__()
        layers: list[nn.Module] = []
        for inside, outside in zip([channels, *stem], stem, strict=False):
            layers += [
                nn.Conv2d(inside, outside, 3, stride=2, padding=1, bias=False),
                nn.BatchNorm2d(outside),
                nn.GELU(),
            ]
        self.layers = nn.Sequential(*layers, nn.Conv2d(stem[-1], width, 2, stride=2))

    def forward(self, spectra: Tensor) -> Tensor:
        return self.layers(spectra).flatten(2).transpose(1, 2)


def _gaps(spectra: Tensor, axis: int, share: float) -> Tensor:
    """1, but 0 (the mean, after normalisation) in one stripe along `axis`, its own in each item."""
    count, size = spectra.shape[0], spectra.shape[axis]
    length = torch.rand(count, 1, device=spectra.device) * share * size
    first = torch.rand(count, 1, device=spectra.device) * (size - length)
    places = torch.arange(size, device=spectra.device)[None]
    kept = ((places < first) | (places >= first + length)).to(spectra.dtype)
    return kept[:, None, :, None] if axis == 2 else kept[:, None, None, :]
