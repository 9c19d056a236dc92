"""Decoder-painted faces: same place and colours, other texture."""

from pathlib import Path

import cv2
import numpy as np
import pytest
import torch
from skimage.data import astronaut

from training.checkpoints import save
from training.fakes.painter import Autoencoder, Painters

BOX = np.array([86.0, 65.0, 176.0, 190.0])


@pytest.fixture(scope="module")
def painters(tmp_path_factory: pytest.TempPathFactory) -> Painters:
    folder = tmp_path_factory.mktemp("painters")
    for upsampling in ("nearest", "transposed", "shuffle"):
        torch.manual_seed(0)
        config = {"upsampling": upsampling, "width": 4, "latent": 4, "levels": 2}
        (folder / upsampling).mkdir()
        save(Autoencoder(**config), folder / upsampling / "best.safetensors", config, {})
    return Painters(folder)


@pytest.mark.parametrize("upsampling", ["nearest", "transposed", "shuffle"])
def test_an_autoencoder_can_learn_a_picture(upsampling: str) -> None:
    torch.manual_seed(0)
    net = Autoencoder(upsampling, width=8, latent=8, levels=2)
    face = cv2.resize(np.ascontiguousarray(astronaut()[30:190, 150:310]), (48, 48))
    picture = torch.from_numpy(face)[None].permute(0, 3, 1, 2).float() / 127.5 - 1
    optimiser = torch.optim.Adam(net.parameters(), 5e-3)
    losses = []
    for _ in range(40):
        loss = (net(picture) - picture).abs().mean()
        optimiser.zero_grad()
        loss.backward()
        optimiser.step()
        losses.append(loss.item())
    assert losses[-1] < 0.5 * losses[0]


def test_a_repainted_picture_keeps_size_and_broad_colour(painters: Painters) -> None:
    picture = np.ascontiguousarray(astronaut()[:261, 90:351])
    kept = 0
    for seed in range(12):
        painted = painters.repaint(picture, BOX, np.random.default_rng(seed))
        again = painters.repaint(picture, BOX, np.random.default_rng(seed))
        assert painted.shape == picture.shape
        assert painted.dtype == np.uint8
        assert np.array_equal(painted, again)
        assert np.abs(painted.astype(int) - picture).mean() > 2
        broad = [cv2.resize(p, (4, 4), interpolation=cv2.INTER_AREA) for p in (picture, painted)]
        kept += np.abs(broad[0].astype(int) - broad[1]).mean() < 12
    assert kept >= 7  # even untrained ones, where the colour is put right


def test_an_empty_folder_says_how_to_make_painters(tmp_path: Path) -> None:
    with pytest.raises(FileNotFoundError, match=r"training\.painters"):
        Painters(tmp_path)
