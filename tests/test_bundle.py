"""A bundle is run only if every byte of it is what its manifest says."""

from __future__ import annotations

import hashlib
import json
import shutil
from pathlib import Path
from typing import Any

import numpy as np
import pytest

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


def refused(folder: Path) -> AvfakeError:
    with pytest.raises(AvfakeError) as caught:
        Detector(load_bundle(folder))
    return caught.value


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


def test_a_graph_cut_short_after_loading_is_not_run(copy: Path) -> None:
    """The bytes are checked again when the session is made, not only when the bundle is."""
    loaded = load_bundle(copy)
    path = copy / loaded.graph("fusion")["file"]
    path.write_bytes(path.read_bytes()[:100])
    with pytest.raises(AvfakeError) as caught:
        loaded.session("fusion")
    assert caught.value.reason == "bundle_damaged"


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
    "text", ["", "{", "[]", "null", "3", '"text"', "{}", '{"format": 1}', "\xff"]
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
