"""Small neural vocoders, trained here in minutes: what they re-synthesise is training signal.

A detector that has only met signal processing hardly finds a GAN vocoder. These four families
make the marks that neural generators make, each in its own way: phase made up by an inverse
transform (Vocos, Siuzdak 2023), images and checkerboards of upsampling layers (HiFi-GAN, Kong et
al. 2020; Odena et al. 2016), sine excitation under a learned filter (neural source-filter, Wang
et al. 2019; DDSP, Engel et al. 2020), a quantised bottleneck (SoundStream, Zeghidour et al. 2021).
They are as small as one processor core can train, which leaves more marks, not fewer.

Every vocoder is called as `vocoder(sound, pitch)`: sound float32 [N, samples] at 16 kHz, pitch
float32 [N, frames] in Hz at 100 frames/s, 0 where unvoiced (only `SourceFilter` looks at it); it
answers float32 [N, samples], the same speech made anew.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping
from types import MappingProxyType

import torch
from torch import Tensor, nn
from torch.nn import functional
from torchaudio.functional import melscale_fbanks

from avfake.types import SAMPLE_RATE

PITCH_HOP = 160
"""Samples between two values of pitch."""


class Mel(nn.Module):
    """Log-mel spectrogram, float32 [N, samples] -> [N, bands, 1 + samples // hop], up to `top` Hz.

    With `blur` and `grain` above 0 it is what an acoustic model might have predicted: smoothed
    over time (share of the neighbours), and noisy (nepers).
    """

    def __init__(self, hop: int, bands: int = 80, n_fft: int = 1024, top: float = 8000.0) -> None:
        super().__init__()
        self.hop, self.n_fft = hop, n_fft
        self.blur = self.grain = 0.0
        filters = melscale_fbanks(n_fft // 2 + 1, 0.0, top, bands, SAMPLE_RATE, "slaney", "slaney")
        self.register_buffer("filters", filters, persistent=False)
        self.register_buffer("taper", torch.hann_window(n_fft), persistent=False)

    def forward(self, sound: Tensor) -> Tensor:
        spectrum = torch.stft(
            sound, self.n_fft, self.hop, window=self.taper, return_complex=True
        ).abs()
        mel = torch.log(spectrum.transpose(1, 2) @ self.filters + 1e-4).transpose(1, 2)
        if self.blur:
            sides = functional.pad(mel, (1, 1), mode="replicate")
            mel = (1 - self.blur) * mel + self.blur / 2 * (sides[..., :-2] + sides[..., 2:])
        return mel + self.grain * torch.randn_like(mel) if self.grain else mel


class Block(nn.Module):
    """ConvNeXt block over time (Liu et al. 2022), [N, width, T] -> the same."""

    def __init__(self, width: int) -> None:
        super().__init__()
        self.spread = nn.Conv1d(width, width, 7, padding=3, groups=width)
        self.norm = nn.LayerNorm(width)
        self.mix = nn.Sequential(
            nn.Linear(width, 3 * width), nn.GELU(), nn.Linear(3 * width, width)
        )
        self.scale = nn.Parameter(torch.full((width,), 0.3))

    def forward(self, x: Tensor) -> Tensor:
        inside = self.mix(self.norm(self.spread(x).transpose(1, 2)))
        return x + (self.scale * inside).transpose(1, 2)


def _trunk(inside: int, width: int, layers: int) -> nn.Sequential:
    return nn.Sequential(
        nn.Conv1d(inside, width, 7, padding=3), *(Block(width) for _ in range(layers))
    )


class Spectral(nn.Module):
    """Mel -> magnitude and phase of every frame -> inverse STFT. No transposed convolution."""

    def __init__(self, hop: int = 256, bands: int = 80, width: int = 192, layers: int = 5) -> None:
        super().__init__()
        self.mel = Mel(hop, bands)
        self.trunk = _trunk(bands, width, layers)
        self.head = nn.Conv1d(width, 2 * (self.mel.n_fft // 2 + 1), 1)

    def forward(self, sound: Tensor, pitch: Tensor) -> Tensor:
        level, phase = self.head(self.trunk(self.mel(sound))).chunk(2, dim=1)
        spectrum = torch.polar(torch.exp(level.clamp(max=6.0)), phase)
        mel = self.mel
        return torch.istft(spectrum, mel.n_fft, mel.hop, window=mel.taper, length=sound.shape[1])


class Upsampler(nn.Module):
    """Mel -> samples by upsampling layers, transposed convolutions or repetition, and tanh.

    `factors` multiply to the hop; `kernel` is in strides: at 1 or an odd multiple's remainder the
    layers leave checkerboards, at 2 milder ones.
    """

    def __init__(
        self,
        factors: tuple[int, ...] = (8, 8, 4),
        bands: int = 80,
        width: int = 160,
        transposed: bool = True,
    ) -> None:
        super().__init__()
        self.mel = Mel(math.prod(factors), bands)
        self.enter = _trunk(bands, width, 2)
        layers: list[nn.Module] = []
        for factor in factors:
            if transposed:
                up: nn.Module = nn.ConvTranspose1d(
                    width, width // 2, 2 * factor, factor, padding=(factor + 1) // 2,
                    output_padding=factor % 2,
                )  # fmt: skip
            else:
                up = nn.Sequential(
                    nn.Upsample(scale_factor=factor), nn.Conv1d(width, width // 2, 5, padding=2)
                )
            width //= 2
            layers += [nn.LeakyReLU(0.1), up, Dilated(width, 3, (1, 3))]
        self.layers = nn.Sequential(*layers)
        self.leave = nn.Conv1d(width, 1, 7, padding=3)

    def forward(self, sound: Tensor, pitch: Tensor) -> Tensor:
        x = self.layers(self.enter(self.mel(sound)))
        x = torch.tanh(self.leave(functional.leaky_relu(x, 0.1)))[:, 0]
        # Frames stand at multiples of the hop, the first at 0: half a hop comes before them.
        first = self.mel.hop // 2
        return functional.pad(x, (0, sound.shape[1]))[:, first : first + sound.shape[1]]


class Dilated(nn.Module):
    """Residual convolutions of growing reach, [N, width, T] -> the same."""

    def __init__(self, width: int, kernel: int, dilations: tuple[int, ...]) -> None:
        super().__init__()
        self.layers = nn.ModuleList(
            nn.Conv1d(width, width, kernel, dilation=step, padding=step * (kernel - 1) // 2)
            for step in dilations
        )

    def forward(self, x: Tensor) -> Tensor:
        for layer in self.layers:
            x = x + layer(functional.leaky_relu(x, 0.1))
        return x


class SourceFilter(nn.Module):
    """Sines at the pitch and noise, each shaped by a filter that a net reads from the mel."""

    def __init__(self, hop: int = 160, bands: int = 80, width: int = 160, layers: int = 4) -> None:
        super().__init__()
        self.mel = Mel(hop, bands, n_fft=640)
        bins = self.mel.n_fft // 2 + 1
        self.trunk = _trunk(bands + 2, width, layers)
        self.head = nn.Conv1d(width, 3 * bins, 1)

    def forward(self, sound: Tensor, pitch: Tensor) -> Tensor:
        samples = sound.shape[1]
        voiced = functional.interpolate((pitch > 0).float()[:, None], samples)[:, 0]
        hertz = functional.interpolate(pitch[:, None], samples, mode="linear")[:, 0]
        angle = 2 * torch.pi * torch.cumsum(hertz.double() / SAMPLE_RATE, 1).float()[:, None]
        order = torch.arange(1, 41, device=sound.device)[None, :, None]
        audible = (order * hertz[:, None] < SAMPLE_RATE / 2) * voiced[:, None]
        sines = (torch.sin(order * angle) * audible).sum(1) * 0.1
        noise = 0.1 * torch.randn_like(sound)
        mel = self.mel(sound)
        size = mel.shape[2]
        guide = torch.stack(
            [functional.interpolate(x[:, None], size)[:, 0] for x in (voiced, hertz / 200)], 1
        )
        tone, turn, breath = self.head(self.trunk(torch.cat([mel, guide], 1))).chunk(3, dim=1)
        spectrum = self._stft(sines) * torch.polar(torch.exp(tone.clamp(max=6.0)), turn)
        spectrum = spectrum + self._stft(noise) * torch.exp(breath.clamp(max=6.0))
        return torch.istft(
            spectrum, self.mel.n_fft, self.mel.hop, window=self.mel.taper, length=samples
        )

    def _stft(self, sound: Tensor) -> Tensor:
        return torch.stft(
            sound, self.mel.n_fft, self.mel.hop, window=self.mel.taper, return_complex=True
        )


class Bottleneck(nn.Module):
    """Samples -> a few quantised numbers a frame -> samples: a neural codec of 3 kbit/s or so."""

    def __init__(
        self, factors: tuple[int, ...] = (4, 5, 8), width: int = 8, codes: int = 24
    ) -> None:
        super().__init__()
        self.hop = math.prod(factors)
        down: list[nn.Module] = [nn.Conv1d(1, width, 7, padding=3)]
        up: list[nn.Module] = []
        for factor in factors:
            down += [
                Dilated(width, 3, (1, 3)),
                nn.LeakyReLU(0.1),
                nn.Conv1d(width, 2 * width, 2 * factor, factor, padding=(factor + 1) // 2),
            ]
            up[:0] = [
                nn.LeakyReLU(0.1),
                nn.ConvTranspose1d(
                    2 * width, width, 2 * factor, factor, padding=(factor + 1) // 2,
                    output_padding=factor % 2,
                ),
                Dilated(width, 3, (1, 3)),
            ]  # fmt: skip
            width *= 2
        self.down = nn.Sequential(*down, Block(width), nn.Conv1d(width, codes, 1))
        self.up = nn.Sequential(nn.Conv1d(codes, width, 1), Block(width), Block(width), *up)
        self.leave = nn.Conv1d(width // 2 ** len(factors), 1, 7, padding=3)

    def forward(self, sound: Tensor, pitch: Tensor) -> Tensor:
        filled = functional.pad(sound, (0, -sound.shape[1] % self.hop + self.hop))
        codes = 2 * torch.tanh(self.down(filled[:, None]))
        # Five levels a number (finite scalar quantisation, Mentzer et al. 2023).
        codes = codes + (codes.round() - codes).detach()
        return torch.tanh(self.leave(self.up(codes))[:, 0, : sound.shape[1]])


VOCODERS: Mapping[str, Callable[[], nn.Module]] = MappingProxyType(
    {
        "spectral": lambda: Spectral(hop=256, bands=80),
        "spectral_fine": lambda: Spectral(hop=160, bands=100, width=160),
        "upsampler": lambda: Upsampler((8, 8, 4)),
        "upsampler_repeat": lambda: Upsampler((5, 5, 8), transposed=False),
        "source_filter": lambda: SourceFilter(),
        "bottleneck": lambda: Bottleneck(),
    }
)
"""By name, untrained."""


class Critic(nn.Module):
    """Real or made? From the spectrogram, as in UnivNet (Jang et al. 2021), at one resolution.

    float32 [N, samples] -> list of feature maps, the last one the scores.
    """

    def __init__(self, n_fft: int, width: int = 16) -> None:
        super().__init__()
        self.n_fft = n_fft
        self.register_buffer("taper", torch.hann_window(n_fft), persistent=False)
        sizes = [(2, 1), (2, 2), (2, 2), (1, 1)]
        self.layers = nn.ModuleList(
            nn.Conv2d(width if index else 2, width, (5, 3), stride=size, padding=(2, 1))
            for index, size in enumerate(sizes)
        )
        self.leave = nn.Conv2d(width, 1, 3, padding=1)

    def forward(self, sound: Tensor) -> list[Tensor]:
        spectrum = torch.stft(
            sound, self.n_fft, self.n_fft // 4, window=self.taper, return_complex=True
        )
        # Compressed, with its phase: quiet detail counts.
        size = spectrum.abs() + 1e-5
        x = torch.view_as_real(spectrum * size.pow(-0.6)).permute(0, 3, 1, 2)
        maps = []
        for layer in self.layers:
            x = functional.leaky_relu(layer(x), 0.2)
            maps.append(x)
        return [*maps, self.leave(x)]


def spectral_loss(made: Tensor, real: Tensor) -> Tensor:
    """Multi-resolution STFT loss (Yamamoto et al. 2020): log magnitudes, and magnitudes' shape."""
    total = torch.zeros((), device=made.device)
    for n_fft in (256, 512, 1024):
        taper = torch.hann_window(n_fft, device=made.device)
        first, second = (
            torch.stft(x, n_fft, n_fft // 4, window=taper, return_complex=True).abs()
            for x in (made, real)
        )
        total = total + (torch.log(first + 1e-3) - torch.log(second + 1e-3)).abs().mean()
        total = total + 0.5 * (first - second).norm() / (second.norm() + 1e-3)
    return total / 3
