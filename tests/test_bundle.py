"""A bundle is run only if every byte is what its manifest says, and it does no more than that."""

from __future__ import annotations

import hashlib
import json
import os
import shutil
import socket
import threading
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import onnxruntime
import pytest

import avfake.bundle
from avfake.branches import AudioBranch, LipSyncBranch, VisualBranch
from avfake.bundle import GRAPHS, MANIFEST, OPTIONAL, Bundle, load_bundle, shipped_bundles
from avfake.detector import Detector
from avfake.types import AvfakeError


@pytest.fixture
def copy(bundle: Bundle, tmp_path: Path) -> Path:
    """The shipped bundle in a folder that may be damaged."""
    folder = tmp_path / "copy"
    shutil.copytree(bundle.folder, folder)
    return folder


def edit(folder: Path, **changes: Any) -> None:
    path = folder / MANIFEST
    path.write_text(json.dumps(json.loads(path.read_text()) | changes))


def edit_graph(folder: Path, graph: str, **changes: Any) -> None:
    """Change what the manifest says of a graph."""
    graphs = json.loads((folder / MANIFEST).read_text())["graphs"]
    graphs[graph] |= changes
    edit(folder, graphs=graphs)


def replace(folder: Path, graph: str, data: bytes) -> Path:
    """Put another file in a graph's place, with a checksum that is right."""
    path = folder / json.loads((folder / MANIFEST).read_text())["graphs"][graph]["file"]
    path.write_bytes(data)
    edit_graph(folder, graph, sha256=hashlib.sha256(data).hexdigest())
    return path


def refused(folder: Path, reason: str | None = None) -> AvfakeError:
    with pytest.raises(AvfakeError) as caught:
        Detector(load_bundle(folder))
    assert str(caught.value).isprintable(), "one sentence, on one line"
    assert reason in (None, caught.value.reason), caught.value
    return caught.value


def in_time(work: Callable[[], Any], seconds: float = 5.0) -> Any:
    """What `work` returns; fails where it waits for something that never comes."""
    found: list[Any] = []
    thread = threading.Thread(target=lambda: found.append(work()), daemon=True)
    thread.start()
    thread.join(seconds)
    assert found, "it waits, or raised something"
    return found[0]


def test_the_shipped_bundle_is_sound_and_describes_itself(bundle: Bundle) -> None:
    assert bundle.name
    assert bundle.version
    data = (bundle.folder / MANIFEST).read_bytes()
    assert bundle.to_dict() == {
        "name": bundle.name,
        "version": bundle.version,
        "sha256": hashlib.sha256(data).hexdigest(),
    }
    assert 0 <= bundle.threshold("likely_real") <= 0.5 <= bundle.threshold("likely_fake") <= 1


def test_default_is_among_the_shipped_bundles() -> None:
    assert "default" in shipped_bundles()
    assert load_bundle("default").name == "default"


def test_the_shipped_bundle_has_a_model_card() -> None:
    folder = load_bundle("default").folder
    cards = [path.name for path in folder.iterdir() if path.suffix == ".md"]
    assert cards, "the default bundle needs a model card"


def test_calibration_is_scale_and_bias(bundle: Bundle) -> None:
    for branch in ("visual", "audio", "lipsync"):
        entry = bundle.manifest["calibration"][branch]
        assert entry["scale"] > 0, "fake is 1 everywhere: no branch may be turned round"
        assert bundle.calibrate(branch, 2.0) == pytest.approx(2 * entry["scale"] + entry["bias"])


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


def test_a_copy_elsewhere_is_the_same_bundle(copy: Path, bundle: Bundle) -> None:
    assert load_bundle(copy).sha256 == bundle.sha256
    assert load_bundle(str(copy)).folder == copy


@pytest.mark.parametrize("name", ["nobody", "../bundles/default", "no/such/folder"])
def test_an_unknown_bundle_is_missing(name: str) -> None:
    with pytest.raises(AvfakeError, match="There is no bundle") as caught:
        load_bundle(name)
    assert caught.value.reason == "bundle_missing"


def test_a_folder_without_a_manifest(tmp_path: Path) -> None:
    error = refused(tmp_path)
    assert error.reason == "bundle_missing"
    assert MANIFEST in str(error)


@pytest.mark.parametrize("graph", [*GRAPHS, *OPTIONAL])
def test_a_missing_graph_is_named(copy: Path, bundle: Bundle, graph: str) -> None:
    file = bundle.graph(graph)["file"]
    (copy / file).unlink()
    error = refused(copy)
    assert error.reason == "bundle_missing"
    assert file in str(error)


@pytest.mark.parametrize("graph", [*GRAPHS, *OPTIONAL])
def test_a_single_wrong_bit_is_noticed_and_the_file_named(
    copy: Path, bundle: Bundle, graph: str
) -> None:
    path = copy / bundle.graph(graph)["file"]
    data = bytearray(path.read_bytes())
    data[len(data) // 2] ^= 1
    path.write_bytes(data)
    error = refused(copy)
    assert error.reason == "bundle_damaged"
    assert path.name in str(error)


def test_the_bytes_that_were_checked_are_the_bytes_that_run(
    copy: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Each file is opened once, so nobody can change it between the check and its use."""
    opened: list[str] = []
    open_file = os.open

    def counting(path: Any, *more: Any) -> int:
        opened.append(Path(path).name)
        return open_file(path, *more)

    monkeypatch.setattr("avfake.bundle.os.open", counting)
    loaded = load_bundle(copy)
    for path in copy.glob("*.onnx"):
        path.write_bytes(b"something else")
    Detector(loaded)
    files = [MANIFEST, *(loaded.graph(name)["file"] for name in (*GRAPHS, *OPTIONAL))]
    assert sorted(opened) == sorted(files)
    assert hashlib.sha256(loaded.data["fusion"]).hexdigest() == loaded.graph("fusion")["sha256"]


def test_a_wrong_checksum_is_noticed_before_anything_parses_the_file(
    copy: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    parsed: list[str] = []
    monkeypatch.setattr(avfake.bundle, "read_graph", lambda data, name: parsed.append(name))
    (copy / "audio.onnx").write_bytes(b"not what it was")
    graphs = json.loads((copy / MANIFEST).read_text())["graphs"]
    edit(copy, graphs={"audio": graphs.pop("audio"), **graphs})  # the first to be read
    refused(copy, "bundle_damaged")
    assert parsed == []


def test_a_graph_that_is_no_onnx_is_damaged_though_its_checksum_is_right(copy: Path) -> None:
    manifest = json.loads((copy / MANIFEST).read_text())
    path = copy / manifest["graphs"]["audio"]["file"]
    path.write_bytes(b"not a graph")
    manifest["graphs"]["audio"]["sha256"] = hashlib.sha256(b"not a graph").hexdigest()
    edit(copy, **manifest)
    error = refused(copy)
    assert error.reason == "bundle_damaged"
    assert path.name in str(error)


@pytest.mark.parametrize(
    "text",
    [
        *("", "{", "[]", "null", "3", '"text"', "{}", '{"format": 1}', "\xff", "\0"),
        *("[" * 100_000, '{"a":' * 100_000, "9" * 10_000, '{"format": NaN}'),
        *('{"format": "1"}', '{"format": [1]}', '{"format": true}', "{'format': 1}"),
    ],
    ids=range(18),
)
def test_a_manifest_that_is_none_is_damaged(copy: Path, text: str) -> None:
    (copy / MANIFEST).write_bytes(text.encode("latin-1"))
    error = refused(copy)
    assert error.reason == "bundle_damaged"
    assert MANIFEST in str(error)


def test_a_bundle_may_do_without_a_finder(copy: Path) -> None:
    manifest = json.loads((copy / MANIFEST).read_text())
    file = manifest["graphs"].pop("finder")["file"]
    (copy / file).unlink()
    edit(copy, **manifest)
    loaded = load_bundle(copy)
    assert not loaded.has("finder")
    assert Detector(loaded).finder.name == "dlib"


def test_another_format_is_told_apart(copy: Path) -> None:
    edit(copy, format=99)
    assert "format 99" in str(refused(copy))


@pytest.mark.parametrize(
    ("section", "entry", "key"),
    [
        ("graphs", "visual", "size"),
        ("graphs", "audio", "samples"),
        ("graphs", "lipsync", "pictures"),
        ("graphs", "lipsync", "size"),
        ("graphs", "fusion", "sha256"),
        ("graphs", "fusion", "file"),
        ("graphs", "finder", "side"),
        ("graphs", "finder", "threshold"),
        ("calibration", "audio", "scale"),
        ("calibration", "lipsync", "bias"),
        ("thresholds", None, "likely_fake"),
        ("thresholds", None, "likely_real"),
    ],
)
def test_every_fact_that_is_needed_must_be_there(
    copy: Path, section: str, entry: str | None, key: str
) -> None:
    manifest = json.loads((copy / MANIFEST).read_text())
    part = manifest[section] if entry is None else manifest[section][entry]
    del part[key]
    edit(copy, **manifest)
    error = refused(copy)
    assert error.reason == "bundle_damaged"
    assert key in str(error)


def deep(value: str) -> Callable[[str], str]:
    """Put JSON as it stands in the place of the finder's threshold."""
    return lambda text: text.replace('"threshold": 0.48', f'"threshold": {value}')


@pytest.mark.parametrize(
    ("change", "words"),
    [
        (deep("NaN"), "NaN is no number"),
        (deep("-Infinity"), "Infinity is no number"),
        (deep("1e999"), "threshold must be a number from 0 to 1"),
        (deep("9" * 400), "threshold must be a number from 0 to 1"),
        (deep("9" * 5000), "not a valid manifest"),  # Python converts no number of that length
        (deep("true"), "threshold must be a number"),
        (deep('"0.5"'), "threshold must be a number"),
        (deep("null"), "threshold must be a number"),
        (deep("[" * 5000 + "]" * 5000), "not a valid manifest"),
        (deep('0.5, "threshold": 0.5'), "'threshold' is given twice"),
        (lambda text: text.replace("{", '{"\x1b[2J": 1, "\x1b[2J": 2, ', 1), "not a valid"),
    ],
    ids=range(11),
)
def test_a_manifest_of_bad_json_is_damaged(
    copy: Path, change: Callable[[str], str], words: str
) -> None:
    text = (copy / MANIFEST).read_text()
    assert change(text) != text
    (copy / MANIFEST).write_text(change(text))
    assert words in str(refused(copy, "bundle_damaged"))


@pytest.mark.parametrize(
    ("keys", "value", "words"),
    [
        (("name",), 3, "name must be a text"),
        (("name",), "", "name must be a text"),
        (("name",), "\x1b]0;evil\x07", "name must be a text"),
        (("version",), "1" * 101, "version must be a text"),
        (("version",), None, "version must be a text"),
        (("graphs",), [], "graphs must be an object"),
        (("graphs", "audio"), "audio.onnx", "audio must be an object"),
        (("graphs", "audio", "file"), 3, "file of audio must be a text"),
        (("graphs", "audio", "file"), None, "file of audio must be a text"),
        (("graphs", "audio", "sha256"), "0" * 63, "64 hexadecimal digits"),
        (("graphs", "audio", "sha256"), "g" * 64, "64 hexadecimal digits"),
        (("graphs", "audio", "sha256"), "0" * 64 + "\n", "64 hexadecimal digits"),
        (("graphs", "audio", "sha256"), 0, "64 hexadecimal digits"),
        (("graphs", "audio", "samples"), 0, "samples must be a number from 1600"),
        (("graphs", "audio", "samples"), 10**9, "samples must be a number from 1600"),
        (("graphs", "audio", "samples"), 64000.0, "samples must be a whole number"),
        (("graphs", "visual", "size"), -128, "size must be a number from 8"),
        (("graphs", "visual", "size"), True, "size must be a number from 8"),
        (("graphs", "lipsync", "pictures"), 10**400, "pictures must be a number"),
        (("graphs", "finder", "side"), 10**6, "side must be a number from 32"),
        (("graphs", "finder", "threshold"), 1.5, "threshold must be a number from 0 to 1"),
        (("graphs", "extra"), {"file": "/etc/passwd"}, "'extra', which is not known"),
        (("calibration", "audio"), None, "audio must be an object"),
        (("calibration", "audio", "scale"), -1.0, "scale must be a number"),
        (("calibration", "audio", "scale"), 0, "scale must be a number"),
        (("calibration", "audio", "bias"), 1e300, "bias must be a number"),
        (("thresholds",), 0.5, "thresholds must be an object"),
        (("thresholds", "likely_fake"), 1.01, "likely_fake must be a number from 0 to 1"),
        (("thresholds", "likely_real"), 0.9, "likely_real must not be above likely_fake"),
    ],
)
def test_a_manifest_of_wrong_facts_is_damaged(
    copy: Path, keys: tuple[str, ...], value: Any, words: str
) -> None:
    manifest = json.loads((copy / MANIFEST).read_text())
    part = manifest
    for key in keys[:-1]:
        part = part[key]
    part[keys[-1]] = value
    (copy / MANIFEST).write_text(json.dumps(manifest))
    assert words in str(refused(copy, "bundle_damaged"))


# Files


@pytest.mark.parametrize(
    "name",
    [
        *("../audio.onnx", "/etc/passwd", "folder/audio.onnx", "..", ".", "", ".hidden"),
        *("..\\audio.onnx", "C:\\audio.onnx", "C:audio.onnx", "\\\\host\\audio.onnx"),
        *("audio.onnx\0", "audio.onnx\n", "audio onnx", "audio\u202e.onnx", "a" * 101),
        *("http://127.0.0.1/audio.onnx", "file:///etc/passwd", "~/audio.onnx", "$HOME"),
    ],
)
def test_a_file_with_more_than_a_plain_name_is_unsafe(copy: Path, name: str) -> None:
    shutil.copy(copy / "audio.onnx", copy.parent)  # there, and with the right checksum
    edit_graph(copy, "audio", file=name)
    assert "names a file" in str(refused(copy, "bundle_unsafe"))


@pytest.mark.parametrize("file", ["audio.onnx", MANIFEST])
def test_a_link_that_leads_out_of_the_bundle_is_unsafe(copy: Path, file: str) -> None:
    (copy / file).rename(copy.parent / file)
    (copy / file).symlink_to(copy.parent / file)
    assert "leads out of the bundle" in str(refused(copy, "bundle_unsafe"))


def test_links_within_the_bundle_and_to_it_are_followed(copy: Path) -> None:
    (copy / "audio.onnx").rename(copy / "sound.onnx")
    (copy / "audio.onnx").symlink_to("sound.onnx")
    (copy.parent / "link").symlink_to(copy)
    assert load_bundle(copy.parent / "link").name == "default"


def test_a_link_to_itself_or_to_nothing_is_missing(copy: Path) -> None:
    (copy / "audio.onnx").unlink()
    (copy / "audio.onnx").symlink_to("audio.onnx")
    refused(copy, "bundle_missing")
    (copy / "audio.onnx").unlink()
    (copy / "audio.onnx").symlink_to("nothing.onnx")
    refused(copy, "bundle_missing")


def pipe(path: Path) -> None:
    os.mkfifo(path)


def zeros(path: Path) -> None:
    os.mknod(path, 0o020666, os.makedev(1, 5))


def bound(path: Path) -> None:
    before = os.getcwd()
    os.chdir(path.parent)  # the address of a socket is a short one
    try:
        socket.socket(socket.AF_UNIX).bind(path.name)
    finally:
        os.chdir(before)


@pytest.mark.parametrize("file", ["audio.onnx", MANIFEST])
@pytest.mark.parametrize("make", [pipe, zeros, bound, Path.mkdir])
def test_what_is_no_regular_file_is_refused_without_waiting(
    copy: Path, file: str, make: Callable[[Path], None]
) -> None:
    (copy / file).unlink()
    try:
        make(copy / file)
    except PermissionError:
        pytest.skip("making devices needs privileges")
    error = in_time(lambda: refused(copy))
    assert error.reason in ("bundle_unsafe", "bundle_missing")
    assert file in str(error)


def test_a_file_that_may_not_be_read_is_missing(copy: Path) -> None:
    (copy / "audio.onnx").chmod(0)
    if os.access(copy / "audio.onnx", os.R_OK):
        pytest.skip("nothing is forbidden to this user")
    assert "Permission denied" in str(refused(copy, "bundle_missing"))


@pytest.mark.parametrize("file", ["audio.onnx", MANIFEST])
def test_a_file_of_absurd_size_is_refused_before_it_is_read(copy: Path, file: str) -> None:
    with (copy / file).open("r+b") as hole:
        hole.truncate(1 << 40)  # takes no room
    error = in_time(lambda: refused(copy))
    assert error.reason == "bundle_unsafe"
    assert f"{file} is larger than" in str(error)


def test_an_empty_graph_is_damaged_though_its_checksum_is_right(copy: Path) -> None:
    replace(copy, "audio", b"")
    assert "audio.onnx is no ONNX model" in str(refused(copy, "bundle_damaged"))


@pytest.mark.parametrize("name", ["x" * 5000, "a\0b", "", "\udcff"])
def test_names_that_no_folder_has_are_missing(name: str) -> None:
    with pytest.raises(AvfakeError) as caught:
        load_bundle(name)
    assert caught.value.reason == "bundle_missing"


def test_a_folder_that_lies_about_does_not_take_the_place_of_the_shipped_bundle(
    copy: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Whoever judges what a stranger packed, from within, must not get that stranger's models."""
    edit(copy, name="strangers")
    copy.rename(copy.with_name("default"))
    monkeypatch.chdir(copy.parent)
    assert load_bundle("default").name == load_bundle(Path("default")).name == "default"
    assert load_bundle("./default").name == "strangers"


# Graphs: tests/test_graphs.py has more of what is unsafe


def test_weights_in_another_file_are_refused_before_onnxruntime_sees_the_graph(
    copy: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    onnx = pytest.importorskip("onnx")
    model = onnx.load(copy / "fusion.onnx")
    tensor = model.graph.initializer[0]
    tensor.ClearField("raw_data")
    tensor.data_location = onnx.TensorProto.EXTERNAL
    tensor.external_data.add(key="location", value="../secret")
    path = replace(copy, "fusion", model.SerializeToString())
    monkeypatch.setattr(onnxruntime, "InferenceSession", None)
    error = refused(copy, "bundle_unsafe")
    assert f"{path} holds a tensor that lies in another file" in str(error)


def test_weights_that_are_no_numbers_are_damaged(copy: Path) -> None:
    onnx = pytest.importorskip("onnx")
    model = onnx.load(copy / "fusion.onnx")
    tensor = next(t for t in model.graph.initializer if t.data_type == 1 and len(t.raw_data) > 4)
    tensor.raw_data = np.full(len(tensor.raw_data) // 4, np.nan, np.float32).tobytes()
    replace(copy, "fusion", model.SerializeToString())
    assert "no numbers" in str(refused(copy, "bundle_damaged"))


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
    copy: Path, change: Callable[[Any], None], words: str
) -> None:
    onnx = pytest.importorskip("onnx")
    model = onnx.load(copy / "audio.onnx")
    change(model)
    replace(copy, "audio", model.SerializeToString())
    with pytest.raises(AvfakeError, match=r"audio\.onnx") as caught:
        load_bundle(copy)
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
    copy: Path, graph: str, facts: dict[str, int]
) -> None:
    edit_graph(copy, graph, **facts)
    assert "it must be" in str(refused(copy, "bundle_damaged"))


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
    copy: Path, answers: list[tuple[str, list[str], str]], words: str
) -> None:
    """Its weights are numbers and its promises right; it is tried once, before the first clip."""
    path = replace(copy, "fusion", fusion_that(answers))
    loaded = load_bundle(copy)
    with pytest.raises(AvfakeError) as caught:
        loaded.session("fusion")
    assert caught.value.reason == "bundle_damaged"
    assert words in str(caught.value)
    assert str(path) in str(caught.value)


def test_the_shipped_graphs_answer_when_they_are_tried(copy: Path) -> None:
    """A copy is tried, as any bundle that does not ship."""
    loaded = load_bundle(copy)
    assert not loaded.shipped
    assert load_bundle().shipped
    for branch in (VisualBranch, AudioBranch, LipSyncBranch):
        branch(loaded, 1)
    Detector(loaded)


def test_a_random_byte_changed_in_the_manifest_never_gives_a_traceback(copy: Path) -> None:
    random = np.random.default_rng(0)
    original = (copy / MANIFEST).read_bytes()
    reasons = []
    for _ in range(150):
        data = bytearray(original)
        data[random.integers(len(data))] = random.integers(256)
        (copy / MANIFEST).write_bytes(data)
        try:
            load_bundle(copy)
        except AvfakeError as error:
            reasons.append(error.reason)
    assert set(reasons) <= {"bundle_damaged", "bundle_missing", "bundle_unsafe"}
    assert len(reasons) > 75  # the rest are digits of the calibration, letters of the name
