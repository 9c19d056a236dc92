"""Every vocoder makes speech of the length it heard, learns, and leaves its own marks."""

from __future__ import annotations

import numpy as np
import pytest

torch = pytest.importorskip("torch")
pytest.importorskip("torchaudio")

from tests.training.voices import voice  # noqa: E402
from training.fakes.vocoders import (  # noqa: E402
    PITCH_HOP,
    VOCODERS,
    Critic,
    Mel,
    SourceFilter,
    Upsampler,
    spectral_loss,
)


def speech(seconds: float = 1.0) -> tuple[torch.Tensor, torch.Tensor]:
    sound = torch.from_numpy(np.stack([voice(seed, seconds) for seed in (1, 2)]))
    return sound, torch.full((2, 1 + sound.shape[1] // PITCH_HOP), 130.0)


@pytest.mark.parametrize("name", sorted(VOCODERS))
def test_a_vocoder_keeps_the_length_and_can_learn(name: str) -> None:
    torch.manual_seed(0)
    vocoder = VOCODERS[name]()
    sound, pitch = speech(0.6)
    made = vocoder(sound, pitch)
    assert made.shape == sound.shape
    assert vocoder(sound[:, :-77], pitch).shape == (2, sound.shape[1] - 77)
    optimiser = torch.optim.AdamW(vocoder.parameters(), 1e-4)
    losses = []
    for _ in range(12):
        loss = spectral_loss(vocoder(sound, pitch), sound)
        optimiser.zero_grad()
        loss.backward()
        optimiser.step()
        losses.append(loss.item())
    assert min(losses[6:]) < losses[0]


def test_upsampled_sound_stands_where_its_mel_stands() -> None:
    """A click moves the output round its own place and nowhere else."""
    torch.manual_seed(0)
    vocoder = Upsampler((8, 8, 4)).eval()
    quiet, pitch = torch.zeros(1, 16_000), torch.zeros(1, 101)
    click = quiet.clone()
    click[0, 8_000] = 0.5
    with torch.no_grad():
        change = (vocoder(click, pitch) - vocoder(quiet, pitch)).abs()[0]
    centre = float((change * torch.arange(16_000)).sum() / change.sum())
    assert abs(centre - 8_000) < 160


def test_source_and_filter_hear_the_pitch() -> None:
    torch.manual_seed(0)
    vocoder = SourceFilter().eval()
    sound, pitch = speech()
    with torch.no_grad():
        torch.manual_seed(1)
        voiced = vocoder(sound, pitch)
        torch.manual_seed(1)
        whispered = vocoder(sound, 0 * pitch)
    assert (voiced - whispered).abs().max() > 1e-3


def test_a_guessed_mel_is_smoother_or_noisier() -> None:
    mel = Mel(160)
    sound, _ = speech()
    plain = mel(sound)
    mel.blur = 0.5
    assert mel(sound).diff(dim=2).abs().mean() < 0.9 * plain.diff(dim=2).abs().mean()
    mel.blur, mel.grain = 0.0, 0.2
    assert (mel(sound) - plain).std() == pytest.approx(0.2, rel=0.1)


def test_critics_and_the_spectral_loss_tell_noise_from_speech() -> None:
    sound, _ = speech()
    assert float(spectral_loss(sound, sound)) < 1e-3
    assert float(spectral_loss(torch.randn_like(sound) * 0.1, sound)) > 0.5
    maps = Critic(400)(sound)
    assert maps[-1].shape[1] == 1
    assert all(torch.isfinite(x).all() for x in maps)
