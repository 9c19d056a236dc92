"""A face model of OpenCV's kind: it finds what OpenCV would, and a stranger's file does no harm."""

from __future__ import annotations

import os
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import cv2
import numpy as np
import onnxruntime
import pytest

from avfake.bundle import Bundle
from avfake.detector import Detector
from avfake.faces import YuNetFinder, find_near, load_finder, overlap
from avfake.types import AvfakeError
from tests.clips import grey_frames, write_clip
from tests.test_faces import scene

onnx = pytest.importorskip("onnx")
from onnx import TensorProto, helper, numpy_helper  # noqa: E402

PARTS = {"cls": 1, "obj": 1, "bbox": 4, "kps": 10}


def yunet(wide: int | str = "width", high: int | str = "height") -> Any:
    """A net of YuNet's inputs and outputs that takes what is white for a face of 32 pixels.

    Each place looks at the mean of its own square. Of the three grids only the finest sees a face.
    """
    nodes, weights, outputs = [], [], []

    def number(name: str, values: Any, kind: str = "float32") -> str:
        weights.append(numpy_helper.from_array(np.array(values, kind), name))
        return name

    for stride in (8, 16, 32):
        size = [stride, stride]
        mean = f"mean_{stride}"
        nodes.append(
            helper.make_node("AveragePool", ["input"], [mean], kernel_shape=size, strides=size)
        )
        for part, columns in PARTS.items():
            name = f"{part}_{stride}"
            brightness = 1 / 765 if part in ("cls", "obj") and stride == 8 else 0.0
            bias = [0.5, 0.5, np.log(4), np.log(4)] if part == "bbox" else [0.0] * columns
            slopes = number(f"{name}.w", np.full((columns, 3, 1, 1), brightness))
            number(f"{name}.b", bias)
            number(f"{name}.s", [1, -1, columns], "int64")
            nodes.append(helper.make_node("Conv", [mean, slopes, f"{name}.b"], [f"{name}.c"]))
            last = [f"{name}.t"]
            nodes.append(helper.make_node("Transpose", [f"{name}.c"], last, perm=[0, 2, 3, 1]))
            nodes.append(helper.make_node("Reshape", [*last, f"{name}.s"], [name]))
            outputs.append(helper.make_tensor_value_info(name, 1, [1, "places", columns]))
    taken = helper.make_tensor_value_info("input", 1, [1, 3, high, wide])
    graph = helper.make_graph(nodes, "yunet", [taken], outputs, weights)
    return helper.make_model(graph, opset_imports=[helper.make_opsetid("", 18)], ir_version=9)


def put(folder: Path, made: Any) -> Path:
    path = folder / "faces.onnx"
    path.write_bytes(made if isinstance(made, bytes) else made.SerializeToString())
    return path


def refused(path: Path, reason: str = "bad_face_model") -> str:
    with pytest.raises(AvfakeError) as caught:
        load_finder(str(path))
    assert caught.value.reason == reason, caught.value
    sentence = str(caught.value)
    assert str(path) in sentence
    assert sentence.isprintable()
    assert len(sentence) < 500 + len(str(path))
    return sentence


# What it finds


def white_square() -> np.ndarray:
    picture = np.zeros((320, 320, 3), np.uint8)
    picture[160:168, 80:88] = 255
    return picture


@pytest.mark.parametrize("fixed", [False, True])
def test_boxes_and_points_are_those_that_the_graph_tells(tmp_path: Path, fixed: bool) -> None:
    made = yunet(320, 320) if fixed else yunet()
    finder = YuNetFinder(put(tmp_path, made), side=320)
    (face,) = finder.find(white_square())
    assert face.score == pytest.approx(1.0)
    assert face.box.tolist() == pytest.approx([68, 148, 100, 180])
    assert face.points is not None
    assert face.points.tolist() == [pytest.approx([80, 160])] * 5
    (near,) = finder.find_as_is(white_square())
    assert near.box.tolist() == pytest.approx(face.box.tolist())


def test_a_picture_larger_than_a_graph_of_a_fixed_size_is_scaled(tmp_path: Path) -> None:
    finder = YuNetFinder(put(tmp_path, yunet(160, 320)), threshold=0.2)
    large = cv2.resize(white_square(), None, fx=2, fy=2, interpolation=cv2.INTER_NEAREST)
    for seen in (finder.find(large), finder.find_as_is(large)):
        (face,) = seen
        assert (face.box[:2] + face.box[2:]).tolist() == pytest.approx([336, 656], abs=20)


def test_the_same_face_seen_twice_is_one_and_far_ones_are_two(tmp_path: Path) -> None:
    finder = YuNetFinder(put(tmp_path, yunet()))
    picture = white_square()
    picture[160:168, 88:96] = 240  # fainter, beside it
    picture[40:48, 240:248] = 250
    faces = finder.find_as_is(picture)
    assert [face.box[0] for face in faces] == pytest.approx([68, 228])
    assert faces[0].score > faces[1].score > 0.9
    assert finder.find_as_is(picture // 3) == []


@pytest.mark.parametrize("shape", [(1, 4000), (33, 40), (300, 17)])
def test_pictures_of_odd_sizes_are_searched(tmp_path: Path, shape: tuple[int, int]) -> None:
    finder = YuNetFinder(put(tmp_path, yunet()))
    assert finder.find(np.zeros((*shape, 3), np.uint8)) == []


def model() -> Path:
    path = os.environ.get("AVFAKE_YUNET")
    if path is None:
        pytest.skip("AVFAKE_YUNET does not name a YuNet ONNX file")
    return Path(path)


def test_yunet_agrees_with_the_box_and_gives_points() -> None:
    """Needs the model file: it is not part of avfake."""
    finder = YuNetFinder(model())
    picture, truth = scene(1.2)
    (face,) = finder.find(picture)
    assert overlap(face.box, truth) > 0.85
    assert face.points is not None
    right_eye, left_eye, nose, right_mouth, left_mouth = face.points
    assert right_eye[0] < nose[0] < left_eye[0]
    assert right_mouth[0] < left_mouth[0]
    assert right_eye[1] < nose[1] < right_mouth[1]
    near = find_near(finder, picture, truth + 10)
    assert near is not None
    assert near.points is not None
    assert np.abs(near.points - face.points).max() < 8


@pytest.mark.parametrize("scale", [0.6, 1.0, 1.6, 2.3])
def test_yunet_finds_what_opencv_finds_with_it(scale: float) -> None:
    """Needs the model file, too. A picture of two faces, one mirrored."""
    above, _ = scene(scale)
    picture = np.concatenate([above, above[:, ::-1]])
    factor = 640 / max(picture.shape)
    small = cv2.resize(cv2.cvtColor(picture, cv2.COLOR_RGB2BGR), None, fx=factor, fy=factor)
    size = (small.shape[1], small.shape[0])
    _, rows = cv2.FaceDetectorYN.create(str(model()), "", size, 0.6, 0.3, 100).detect(small)
    rows = rows[np.argsort(-rows[:, 14])]
    faces = YuNetFinder(model()).find(picture)
    assert len(faces) == len(rows) == 2
    for face, row in zip(faces, rows, strict=True):
        assert face.score == pytest.approx(row[14], abs=1e-4)
        assert face.box * factor == pytest.approx(np.r_[row[:2], row[:2] + row[2:4]], abs=0.01)
        assert face.points is not None
        assert face.points.ravel() * factor == pytest.approx(row[4:14], abs=0.01)


# What is refused


@pytest.mark.parametrize("data", [b"", b"not a model", b"\0" * 1000, b"PK\x03\x04", b"\xff" * 99])
def test_what_is_no_onnx_is_no_face_model(tmp_path: Path, data: bytes) -> None:
    refused(put(tmp_path, data))


@pytest.mark.parametrize("share", [0.1, 0.5, 0.9, 0.999])
def test_a_file_cut_short_is_no_face_model(tmp_path: Path, share: float) -> None:
    data = yunet().SerializeToString()
    refused(put(tmp_path, data[: int(share * len(data))]))


def test_what_is_not_there_or_no_file_is_told_without_waiting(tmp_path: Path) -> None:
    assert "There is no file" in refused(tmp_path / "nobody.onnx", "no_face_model")
    assert "cannot be read" in refused(tmp_path, "no_face_model")
    os.mkfifo(tmp_path / "pipe.onnx")
    assert "no regular file" in refused(tmp_path / "pipe.onnx")


def test_a_huge_file_is_refused_before_it_is_read(tmp_path: Path) -> None:
    path = put(tmp_path, yunet())
    with path.open("r+b") as hole:
        hole.truncate(1 << 40)  # takes no room
    assert "larger than 16 MB" in refused(path)


def elsewhere(made: Any) -> None:
    tensor = made.graph.initializer[0]
    tensor.ClearField("raw_data")
    tensor.data_location = TensorProto.EXTERNAL
    tensor.external_data.add(key="location", value="../../etc/passwd")


def foreign(made: Any) -> None:
    made.graph.node[0].domain = "com.microsoft"


def looping(made: Any) -> None:
    made.graph.node[0].attribute.add(name="body", type=onnx.AttributeProto.GRAPH)
    made.graph.node[0].attribute[-1].g.name = "body"


def infinite(made: Any) -> None:
    made.graph.initializer[0].raw_data = np.array([np.nan, 0, 0], np.float32).tobytes()


@pytest.mark.parametrize(
    ("change", "words"),
    [
        (elsewhere, "holds a tensor that lies in another file"),
        (foreign, "not a standard operator"),
        (looping, "a graph inside of a graph"),
        (infinite, "no numbers"),
    ],
)
def test_a_graph_that_reaches_for_more_never_gets_as_far_as_onnxruntime(
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    change: Callable[[Any], None],
    words: str,
) -> None:
    made = yunet()
    change(made)
    monkeypatch.setattr(onnxruntime, "InferenceSession", None)
    assert words in refused(put(tmp_path, made))


def nameless(made: Any) -> None:
    made.graph.output[4].name = "\x1b[2J"


def missing(made: Any) -> None:
    del made.graph.output[-1]


def broad(made: Any) -> None:
    made.graph.output[0].type.tensor_type.shape.dim[2].dim_value = 2


def double(made: Any) -> None:
    made.graph.output[0].type.tensor_type.elem_type = TensorProto.DOUBLE


def grey(made: Any) -> None:
    made.graph.input[0].type.tensor_type.shape.dim[1].dim_value = 1


def bytewise(made: Any) -> None:
    made.graph.input[0].type.tensor_type.elem_type = TensorProto.UINT8


def flat(made: Any) -> None:
    del made.graph.input[0].type.tensor_type.shape.dim[3]


def endless(made: Any) -> None:
    made.graph.input[0].type.tensor_type.shape.dim[3].dim_value = 1 << 40


def uneven(made: Any) -> None:
    made.graph.input[0].type.tensor_type.shape.dim[3].dim_value = 100


def negative(made: Any) -> None:
    made.graph.input[0].type.tensor_type.shape.dim[3].dim_value = -32


def second(made: Any) -> None:
    made.graph.input.append(helper.make_tensor_value_info("more", 1, [1, 3, 32, 32]))


@pytest.mark.parametrize(
    ("change", "words"),
    [
        (nameless, "gives cls_16 as nothing"),
        (missing, "gives kps_32 as nothing"),
        (broad, "gives cls_8 as float32 [1, *, 2]"),
        (double, "gives cls_8 as float64 [1, *, 1]"),
        (grey, "takes float32 [1, 1, *, *], not float32 [*, 3, *, *]"),
        (bytewise, "takes uint8"),
        (flat, "takes float32 [1, 3, *],"),
        (endless, "takes float32 [1, 3, *, 1099511627776]"),
        (uneven, "takes float32 [1, 3, *, 100]"),
        (negative, "takes float32"),
        (second, "takes float32 [1, 3, *, *], float32 [1, 3, 32, 32], not"),
    ],
)
def test_a_graph_of_other_inputs_or_outputs_is_no_face_model(
    tmp_path: Path, change: Callable[[Any], None], words: str
) -> None:
    made = yunet()
    change(made)
    assert words in refused(put(tmp_path, made))


def test_a_good_model_of_another_kind_is_no_face_model(bundle: Bundle) -> None:
    refused(bundle.folder / "fusion.onnx")


def of_unknown_operators(made: Any) -> None:
    made.graph.node[0].op_type = "Nonsense"


def of_wrong_sums(made: Any) -> None:
    made.graph.initializer[2].raw_data = np.array([1, -1, 7], np.int64).tobytes()


def answering(made: Any, name: str, shape: list[int]) -> None:
    """Of the right type and promise, but `name` has `shape` whatever goes in."""
    node = next(node for node in made.graph.node if name in node.output)
    made.graph.initializer.append(
        numpy_helper.from_array(np.full(shape, 0.9, np.float32), f"{name}.fixed")
    )
    node.CopyFrom(helper.make_node("Identity", [f"{name}.fixed"], [name]))


@pytest.mark.parametrize(
    ("change", "words"),
    [
        (of_unknown_operators, "onnxruntime cannot load it"),
        (of_wrong_sums, "onnxruntime cannot run it"),
        (lambda made: answering(made, "cls_8", [1, 1, 1]), "cls_8 of shape [1, 1, 1]"),
        (lambda made: answering(made, "bbox_32", [1, 5, 4]), "bbox_32 of shape [1, 5, 4]"),
        (lambda made: answering(made, "kps_16", [1, 0, 10]), "kps_16 of shape [1, 0, 10]"),
    ],
)
def test_a_graph_that_does_not_answer_as_it_promises_is_no_face_model(
    tmp_path: Path, change: Callable[[Any], None], words: str
) -> None:
    """OpenCV reads as far as the answers should go, and so past the end of shorter ones."""
    made = yunet()
    change(made)
    assert words in refused(put(tmp_path, made))


def test_answers_that_are_too_short_only_for_other_pictures_are_told_then(tmp_path: Path) -> None:
    made = yunet()
    answering(made, "cls_8", [1, 64, 1])  # right for the picture that it is tried on
    finder = YuNetFinder(put(tmp_path, made))
    with pytest.raises(AvfakeError, match=r"cls_8 of shape \[1, 64, 1\]") as caught:
        finder.find_as_is(white_square())
    assert caught.value.reason == "bad_face_model"


@pytest.mark.filterwarnings("error")
@pytest.mark.parametrize("value", [3e38, -3e38, 1000.0])
def test_places_that_are_no_numbers_are_nobody(tmp_path: Path, value: float) -> None:
    made = yunet()
    (bias,) = (one for one in made.graph.initializer if one.name == "bbox_8.b")
    bias.raw_data = np.full(4, value, np.float32).tobytes()
    finder = YuNetFinder(put(tmp_path, made))
    for face in finder.find_as_is(white_square()):
        assert np.isfinite(face.box).all()


def predicted(model: Path, clip: Path) -> subprocess.CompletedProcess[str]:
    command = [sys.executable, "-m", "avfake.cli", "predict", "--face-model", str(model), str(clip)]
    return subprocess.run(command, capture_output=True, text=True, timeout=120)


@pytest.mark.parametrize("data", [b"not a model", None])
def test_the_command_says_one_sentence_and_the_libraries_nothing(
    tmp_path: Path, data: bytes | None
) -> None:
    wrong = yunet()
    of_wrong_sums(wrong)
    done = predicted(put(tmp_path, data or wrong), tmp_path / "nobody.mp4")
    assert done.returncode == 1
    assert done.stdout == ""
    (line,) = done.stderr.splitlines()
    assert line.startswith("avfake: ")
    assert line.endswith("[bad_face_model]")


def test_the_command_says_nothing_of_a_sound_one(tmp_path: Path) -> None:
    clip = write_clip(tmp_path / "grey.mp4", grey_frames([80] * 5))
    done = predicted(put(tmp_path, yunet()), clip)
    assert "no face found" in done.stdout
    assert done.stderr == ""


def test_a_detector_takes_it_like_any_finder(tmp_path: Path, bundle: Bundle) -> None:
    clip = write_clip(tmp_path / "white.mp4", grey_frames([80] * 5))
    detector = Detector(bundle, YuNetFinder(put(tmp_path, yunet())))
    assert detector.predict(clip).status == "abstain"
