"""The finder's net: the same answer wherever a face is, in pixels, for any size of picture."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import onnxruntime
import pytest

torch = pytest.importorskip("torch")
pytest.importorskip("onnxscript")

from avfake.models.finder import STRIDES, FinderNet, places  # noqa: E402
from training.export import add_finder, export_graph  # noqa: E402


@pytest.fixture(scope="module")
def net() -> FinderNet:
    """Random weights that answer differently everywhere."""
    torch.manual_seed(0)
    net = FinderNet()
    for head in net.heads:
        torch.nn.init.normal_(head[1].weight, std=0.3)
    net.train()
    with torch.no_grad():
        for seed in range(5):  # so that batch normalisation knows what to expect
            net(pictures(4, 128, 128, seed))
    return net.eval()


def pictures(count: int, height: int, width: int, seed: int = 0) -> torch.Tensor:
    generator = torch.Generator().manual_seed(seed)
    shape = (count, height, width, 3)
    return torch.randint(0, 256, shape, dtype=torch.uint8, generator=generator)


@pytest.mark.parametrize(("height", "width"), [(32, 32), (64, 96), (352, 640)])
def test_an_answer_for_every_place_of_every_grid(net: FinderNet, height: int, width: int) -> None:
    with torch.inference_mode():
        logit, where = net(pictures(2, height, width))
    count = sum(height * width // stride**2 for stride in STRIDES)
    assert places(height, width) == count
    assert logit.shape == (2, count)
    assert where.shape == (2, count, 14)
    assert logit.dtype == where.dtype == torch.float32
    assert bool((where[..., 2:4] > where[..., :2]).all()), "boxes have positive sides"


def test_boxes_and_points_lie_about_their_own_place(net: FinderNet) -> None:
    """With a head that says "here, one stride large", places are the grids' corners in rows."""
    bare = FinderNet().eval()
    for head in bare.heads:
        torch.nn.init.zeros_(head[1].weight)
    with torch.inference_mode():
        logit, where = bare(pictures(1, 64, 96))
    assert logit[0].tolist() == pytest.approx([-4.6] * places(64, 96), abs=1e-5)
    first = where[0, 0].tolist()
    assert first == pytest.approx([-4, -4, 4, 4] + [0] * 10)
    second_row = where[0, 96 // 8].tolist()
    assert second_row == pytest.approx([-4, 4, 4, 12] + [0, 8] * 5)
    coarsest = where[0, -1].tolist()  # row 1, column 2 of the grid of 32 pixels
    assert coarsest == pytest.approx([48, 16, 80, 48] + [64, 32] * 5)


def test_a_face_that_moves_takes_its_answer_with_it(net: FinderNet) -> None:
    """Away from the edges, 32 pixels to the right is 4 places of the finest grid."""
    picture = torch.full((1, 512, 512, 3), 90, dtype=torch.uint8)
    moved = picture.clone()
    face = pictures(1, 40, 40, seed=9)
    picture[:, 230:270, 230:270] = face
    moved[:, 230:270, 262:302] = face
    with torch.inference_mode():
        logit, where = net(picture)
        there, places_there = net(moved)
    fine = logit[0, : 64 * 64].reshape(64, 64)
    fine_there = there[0, : 64 * 64].reshape(64, 64)
    assert fine_there[28:36, 30:38].flatten().tolist() == pytest.approx(
        fine[28:36, 26:34].flatten().tolist(), abs=1e-3
    )
    box = where[0, 30 * 64 + 30, :4] + torch.tensor([32.0, 0, 32, 0])
    assert places_there[0, 30 * 64 + 34, :4].tolist() == pytest.approx(box.tolist(), abs=0.05)


def test_a_picture_is_answered_alike_alone_and_among_others(net: FinderNet) -> None:
    given = pictures(3, 64, 64)
    with torch.inference_mode():
        together = net(given)[0]
        alone = torch.cat([net(given[i : i + 1])[0] for i in range(3)])
    assert together.flatten().tolist() == pytest.approx(alone.flatten().tolist(), abs=1e-3)


def test_the_graph_takes_any_size_and_answers_as_torch_does(net: FinderNet, tmp_path: Path) -> None:
    import json

    (tmp_path / "bundle.json").write_text(json.dumps({"graphs": {"fusion": {"file": "f"}}}))
    add_finder(net, 640, 0.42, tmp_path)
    manifest = json.loads((tmp_path / "bundle.json").read_text())
    assert manifest["graphs"]["fusion"] == {"file": "f"}, "the other graphs stay as they are"
    assert manifest["graphs"]["finder"]["threshold"] == 0.42
    path = tmp_path / manifest["graphs"]["finder"]["file"]
    assert path.stat().st_size <= 400_000
    session = onnxruntime.InferenceSession(path, providers=["CPUExecutionProvider"])
    for height, width in ((32, 32), (96, 64), (384, 640)):
        given = pictures(1, height, width, seed=height)
        logit, where = session.run(["logit", "places"], {"pictures": given.numpy()})
        with torch.inference_mode():
            here, where_here = net(given)
        assert np.abs(logit - here.numpy()).max() < 1e-3
        assert np.abs(where - where_here.numpy()).max() < 0.05


def test_sides_that_the_grids_do_not_fit_are_refused(net: FinderNet, tmp_path: Path) -> None:
    """A graph made for one size must not be taken for one that takes any."""
    path = tmp_path / "fixed.onnx"
    with pytest.raises(Exception):  # noqa: B017, PT011 (onnxruntime's own kinds)
        export_graph(net, path)
