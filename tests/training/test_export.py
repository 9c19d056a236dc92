"""Checkpoints become graphs that answer as torch does, or no bundle at all."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest

torch = pytest.importorskip("torch")
pytest.importorskip("onnxscript")

from torch import Tensor, nn  # noqa: E402

from avfake.bundle import load_bundle  # noqa: E402
from avfake.fusion import Fusion  # noqa: E402
from avfake.models.fusion import FusionNet  # noqa: E402
from avfake.types import BRANCHES, AvfakeError, BranchScore  # noqa: E402
from training.checkpoints import save  # noqa: E402
from training.export import difference, export_graph, rebuild, write_bundle  # noqa: E402


def fusion_net(seed: int = 0) -> FusionNet:
    torch.manual_seed(seed)
    net = FusionNet()
    with torch.no_grad():
        for parameter in net.parameters():
            parameter.normal_()
    net.temperature.fill_(1.7)
    return net.eval()


def test_a_checkpoint_is_rebuilt_as_it_was(tmp_path: Path) -> None:
    net = fusion_net()
    save(net, tmp_path / "best.safetensors", {}, {"loss": 0.1})
    again = rebuild("fusion", tmp_path / "best.safetensors")
    assert not again.training
    assert float(again.temperature) == pytest.approx(1.7)
    given = net.example(4)
    assert torch.equal(net(*given)[0], again(*given)[0])


def test_a_checkpoint_of_another_shape_is_refused(tmp_path: Path) -> None:
    """The weights of one model do not fit into another: said at once, not run at random."""
    save(fusion_net(), tmp_path / "best.safetensors", {}, {"loss": 0.1})
    with pytest.raises(RuntimeError, match="Missing key"):
        rebuild("visual", tmp_path / "best.safetensors")


@pytest.fixture(scope="module")
def graph(tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("graph") / "fusion.onnx"
    assert export_graph(fusion_net(), path) <= 1e-3
    return path


@pytest.mark.parametrize("batch", [1, 2, 7, 64])
def test_the_graph_answers_as_torch_for_any_batch(graph: Path, batch: int) -> None:
    rng = np.random.default_rng(batch)
    logits = torch.from_numpy(rng.normal(0, 6, (batch, 3)).astype(np.float32))
    present = torch.from_numpy(rng.integers(0, 2, (batch, 3)).astype(np.float32))
    assert difference(fusion_net(), graph, (logits, present)) <= 1e-4


def test_a_difference_is_noticed(graph: Path) -> None:
    net = fusion_net()
    with torch.no_grad():
        net.leak.bias += 0.5
    assert difference(net, graph, net.example(3)) > 1e-3


class Fickle(nn.Module):
    """Answers once this and once that, as a graph that was traced wrongly would."""

    INPUTS = ("x",)
    OUTPUTS = ("logit",)

    def __init__(self) -> None:
        super().__init__()
        self.shift = nn.Parameter(torch.zeros(()))
        self.calls = 0

    def forward(self, x: Tensor) -> tuple[Tensor]:
        self.calls += 1
        return (x.sum(1) + self.shift + 0.1 * self.calls,)

    def example(self, batch: int) -> tuple[Tensor]:
        return (torch.ones(batch, 2),)


def test_a_graph_that_differs_from_torch_is_refused(tmp_path: Path) -> None:
    with pytest.raises(ValueError, match=r"bad\.onnx differs from torch"):
        export_graph(Fickle().eval(), tmp_path / "bad.onnx")


class Visual(nn.Module):
    """A stand-in with the inputs and outputs of the branch."""

    INPUTS: tuple[str, ...] = ("faces",)
    OUTPUTS: tuple[str, ...] = ("logit", "activation")
    size = 16

    def __init__(self) -> None:
        super().__init__()
        self.weight = nn.Parameter(torch.full((3,), 0.01))

    def forward(self, faces: Tensor) -> tuple[Tensor, Tensor]:
        activation = (faces.float() * self.weight).sum(-1) - 3
        return activation.mean((1, 2)), activation

    def example(self, batch: int) -> tuple[Tensor, ...]:
        return (torch.randint(0, 256, (batch, 16, 16, 3), dtype=torch.uint8),)


class Audio(nn.Module):
    INPUTS = ("sound",)
    OUTPUTS = ("logit",)

    def __init__(self) -> None:
        super().__init__()
        self.weight = nn.Parameter(torch.ones(()))

    def forward(self, sound: Tensor) -> tuple[Tensor]:
        return (sound.square().mean(1) * self.weight,)

    def example(self, batch: int) -> tuple[Tensor, ...]:
        return (torch.rand(batch, 6400),)


class LipSync(nn.Module):
    INPUTS = ("mouths", "sound")
    OUTPUTS = ("logit", "offset", "confidence")

    def __init__(self) -> None:
        super().__init__()
        self.weight = nn.Parameter(torch.ones(()))

    def forward(self, mouths: Tensor, sound: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        logit = mouths.float().mean((1, 2, 3)) / 100 + sound.mean(1) * self.weight
        return logit, logit * 0 + 2, logit * 0 + 1

    def example(self, batch: int) -> tuple[Tensor, ...]:
        mouths = torch.randint(0, 256, (batch, 10, 12, 12), dtype=torch.uint8)
        return mouths, torch.rand(batch, 6400)


CALIBRATION = {
    "calibration": {
        branch: {"scale": 1.0 + i, "bias": 0.1 * i} for i, branch in enumerate(BRANCHES)
    },
    "thresholds": {"likely_fake": 0.7, "likely_real": 0.25},
}


@pytest.fixture(scope="module")
def written(tmp_path_factory: pytest.TempPathFactory) -> Path:
    out = tmp_path_factory.mktemp("bundle")
    models = {"visual": Visual(), "audio": Audio(), "lipsync": LipSync(), "fusion": fusion_net()}
    write_bundle({n: m.eval() for n, m in models.items()}, CALIBRATION, out, "tiny", "3")
    return out


def test_what_is_written_is_a_bundle_that_avfake_loads(written: Path) -> None:
    bundle = load_bundle(written)
    assert (bundle.name, bundle.version) == ("tiny", "3")
    assert bundle.graph("visual")["size"] == 16
    assert bundle.graph("audio")["samples"] == 6400
    assert bundle.graph("lipsync")["pictures"] == 10
    assert bundle.graph("lipsync")["size"] == 12
    assert bundle.calibrate("audio", 2.0) == pytest.approx(2 * 2.0 + 0.1)
    assert bundle.threshold("likely_fake") == 0.7
    assert sorted(p.name for p in written.iterdir()) == [
        *("audio.onnx", "bundle.json", "fusion.onnx", "lipsync.onnx", "visual.onnx")
    ]


def test_the_bundle_answers_what_torch_answered(written: Path) -> None:
    """Through the very class that serves it."""
    scores = {
        "visual": BranchScore("ok", logit=2.0),
        "audio": BranchScore.absent("no_speech"),
        "lipsync": BranchScore("ok", logit=-1.0),
    }
    with torch.no_grad():
        given = torch.tensor([[2.0, 0.0, -1.0]]), torch.tensor([[1.0, 0.0, 1.0]])
        expected = float(fusion_net()(*given)[0])
    assert Fusion(load_bundle(written)).fuse(scores) == pytest.approx(expected, abs=1e-4)


def test_graphs_hold_their_weights_and_no_paths(written: Path) -> None:
    """One file a graph, and nothing of the machine that made it."""
    for path in written.glob("*.onnx"):
        data = path.read_bytes()
        assert b"site-packages" not in data, path.name
        assert str(Path.cwd()).encode() not in data, path.name


def test_a_manifest_with_a_wrong_checksum_is_noticed(written: Path, tmp_path: Path) -> None:
    import shutil

    copy = tmp_path / "copy"
    shutil.copytree(written, copy)
    manifest = json.loads((copy / "bundle.json").read_text())
    manifest["graphs"]["audio"]["sha256"] = "0" * 64
    (copy / "bundle.json").write_text(json.dumps(manifest))
    with pytest.raises(AvfakeError, match=r"audio\.onnx is damaged"):
        load_bundle(copy)
