"""The visual net: its map explains its logit, and ONNX says what torch says."""

from pathlib import Path

import numpy as np
import onnxruntime
import pytest
import torch

from avfake.models.visual import VisualNet

TINY = {
    "backbone": "resnet10t",
    "backbone_args": {"channels": [8, 8, 16, 16], "stem_width": 8},
    "size": 64,
}


@pytest.fixture(scope="module")
def net() -> VisualNet:
    torch.manual_seed(3)
    net = VisualNet(stem_pool=False, **TINY)
    # A bias and a head that matter, and normalisation that has seen something.
    torch.nn.init.normal_(net.head.weight)
    torch.nn.init.constant_(net.head.bias, 0.7)
    for _ in range(3):
        net(*net.example(8))
    return net.eval()


@torch.inference_mode()
def test_the_map_explains_the_logit_exactly(net: VisualNet) -> None:
    logit, activation = net(*net.example(3))
    assert activation.std() > 0.01
    torch.testing.assert_close(activation.mean((1, 2)) + net.head.bias, logit)


@torch.inference_mode()
def test_the_map_shows_where_the_picture_changed(net: VisualNet) -> None:
    (faces,) = net.example(1)
    changed = faces.clone()
    changed[:, :16, :16] = 255 - changed[:, :16, :16]
    difference = (net(faces)[1] - net(changed)[1]).abs()[0]
    row, column = np.unravel_index(difference.argmax().item(), difference.shape)
    assert max(row, column) < difference.shape[0] / 2


@torch.inference_mode()
def test_keeping_the_stem_resolution_doubles_the_map() -> None:
    sides = [VisualNet(stem_pool=p, **TINY).eval()(torch.zeros(1, 64, 64, 3, dtype=torch.uint8)) for
             p in (True, False)]  # fmt: skip
    assert [activation.shape[-1] for _, activation in sides] == [2, 4]


@torch.inference_mode()
@pytest.mark.parametrize("backbone", ["mobilenetv3_small_050", "convnext_atto"])
def test_other_timm_backbones_serve(backbone: str) -> None:
    net = VisualNet(backbone, size=64).eval()
    logit, activation = net(*net.example(2))
    torch.testing.assert_close(activation.mean((1, 2)) + net.head.bias, logit)


def test_a_backbone_without_stem_pooling_says_so() -> None:
    with pytest.raises(ValueError, match="no stem pooling"):
        VisualNet("mobilenetv3_small_050", stem_pool=False)


def test_onnx_agrees_with_torch_at_any_batch(net: VisualNet, tmp_path: Path) -> None:
    path = tmp_path / "visual.onnx"
    program = torch.onnx.export(
        net,
        net.example(2),
        input_names=list(net.INPUTS),
        output_names=list(net.OUTPUTS),
        dynamic_shapes=({0: torch.export.Dim("batch")},),
        dynamo=True,
        verbose=False,
    )
    program.save(path)
    session = onnxruntime.InferenceSession(path, providers=["CPUExecutionProvider"])
    for batch in (1, 3):
        (faces,) = net.example(batch)
        answers = session.run(list(net.OUTPUTS), {"faces": faces.numpy()})
        with torch.inference_mode():
            expected = net(faces)
        for ours, theirs in zip(answers, expected, strict=True):
            assert ours.shape == theirs.shape
            assert ours.dtype == np.float32
            np.testing.assert_allclose(ours, theirs.numpy(), atol=1e-3)
