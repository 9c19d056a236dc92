"""A bundle is read only if its manifest and files are what they should be, and no more."""

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
import pytest

from avfake.bundle import GRAPHS, MANIFEST, OPTIONAL, Bundle, load_bundle, shipped_bundles
from avfake.detector import Detector
from avfake.types import AvfakeError
from tests.bundles import edit, edit_graph, refused


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


def test_more_threads_than_cores_are_as_many_as_there_are_cores(bundle: Bundle) -> None:
    threads = bundle.session("visual", 500).get_session_options().intra_op_num_threads
    assert threads == os.cpu_count()


def test_a_copy_elsewhere_is_the_same_bundle(bundle_copy: Path, bundle: Bundle) -> None:
    assert load_bundle(bundle_copy).sha256 == bundle.sha256
    assert load_bundle(str(bundle_copy)).folder == bundle_copy


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
def test_a_missing_graph_is_named(bundle_copy: Path, bundle: Bundle, graph: str) -> None:
    file = bundle.graph(graph)["file"]
    (bundle_copy / file).unlink()
    error = refused(bundle_copy)
    assert error.reason == "bundle_missing"
    assert file in str(error)


@pytest.mark.parametrize("graph", [*GRAPHS, *OPTIONAL])
def test_a_single_wrong_bit_is_noticed_and_the_file_named(
    bundle_copy: Path, bundle: Bundle, graph: str
) -> None:
    path = bundle_copy / bundle.graph(graph)["file"]
    data = bytearray(path.read_bytes())
    data[len(data) // 2] ^= 1
    path.write_bytes(data)
    error = refused(bundle_copy)
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
def test_a_manifest_that_is_none_is_damaged(bundle_copy: Path, text: str) -> None:
    (bundle_copy / MANIFEST).write_bytes(text.encode("latin-1"))
    error = refused(bundle_copy)
    assert error.reason == "bundle_damaged"
    assert MANIFEST in str(error)


def test_a_bundle_may_do_without_a_finder(bundle_copy: Path) -> None:
    manifest = json.loads((bundle_copy / MANIFEST).read_text())
    file = manifest["graphs"].pop("finder")["file"]
    (bundle_copy / file).unlink()
    edit(bundle_copy, **manifest)
    loaded = load_bundle(bundle_copy)
    assert not loaded.has("finder")
    assert Detector(loaded).finder.name == "dlib"


def test_another_format_is_told_apart(bundle_copy: Path) -> None:
    edit(bundle_copy, format=99)
    assert "format 99" in str(refused(bundle_copy))


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
    bundle_copy: Path, section: str, entry: str | None, key: str
) -> None:
    manifest = json.loads((bundle_copy / MANIFEST).read_text())
    part = manifest[section] if entry is None else manifest[section][entry]
    del part[key]
    edit(bundle_copy, **manifest)
    error = refused(bundle_copy)
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
    bundle_copy: Path, change: Callable[[str], str], words: str
) -> None:
    text = (bundle_copy / MANIFEST).read_text()
    assert change(text) != text
    (bundle_copy / MANIFEST).write_text(change(text))
    assert words in str(refused(bundle_copy, "bundle_damaged"))


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
    bundle_copy: Path, keys: tuple[str, ...], value: Any, words: str
) -> None:
    manifest = json.loads((bundle_copy / MANIFEST).read_text())
    part = manifest
    for key in keys[:-1]:
        part = part[key]
    part[keys[-1]] = value
    (bundle_copy / MANIFEST).write_text(json.dumps(manifest))
    assert words in str(refused(bundle_copy, "bundle_damaged"))


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
def test_a_file_with_more_than_a_plain_name_is_unsafe(bundle_copy: Path, name: str) -> None:
    shutil.copy(
        bundle_copy / "audio.onnx", bundle_copy.parent
    )  # there, and with the right checksum
    edit_graph(bundle_copy, "audio", file=name)
    assert "names a file" in str(refused(bundle_copy, "bundle_unsafe"))


@pytest.mark.parametrize("file", ["audio.onnx", MANIFEST])
def test_a_link_that_leads_out_of_the_bundle_is_unsafe(bundle_copy: Path, file: str) -> None:
    (bundle_copy / file).rename(bundle_copy.parent / file)
    (bundle_copy / file).symlink_to(bundle_copy.parent / file)
    assert "leads out of the bundle" in str(refused(bundle_copy, "bundle_unsafe"))


def test_links_within_the_bundle_and_to_it_are_followed(bundle_copy: Path) -> None:
    (bundle_copy / "audio.onnx").rename(bundle_copy / "sound.onnx")
    (bundle_copy / "audio.onnx").symlink_to("sound.onnx")
    (bundle_copy.parent / "link").symlink_to(bundle_copy)
    assert load_bundle(bundle_copy.parent / "link").name == "default"


def test_a_link_to_itself_or_to_nothing_is_missing(bundle_copy: Path) -> None:
    (bundle_copy / "audio.onnx").unlink()
    (bundle_copy / "audio.onnx").symlink_to("audio.onnx")
    refused(bundle_copy, "bundle_missing")
    (bundle_copy / "audio.onnx").unlink()
    (bundle_copy / "audio.onnx").symlink_to("nothing.onnx")
    refused(bundle_copy, "bundle_missing")


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
    bundle_copy: Path, file: str, make: Callable[[Path], None]
) -> None:
    (bundle_copy / file).unlink()
    try:
        make(bundle_copy / file)
    except PermissionError:
        pytest.skip("making devices needs privileges")
    error = in_time(lambda: refused(bundle_copy))
    assert error.reason in ("bundle_unsafe", "bundle_missing")
    assert file in str(error)


def test_a_file_that_may_not_be_read_is_missing(bundle_copy: Path) -> None:
    (bundle_copy / "audio.onnx").chmod(0)
    if os.access(bundle_copy / "audio.onnx", os.R_OK):
        pytest.skip("nothing is forbidden to this user")
    assert "Permission denied" in str(refused(bundle_copy, "bundle_missing"))


@pytest.mark.parametrize("file", ["audio.onnx", MANIFEST])
def test_a_file_of_absurd_size_is_refused_before_it_is_read(bundle_copy: Path, file: str) -> None:
    with (bundle_copy / file).open("r+b") as hole:
        hole.truncate(1 << 40)  # takes no room
    error = in_time(lambda: refused(bundle_copy))
    assert error.reason == "bundle_unsafe"
    assert f"{file} is larger than" in str(error)


@pytest.mark.parametrize("name", ["x" * 5000, "a\0b", "", "\udcff"])
def test_names_that_no_folder_has_are_missing(name: str) -> None:
    with pytest.raises(AvfakeError) as caught:
        load_bundle(name)
    assert caught.value.reason == "bundle_missing"


def test_a_folder_that_lies_about_does_not_take_the_place_of_the_shipped_bundle(
    bundle_copy: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Whoever judges what a stranger packed, from within, must not get that stranger's models."""
    edit(bundle_copy, name="strangers")
    bundle_copy.rename(bundle_copy.with_name("default"))
    monkeypatch.chdir(bundle_copy.parent)
    assert load_bundle("default").name == load_bundle(Path("default")).name == "default"
    assert load_bundle("./default").name == "strangers"


def test_a_random_byte_changed_in_the_manifest_never_gives_a_traceback(bundle_copy: Path) -> None:
    random = np.random.default_rng(0)
    original = (bundle_copy / MANIFEST).read_bytes()
    reasons = []
    for _ in range(150):
        data = bytearray(original)
        data[random.integers(len(data))] = random.integers(256)
        (bundle_copy / MANIFEST).write_bytes(data)
        try:
            load_bundle(bundle_copy)
        except AvfakeError as error:
            reasons.append(error.reason)
    assert set(reasons) <= {"bundle_damaged", "bundle_missing", "bundle_unsafe"}
    assert len(reasons) > 75  # the rest are digits of the calibration, letters of the name
