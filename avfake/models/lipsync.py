"""Lip-sync: do the mouth and the sound belong together, and how far apart in time are they?

Two towers, a picture one and a sound one, each give one vector per 1/25 s on a shared sphere, in
the line of SyncNet (Chung & Zisserman, "Out of time", ACCV-W 2016). Their front-ends follow
Light-ASD (Liao et al., "A Light Weight Model for Active Speaker Detection", CVPR 2023), so that
its published weights can be the start. The mel cepstrum of the sound is part of the graph.

**Sign of the offset**: offset k means that the sound that matches the mouth at time t is found at
time t + k / 25 s. Positive: the sound is late (it lags the picture).
"""

from __future__ import annotations

import math

import torch
from torch import Tensor, nn
from torch.nn import functional as F

SAMPLE_RATE = 16_000
FRAME_RATE = 25
SAMPLES_PER_FRAME = SAMPLE_RATE // FRAME_RATE
MOUTH_SIDE = 112  # pixels
CHANNELS = (32, 64, 128)


class Mfcc(nn.Module):
    """13 mel-frequency cepstral coefficients, 100 times a second, as `python_speech_features`.

    Pre-emphasis 0.97; rectangular 25 ms windows every 10 ms; 512-point power spectrum; 26
    triangular filters, 0 to 8000 Hz; log; orthonormal DCT-II; lifter 22; coefficient 0 replaced
    by the log energy of the frame. Amplitudes are taken on the 16-bit scale. Energies below 1 are
    under the quantisation noise of 16-bit sound; they are raised to 1, because their logarithm is
    rounding error and differs from one runtime to another.
    """

    WINDOW, STEP, FFT, FILTERS, COEFFICIENTS, LIFTER = 400, 160, 512, 26, 13, 22

    def __init__(self) -> None:
        super().__init__()
        bins = torch.arange(self.FFT // 2 + 1, dtype=torch.float64)
        angle = 2 * math.pi / self.FFT * bins[:, None] * torch.arange(self.WINDOW)
        fourier = torch.cat([angle.cos(), angle.sin()]) / math.sqrt(self.FFT)

        def mel(hertz: float) -> float:
            return 2595 * math.log10(1 + hertz / 700)

        mels = torch.linspace(0, mel(SAMPLE_RATE / 2), self.FILTERS + 2, dtype=torch.float64)
        edges = ((self.FFT + 1) * 700 * (10 ** (mels / 2595) - 1) / SAMPLE_RATE).floor()
        left, middle, right = edges[:-2, None], edges[1:-1, None], edges[2:, None]
        rise, fall = (bins - left) / (middle - left), (right - bins) / (right - middle)
        filters = torch.minimum(rise, fall).clamp(min=0)

        order = torch.arange(self.COEFFICIENTS, dtype=torch.float64)[:, None]
        phase = math.pi / self.FILTERS * order * (torch.arange(self.FILTERS) + 0.5)
        cosine = phase.cos() * math.sqrt(2 / self.FILTERS)
        cosine *= 1 + self.LIFTER / 2 * torch.sin(math.pi * order / self.LIFTER)
        # Coefficient 0 comes from the energy, never from the DCT.
        for name, table in {
            "fourier": fourier[:, None],
            "filters": filters,
            "cosine": cosine[1:],
        }.items():
            self.register_buffer(name, table.float(), persistent=False)

    def forward(self, sound: Tensor) -> Tensor:
        """float32 [N, n * 160] in [-1, 1] at 16 kHz -> float32 [N, 13, n].

        Column i sees the 25 ms from 10 i ms on; the last one is completed with zeros.
        """
        sound = sound * 32768.0
        sound = torch.cat([sound[:, :1], sound[:, 1:] - 0.97 * sound[:, :-1]], 1)
        sound = F.pad(sound, (0, self.WINDOW - self.STEP))
        real, imaginary = F.conv1d(sound[:, None], self.fourier, stride=self.STEP).chunk(2, 1)
        power = real.square() + imaginary.square()
        energy = power.sum(1, keepdim=True).clamp(min=1.0).log()
        mels = (self.filters @ power).clamp(min=1.0).log()
        return torch.cat([energy, self.cosine @ mels], 1)


def _layer(
    inputs: int, outputs: int, kernel: tuple[int, int], stride: tuple[int, int] = (1, 1)
) -> nn.Sequential:
    padding = (kernel[0] // 2, kernel[1] // 2)
    return nn.Sequential(
        nn.Conv2d(inputs, outputs, kernel, stride, padding, bias=False),
        nn.BatchNorm2d(outputs, eps=1e-3),
        nn.ReLU(),
    )


class MouthBlock(nn.Module):
    """A 3-wide and a 5-wide path, each over space and then over time; their sum is mixed.

    The 3-D convolutions are written as 2-D ones, over space and over (time, pixels): the same
    sums, several times faster on a CPU.
    """

    def __init__(self, inputs: int, outputs: int, stride: int) -> None:
        super().__init__()
        self.space = nn.ModuleList(
            _layer(inputs, outputs, (k, k), (stride, stride)) for k in (3, 5)
        )
        self.time = nn.ModuleList(_layer(outputs, outputs, (k, 1)) for k in (3, 5))
        self.mix = _layer(outputs, outputs, (1, 1))

    def forward(self, pictures: Tensor, frames: int) -> Tensor:
        """[N * frames, C, H, W] -> [N * frames, C', H', W']."""
        total = 0
        for space, time in zip(self.space, self.time, strict=True):
            path = space(pictures)
            _, channels, height, width = path.shape
            path = path.view(-1, frames, channels, height * width).transpose(1, 2)
            total = total + time(path)
        mixed = self.mix(total).transpose(1, 2)
        return mixed.reshape(-1, channels, height, width)


class MouthTower(nn.Module):
    """uint8 grey [N, T, 112, 112] at 25 frames/s -> float32 [N, T, 128].

    Pictures are halved by averaging first: a quarter of the work, and the face comes closer to
    the size at which Light-ASD was trained (whole faces, not mouths, on 112 pixels).
    """

    def __init__(self, shrink: int = 2) -> None:
        super().__init__()
        self.shrink = shrink
        self.blocks = nn.ModuleList(
            MouthBlock(inputs, outputs, stride)
            for inputs, outputs, stride in zip((1, *CHANNELS), CHANNELS, (2, 1, 1), strict=False)
        )

    def forward(self, mouths: Tensor) -> Tensor:
        frames = mouths.shape[1]
        x = mouths.reshape(-1, 1, MOUTH_SIDE, MOUTH_SIDE).float()
        x = (F.avg_pool2d(x, self.shrink) / 255 - 0.4161) / 0.1688
        for index, block in enumerate(self.blocks):
            x = F.max_pool2d(x, 3, 2, 1) if index else x
            x = block(x, frames)
        return x.amax((2, 3)).view(-1, frames, CHANNELS[-1])


class SoundBlock(nn.Module):
    """As `MouthBlock`, on the one-column pictures of the cepstrum: [N, C, 13, time]."""

    def __init__(self, inputs: int, outputs: int) -> None:
        super().__init__()
        self.space = nn.ModuleList(_layer(inputs, outputs, (k, 1)) for k in (3, 5))
        self.time = nn.ModuleList(_layer(outputs, outputs, (1, k)) for k in (3, 5))
        self.mix = _layer(outputs, outputs, (1, 1))

    def forward(self, x: Tensor) -> Tensor:
        paths = zip(self.space, self.time, strict=True)
        return self.mix(sum(time(space(x)) for space, time in paths))


class SoundTower(nn.Module):
    """float32 PCM [N, T * 640] in [-1, 1] at 16 kHz -> float32 [N, T, 128], 25 a second."""

    def __init__(self) -> None:
        super().__init__()
        self.mfcc = Mfcc()
        self.blocks = nn.ModuleList(
            SoundBlock(inputs, outputs)
            for inputs, outputs in zip((1, *CHANNELS), CHANNELS, strict=False)
        )

    def forward(self, sound: Tensor) -> Tensor:
        x = self.mfcc(sound)[:, None]
        for index, block in enumerate(self.blocks):
            x = F.max_pool2d(x, (1, 3), (1, 2), (0, 1)) if index else x
            x = block(x)
        return x.mean(2).transpose(1, 2)


class Head(nn.Module):
    """Features [N, T, 128] -> unit vectors [N, T, size]; each sees two frames either way."""

    def __init__(self, size: int, dropout: float) -> None:
        super().__init__()
        self.layers = nn.Sequential(
            nn.BatchNorm1d(CHANNELS[-1]),
            nn.Dropout(dropout),
            nn.Conv1d(CHANNELS[-1], size, 5, padding=2),
            nn.BatchNorm1d(size),
            nn.ReLU(),
            nn.Dropout(dropout),
            nn.Conv1d(size, size, 1),
        )

    def forward(self, features: Tensor) -> Tensor:
        return F.normalize(self.layers(features.transpose(1, 2)).transpose(1, 2), dim=-1)


def lag_map(mouths: Tensor, sounds: Tensor, reach: int) -> Tensor:
    """Cosine between mouth t and sound t + k, for k from -reach to reach.

    `mouths`, `sounds`: unit vectors [N, T, D]. Returns [N, T, 2 * reach + 1]; 0 where t + k lies
    outside the clip.
    """
    frames, width = mouths.shape[1], 2 * reach + 1
    # All pairs, rows padded to T + 2 reach. Read again with rows one longer, every row starts one
    # column later than the row before: the diagonals stand in columns.
    pairs = F.pad(mouths @ sounds.transpose(1, 2), (reach, reach)).flatten(1)
    return F.pad(pairs, (0, frames)).view(-1, frames, frames + width)[:, :, :width]


def lag_similarity(lags: Tensor) -> Tensor:
    """Mean of a lag map [N, T, 2K + 1] over the T - |k| frames that overlap at lag k: [N, 2K+1]."""
    frames, reach = lags.shape[1], lags.shape[2] // 2
    overlap = frames - torch.arange(-reach, reach + 1, device=lags.device).abs()
    return lags.sum(1) / overlap.clamp(min=1)


def peak(similarity: Tensor) -> tuple[Tensor, Tensor]:
    """(offset in frames, confidence) of similarity [N, 2K + 1], both [N].

    The offset is the best lag, refined by its two neighbours; the confidence is how far the best
    lag stands out from the median one (Chung & Zisserman 2016).
    """
    reach = similarity.shape[1] // 2
    lag = torch.arange(-reach, reach + 1, device=similarity.device)
    highest, best = similarity.max(1, keepdim=True)
    weight = torch.exp(50 * (similarity - highest)) * ((lag + reach - best).abs() <= 1)
    offset = (weight * lag).sum(1) / weight.sum(1)
    median = similarity.sort(1).values[:, reach]
    return offset, highest[:, 0] - median


class LipSyncNet(nn.Module):
    """Mouth clip and sound -> how well they match at each lag, where, how surely, and mismatch.

    Inputs: `mouths` uint8 [N, T, 112, 112] grey at 25/s; `sound` float32 [N, T * 640], 16 kHz, of
    the same time. T > 15. Outputs, all float32:

    - `similarity` [N, 31]: mean cosine of mouth t and sound t + k, k = -15 .. 15, in [-1, 1];
    - `offset` [N]: frames of 1/25 s by which the sound is late (see the file's head);
    - `confidence` [N]: best minus median similarity, >= 0;
    - `logit` [N]: mismatch, fake = 1. A constant offset is normal in real video, so the judge sees
      only what no constant offset changes: height, sharpness and steadiness of the peak.
    """

    INPUTS = ("mouths", "sound")
    OUTPUTS = ("similarity", "offset", "confidence", "logit")
    REACH = 15  # frames either way
    STRETCH = 25  # frames over which the judge looks for a local offset
    TRAITS = 8

    def __init__(self, size: int = 96, dropout: float = 0.2, shrink: int = 2) -> None:
        super().__init__()
        self.mouth = MouthTower(shrink)
        self.sound = SoundTower()
        self.mouth_head = Head(size, dropout)
        self.sound_head = Head(size, dropout)
        self.sharpness = nn.Parameter(torch.tensor(2.6))  # log inverse temperature of training
        self.judge = nn.Sequential(
            nn.BatchNorm1d(self.TRAITS),
            nn.Linear(self.TRAITS, 16),
            nn.ReLU(),
            nn.Linear(16, 1),
        )

    def forward(self, mouths: Tensor, sound: Tensor) -> tuple[Tensor, Tensor, Tensor, Tensor]:
        return self.compare(self.embed_mouths(mouths), self.embed_sound(sound))

    def embed_mouths(self, mouths: Tensor) -> Tensor:
        """uint8 [N, T, 112, 112] -> unit vectors [N, T, size]."""
        return self.mouth_head(self.mouth(mouths))

    def embed_sound(self, sound: Tensor) -> Tensor:
        """float32 [N, T * 640] -> unit vectors [N, T, size]."""
        return self.sound_head(self.sound(sound))

    def compare(self, mouths: Tensor, sounds: Tensor) -> tuple[Tensor, Tensor, Tensor, Tensor]:
        """The four outputs from unit vectors [N, T, size] of both."""
        lags = lag_map(mouths, sounds, self.REACH)
        similarity = lag_similarity(lags)
        offset, confidence = peak(similarity)
        logit = self.judge(self.traits(mouths, sounds)).squeeze(1)
        return similarity, offset, confidence, logit

    def traits(self, mouths: Tensor, sounds: Tensor) -> Tensor:
        """[N, 8]: what the judge sees of unit vectors [N, T, size] of both."""
        lags = lag_map(mouths, sounds, self.REACH)
        similarity = lag_similarity(lags)
        highest, best = similarity.max(1, keepdim=True)
        _, confidence = peak(similarity)
        odds = F.softmax(50 * similarity, 1)
        lag = torch.arange(2 * self.REACH + 1, device=lags.device)
        spread = (odds * (lag - best).abs()).sum(1)

        # The same over stretches of a second: does each find the peak, and at the same lag?
        # Less the mean, so that the zeros beyond the clip's ends speak for no lag.
        heard = torch.arange(lags.shape[1], device=lags.device)[:, None] + lag - self.REACH
        inside = (heard >= 0) & (heard < lags.shape[1])
        level = lags - similarity.mean(1)[:, None, None] * inside
        local = F.avg_pool1d(level.transpose(1, 2), self.STRETCH, stride=5).transpose(1, 2)
        local_odds = F.softmax(20 * local, 2)
        agreed = local_odds.mean(1)
        doubt = _entropy(local_odds).mean(1)
        quarrel = _entropy(agreed) - doubt  # Jensen-Shannon divergence
        at_best = local.gather(2, best[:, None].expand(-1, local.shape[1], 1))[:, :, 0]
        # How much there is to match: a mouth or a sound that stays the same proves nothing.
        stir = [1 - vectors.mean(1).square().sum(1) for vectors in (mouths, sounds)]
        rows = [highest[:, 0], confidence, spread, doubt, quarrel, at_best.amin(1), *stir]
        return torch.stack(rows, 1)

    @staticmethod
    def example(batch: int) -> tuple[Tensor, Tensor]:
        """Inputs of the right shapes and types: 2 s of changing grey and noise."""
        generator = torch.Generator().manual_seed(0)
        shape = (batch, 50, MOUTH_SIDE, MOUTH_SIDE)
        mouths = torch.randint(0, 256, shape, dtype=torch.uint8, generator=generator)
        sound = 0.1 * torch.randn(batch, 50 * SAMPLES_PER_FRAME, generator=generator)
        return mouths, sound


def _entropy(odds: Tensor) -> Tensor:
    return -(odds * odds.clamp(min=1e-9).log()).sum(-1)
