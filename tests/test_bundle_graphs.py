"""A bundle's graphs run only if they answer as its manifest says.

tests/test_graphs.py has what is unsafe in them.
"""

from __future__ import annotations

import hashlib
import json
import os
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import onnxruntime
import pytest

import avfake.bundle
from avfake.branches import AudioBranch, LipSyncBranch, VisualBranch
from avfake.bundle import GRAPHS, MANIFEST, OPTIONAL, Bundle, load_bundle
from avfake.detector import Detector
from avfake.types import AvfakeError
from tests.bundles import edit, edit_graph, refused, replace


def test_graphs_take_raw_inputs(bundle: Bundle) -> None:
    """uint8 pictures, float32 sound: normalisation is in the graph, and nowhere else."""
    inputs = {
        name: {i.name: (i.type, i.shape[1:]) for i in bundle.session(name, 1).get_inputs()}
        for name in (*GRAPHS, *OPTIONAL)
    }
    size = bundle.graph("visual")["size"]
    assert inputs["visual"] == {"faces": ("tensor(uint8)", [size, size, 3])}
    samples = bundle.graph("audio")["samples"]
    assert inputs["audio"] == {"sound": ("tensor(float)", [samples])}
    lipsync = bundle.graph("lipsync")
    mouths = ("tensor(uint8)", [lipsync["pictures"], lipsync["size"], lipsync["size"]])
    assert inputs["lipsync"]["mouths"] == mouths
    assert inputs["lipsync"]["sound"] == ("tensor(float)", [lipsync["pictures"] * 640])
    assert set(inputs["fusion"]) == {"logits", "present"}
    ((kind, (*_, channels)),) = inputs["finder"].values()
    assert (kind, channels) == ("tensor(uint8)", 3)


def test_graphs_answer_each_item_of_a_batch_by_itself(bundle: Bundle) -> None:
    """The same crop alone and among others: the same logit."""
    size = bundle.graph("visual")["size"]
    crops = np.random.default_rng(0).integers(0, 256, (5, size, size, 3), np.uint8)
    session = bundle.session("visual", 1)
    together = session.run(["logit"], {"faces": crops})[0]
    alone = [session.run(["logit"], {"faces": crops[i : i + 1]})[0][0] for i in range(5)]
    assert together.shape == (5,)
    assert together == pytest.approx(alone, abs=1e-4)


def test_the_bytes_that_were_checked_are_the_bytes_that_run(
    bundle_copy: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Each file is opened once, so nobody can change it between the check and its use."""
    opened: list[str] = []
    open_file = os.open

    def counting(path: Any, *more: Any) -> int:
        opened.append(Path(path).name)
        return open_file(path, *more)

    monkeypatch.setattr("avfake.bundle.os.open", counting)
    loaded = load_bundle(bundle_copy)
    for path in bundle_copy.glob("*.onnx"):
        path.write_bytes(b"something else")
    Detector(loaded)
    files = [MANIFEST, *(loaded.graph(name)["file"] for name in (*GRAPHS, *OPTIONAL))]
    assert sorted(opened) == sorted(files)
    assert hashlib.sha256(loaded.data["fusion"]).hexdigest() == loaded.graph("fusion")["sha256"]


def test_a_wrong_checksum_is_noticed_before_anything_parses_the_file(
    bundle_copy: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    parsed: list[str] = []
    monkeypatch.setattr(avfake.bundle, "read_graph", lambda data, name: parsed.append(name))
    (bundle_copy / "audio.onnx").write_bytes(b"not what it was")
    graphs = json.loads((bundle_copy / MANIFEST).read_text())["graphs"]
    edit(bundle_copy, graphs={"audio": graphs.pop("audio"), **graphs})  # the first to be read
    refused(bundle_copy, "bundle_damaged")
    assert parsed == []


def test_a_graph_that_is_no_onnx_is_damaged_though_its_checksum_is_right(bundle_copy: Path) -> None:
    manifest = json.loads((bundle_copy / MANIFEST).read_text())
    path = bundle_copy / manifest["graphs"]["audio"]["file"]
    path.write_bytes(b"not a graph")
    manifest["graphs"]["audio"]["sha256"] = hashlib.sha256(b"not a graph").hexdigest()
    edit(bundle_copy, **manifest)
    error = refused(bundle_copy)
    assert error.reason == "bundle_damaged"
    assert path.name in str(error)


def test_an_empty_graph_is_damaged_though_its_checksum_is_right(bundle_copy: Path) -> None:
    replace(bundle_copy, "audio", b"")
    assert "audio.onnx is no ONNX model" in str(refused(bundle_copy, "bundle_damaged"))


def test_weights_in_another_file_are_refused_before_onnxruntime_sees_the_graph(
    bundle_copy: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    onnx = pytest.importorskip("onnx")
    model = onnx.load(bundle_copy / "fusion.onnx")
    tensor = model.graph.initializer[0]
    tensor.ClearField("raw_data")
    tensor.data_location = onnx.TensorProto.EXTERNAL
    tensor.external_data.add(key="location", value="../secret")
    path = replace(bundle_copy, "fusion", model.SerializeToString())
    monkeypatch.setattr(onnxruntime, "InferenceSession", None)
    error = refused(bundle_copy, "bundle_unsafe")
    assert f"{path} holds a tensor that lies in another file" in str(error)


def test_weights_that_are_no_numbers_are_damaged(bundle_copy: Path) -> None:
    onnx = pytest.importorskip("onnx")
    model = onnx.load(bundle_copy / "fusion.onnx")
    tensor = next(t for t in model.graph.initializer if t.data_type == 1 and len(t.raw_data) > 4)
    tensor.raw_data = np.full(len(tensor.raw_data) // 4, np.nan, np.float32).tobytes()
    replace(bundle_copy, "fusion", model.SerializeToString())
    assert "no numbers" in str(refused(bundle_copy, "bundle_damaged"))


def renamed(model: Any) -> None:
    for node in model.graph.node:
        node.input[:] = ["noise" if name == "sound" else name for name in node.input]
    model.graph.input[0].name = "noise"


def doubled(model: Any) -> None:
    model.graph.input.add().CopyFrom(model.graph.input[0])
    model.graph.input[1].name = "more"


def fixed(model: Any) -> None:
    model.graph.input[0].type.tensor_type.shape.dim[0].dim_value = 1


def free(model: Any) -> None:
    model.graph.input[0].type.tensor_type.shape.dim[1].dim_param = "samples"


def shorter(model: Any) -> None:
    model.graph.input[0].type.tensor_type.shape.dim[1].dim_value = 32000


def flat(model: Any) -> None:
    del model.graph.input[0].type.tensor_type.shape.dim[1:]


def whole(model: Any) -> None:
    model.graph.input[0].type.tensor_type.elem_type = 6


def shapeless(model: Any) -> None:
    model.graph.input[0].type.tensor_type.ClearField("shape")


def silent(model: Any) -> None:
    model.graph.output[0].name = model.graph.node[0].output[0]


def single(model: Any) -> None:
    model.graph.output[0].type.tensor_type.shape.dim[0].dim_value = 1


def double(model: Any) -> None:
    model.graph.output[0].type.tensor_type.elem_type = 11


@pytest.mark.parametrize(
    ("change", "words"),
    [
        (renamed, "takes noise, not sound"),
        (doubled, "takes more, sound, not sound"),
        (fixed, "takes sound as float32 [1, 64000]; it must be float32 [*, 64000]"),
        (free, "takes sound as float32 [*, *]; it must be float32 [*, 64000]"),
        (shorter, "takes sound as float32 [*, 32000]; it must be float32 [*, 64000]"),
        (flat, "takes sound as float32 [*]; it must be float32 [*, 64000]"),
        (whole, "takes sound as int32 [*, 64000]; it must be float32 [*, 64000]"),
        (shapeless, "does not tell type and shape of 'sound'"),
        (silent, "gives logit as nothing; it must be float32 [*]"),
        (single, "gives logit as float32 [1]; it must be float32 [*]"),
        (double, "gives logit as float64 [*]; it must be float32 [*]"),
    ],
)
def test_a_graph_of_other_inputs_or_outputs_is_damaged(
    bundle_copy: Path, change: Callable[[Any], None], words: str
) -> None:
    onnx = pytest.importorskip("onnx")
    model = onnx.load(bundle_copy / "audio.onnx")
    change(model)
    replace(bundle_copy, "audio", model.SerializeToString())
    with pytest.raises(AvfakeError, match=r"audio\.onnx") as caught:
        load_bundle(bundle_copy)
    assert words in str(caught.value)
    assert caught.value.reason == "bundle_damaged"


@pytest.mark.parametrize(
    ("graph", "facts"),
    [
        ("visual", {"size": 96}),
        ("audio", {"samples": 32000}),
        ("lipsync", {"pictures": 25}),
        ("lipsync", {"size": 96}),
    ],
)
def test_facts_that_are_not_the_graphs_are_damage(
    bundle_copy: Path, graph: str, facts: dict[str, int]
) -> None:
    edit_graph(bundle_copy, graph, **facts)
    assert "it must be" in str(refused(bundle_copy, "bundle_damaged"))


def fusion_that(answers: list[tuple[str, list[str], str]], opset: int = 18) -> bytes:
    """A graph of the fusion's inputs and output, of operators (name, inputs, output)."""
    onnx = pytest.importorskip("onnx")
    helper = onnx.helper
    inputs = [helper.make_tensor_value_info(n, 1, ["batch", 3]) for n in ("logits", "present")]
    nodes = [helper.make_node(name, into, [out]) for name, into, out in answers]
    output = helper.make_tensor_value_info("logit", 1, ["batch"])
    axis = onnx.numpy_helper.from_array(np.array([1]), "one")
    all_of = onnx.numpy_helper.from_array(np.array([-1]), "flat")
    graph = helper.make_graph(nodes, "fusion", inputs, [output], [axis, all_of])
    return helper.make_model(
        graph, opset_imports=[helper.make_opsetid("", opset)], ir_version=10
    ).SerializeToString()


@pytest.mark.parametrize(
    ("answers", "words"),
    [
        (
            [
                ("Sub", ["logits", "logits"], "zeros"),
                ("Div", ["zeros", "zeros"], "none"),
                ("ReduceSum", ["none", "one"], "kept"),
                ("Squeeze", ["kept", "one"], "logit"),
            ],
            "gives logit that is no number",
        ),
        ([("Reshape", ["logits", "flat"], "logit")], "gives logit of shape [3]"),
        ([("Nonsense", ["logits"], "logit")], "onnxruntime cannot run"),
        ([("MatMul", ["logits", "present"], "logit")], "onnxruntime cannot run"),
    ],
)
def test_a_graph_that_does_not_answer_is_damaged(
    bundle_copy: Path, answers: list[tuple[str, list[str], str]], words: str
) -> None:
    """Its weights are numbers and its promises right; it is tried once, before the first clip."""
    path = replace(bundle_copy, "fusion", fusion_that(answers))
    loaded = load_bundle(bundle_copy)
    with pytest.raises(AvfakeError) as caught:
        loaded.session("fusion")
    assert caught.value.reason == "bundle_damaged"
    assert words in str(caught.value)
    assert str(path) in str(caught.value)


def test_the_shipped_graphs_answer_when_they_are_tried(bundle_copy: Path) -> None:
    """A copy is tried, as any bundle that does not ship."""
    loaded = load_bundle(bundle_copy)
    assert not loaded.shipped
    assert load_bundle().shipped
    for branch in (VisualBranch, AudioBranch, LipSyncBranch):
        branch(loaded, 1)
    Detector(loaded)
