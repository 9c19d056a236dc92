"""Finding faces in one picture: a small protocol and its backends.

All backends answer in one box convention, so that crops look alike whichever found the face: tight,
from the middle of the forehead to the chin and from ear to ear (YuNet's). What a backend's own
boxes look like is its own affair.
"""

from __future__ import annotations

import threading
from pathlib import Path
from typing import Protocol

import cv2
import dlib
import numpy as np
import onnxruntime

from avfake.bundle import Bundle, first_line, load_bundle, open_session, read_file
from avfake.graphs import Graph, read_graph
from avfake.types import AvfakeError, Detection


class FaceFinder(Protocol):
    """What the tracker needs of a face finder."""

    name: str

    def find(self, picture: np.ndarray) -> list[Detection]:
        """Faces in uint8 RGB [h, w, 3], best first, searched for at the finder's own sizes.

        Boxes are in that picture's pixels.
        """
        ...

    def find_as_is(self, picture: np.ndarray) -> list[Detection]:
        """The same, for a small picture in which a face of about 96 px is expected."""
        ...


class BundledFinder:
    """The bundle's own small net, distilled from YuNet (`training.finder`).

    Sees faces from about 24 px at 640 px, in profile and rolled as well as frontal ones, in a few
    milliseconds. One picture is too little work to share among cores, so it keeps to one.
    """

    name = "bundled"

    _SMALLEST = 20  # pixels: it was not taught about smaller faces, and may see them in any leaf
    _STRIDE = 32  # a picture's sides must be multiples of the net's coarsest grid
    _LIKELY = 0.6  # share of the threshold that is asked for where a face is expected

    def __init__(self, session: onnxruntime.InferenceSession, side: int, threshold: float) -> None:
        self._session = session
        self._side = side
        self._threshold = threshold

    @classmethod
    def of(cls, bundle: Bundle) -> BundledFinder:
        """Raises AvfakeError `bundle_missing` or `bundle_damaged`, naming the file."""
        facts = bundle.graph("finder")
        session = bundle.session("finder", threads=1)
        return cls(session, int(facts["side"]), float(facts["threshold"]))

    def find(self, picture: np.ndarray) -> list[Detection]:
        factor = min(self._side / max(picture.shape[:2]), 2.0)
        if _too_thin(picture, factor):
            return []
        way = cv2.INTER_AREA if factor < 1 else cv2.INTER_LINEAR
        small = cv2.resize(picture, None, fx=factor, fy=factor, interpolation=way)
        return [
            Detection(face.box / factor, face.score, _scaled(face.points, 1 / factor))
            for face in self._find_at(small, self._threshold)
        ]

    def find_as_is(self, picture: np.ndarray) -> list[Detection]:
        return self._find_at(picture, self._LIKELY * self._threshold)

    def _find_at(self, picture: np.ndarray, threshold: float) -> list[Detection]:
        bottom, right = (-side % self._STRIDE for side in picture.shape[:2])
        padded = cv2.copyMakeBorder(picture, 0, bottom, 0, right, cv2.BORDER_CONSTANT)
        logit, places = self._session.run(["logit", "places"], {"pictures": padded[None]})
        found = pick(1 / (1 + np.exp(-logit[0])), places[0], threshold)
        return [face for face in found if min(face.box[2:] - face.box[:2]) >= self._SMALLEST]


def pick(score: np.ndarray, places: np.ndarray, threshold: float) -> list[Detection]:
    """The faces among a net's answers, best first.

    score: float [n] in [0, 1]; places: float [n, 14], a box and 5 points in pixels each. An answer
    that overlaps a better one by more than 0.3 (IoU) is about the same face and is dropped; those
    that agree with it by more than 0.5 have a say, by the square of their score, in where it is
    (box voting, Gidaris and Komodakis 2015): a face is seen from some ten places at once.
    """
    rows = np.flatnonzero(score >= threshold)
    rows = rows[np.argsort(-score[rows], kind="stable")]
    score, places = score[rows], places[rows]
    found = []
    while len(score):
        shares = _overlaps(places[0, :4], places[:, :4])
        agree = shares > 0.5
        agree[0] = True
        where = np.average(places[agree], axis=0, weights=score[agree] ** 2).astype(np.float32)
        found.append(Detection(where[:4], float(score[0]), where[4:].reshape(5, 2)))
        others = shares <= 0.3
        others[0] = False
        score, places = score[others], places[others]
    return found


def _overlaps(box: np.ndarray, others: np.ndarray) -> np.ndarray:
    """Intersection over union of `box` [4] with each of `others` [n, 4]."""
    sides = np.minimum(box[2:], others[:, 2:]) - np.maximum(box[:2], others[:, :2])
    both = sides.clip(min=0).prod(1)
    areas = (others[:, 2:] - others[:, :2]).prod(1)
    return both / np.maximum((box[2:] - box[:2]).prod() + areas - both, 1e-9)


def _scaled(points: np.ndarray | None, factor: float) -> np.ndarray | None:
    return None if points is None else points * factor


class DlibFinder:
    """dlib's frontal HOG detector (King 2015), tried at growing sizes until a face is found.

    HOG sees faces of about 80 px and more: at 640 px it misses the people in many phone-portrait
    clips, at 1280 px it finds them but takes ten times as long; so the larger sizes are only for
    pictures where the smaller found nobody.
    """

    name = "dlib"

    # dlib's square box -> the common box, in shares of its side: shift right, shift down, width,
    # height. Medians over talking clips against YuNet; one row a view (front, left profile, right
    # profile, rolled left, rolled right), because profile boxes sit off-centre.
    # Printed by benchmarks/faces.py.
    _TO_COMMON = (
        (0.000, -0.082, 0.918, 1.239),
        (0.085, -0.023, 0.882, 1.155),
        (-0.127, -0.030, 0.862, 1.156),
        (-0.042, -0.072, 0.922, 1.199),  # rolled faces are few: both sides as one, mirrored
        (0.042, -0.072, 0.922, 1.199),
    )
    _BORDER = 0.1  # a face cut off by the picture's edge is found once the picture has a border

    _SURE, _LIKELY = 0.0, -0.3  # scores asked for anywhere, and where a face is expected

    def __init__(self, sides: tuple[int, ...] = (640, 960, 1280)) -> None:
        self._detector = dlib.get_frontal_face_detector()
        self._lock = threading.Lock()  # dlib's detector keeps its pyramid inside
        self._sides = sides

    def find(self, picture: np.ndarray) -> list[Detection]:
        grey = cv2.cvtColor(picture, cv2.COLOR_RGB2GRAY)
        longest = max(grey.shape)
        for side in self._sides:
            factor = min(side / longest, 4.0)
            found = self._find_at(grey, factor, self._SURE)
            if found or factor == 4.0:
                return found
        return []

    def find_as_is(self, picture: np.ndarray) -> list[Detection]:
        return self._find_at(cv2.cvtColor(picture, cv2.COLOR_RGB2GRAY), 1.0, self._LIKELY)

    def _find_at(self, grey: np.ndarray, factor: float, threshold: float) -> list[Detection]:
        if _too_thin(grey, factor):
            return []
        way = cv2.INTER_AREA if factor < 1 else cv2.INTER_LINEAR
        small = cv2.resize(grey, None, fx=factor, fy=factor, interpolation=way)
        edge = round(self._BORDER * max(small.shape))
        small = cv2.copyMakeBorder(small, edge, edge, edge, edge, cv2.BORDER_REPLICATE)
        with self._lock:
            rectangles, scores, views = self._detector.run(small, 0, threshold)
        found = []
        for rectangle, score, view in zip(rectangles, scores, views, strict=True):
            side = float(rectangle.width())
            right, down, width, height = self._TO_COMMON[int(view)]
            x = (rectangle.left() + rectangle.right()) / 2 + right * side - edge
            y = (rectangle.top() + rectangle.bottom()) / 2 + down * side - edge
            box = np.array(
                [
                    x - width * side / 2,
                    y - height * side / 2,
                    x + width * side / 2,
                    y + height * side / 2,
                ],
                np.float32,
            )
            found.append(Detection(box / factor, float(1 / (1 + np.exp(-2 * score)))))
        return found


class YuNetFinder:
    """YuNet (Wu et al. 2023) from an ONNX file as OpenCV's model zoo has it, not quantised.

    Finds what OpenCV's FaceDetectorYN does. That is not used, because the file may be a stranger's:
    it believes a graph that its answers are as long as they should be, and reads past their end
    where they are not.
    """

    name = "yunet"

    _LARGEST = 1 << 24  # bytes; YuNet has 0.2 MB
    _STRIDES = (8, 16, 32)  # pixels between two places that the net looks at
    _PARTS = (("cls", 1), ("obj", 1), ("bbox", 4), ("kps", 10))  # a row a place
    _OVERLAP, _MOST = 0.3, 100  # of two faces (IoU); candidates that are compared

    def __init__(self, model: Path, side: int = 640, threshold: float = 0.6) -> None:
        """Raises AvfakeError `no_face_model` (it cannot be read) or `bad_face_model`."""
        self._model = model
        self._side = side
        self._threshold = threshold
        self._outputs = {f"{part}_{s}": n for s in self._STRIDES for part, n in self._PARTS}
        try:
            data = read_file(model, self._LARGEST)
            graph = read_graph(data, str(model))
        except AvfakeError as error:
            missing = error.reason == "bundle_missing"
            raise AvfakeError(
                "no_face_model" if missing else "bad_face_model", str(error)
            ) from None
        self._input, self._fixed = self._signature(graph)
        try:
            self._session = open_session(data, threads=1)
        except Exception as error:  # onnxruntime's own exceptions share no narrower base class
            raise self._bad(f"onnxruntime cannot load it: {first_line(error)}") from error
        self._find_at(np.zeros((64, 64, 3), np.uint8), 1.0)

    def find(self, picture: np.ndarray) -> list[Detection]:
        return self._find_at(picture, min(self._side / max(picture.shape[:2]), 2.0))

    def find_as_is(self, picture: np.ndarray) -> list[Detection]:
        return self._find_at(picture, 1.0)

    def _signature(self, graph: Graph) -> tuple[str, tuple[int | None, int | None]]:
        """The input's name, and the height and width that it must have, None where it is free."""
        for name, columns in self._outputs.items():
            value = graph.outputs.get(name)
            if value is None or value.kind != "float32" or value.shape[2:] != (columns,):
                raise self._bad(f"it gives {name} as {value or 'nothing'}")
        values = list(graph.inputs.items())
        if len(values) == 1 and values[0][1].kind == "float32" and len(values[0][1].shape) == 4:
            ((name, value),) = values
            batch, channels, height, width = value.shape
            sides = all(s is None or (32 <= s <= 4096 and s % 32 == 0) for s in (height, width))
            if batch in (None, 1) and channels == 3 and sides:
                return name, (height, width)
        given = ", ".join(str(value) for _, value in values)[:200] or "nothing"
        raise self._bad(f"it takes {given}, not float32 [*, 3, *, *]")

    def _bad(self, why: str) -> AvfakeError:
        return AvfakeError("bad_face_model", f"{self._model} is no YuNet face model: {why}.")

    def _find_at(self, picture: np.ndarray, factor: float) -> list[Detection]:
        for most, length in zip(self._fixed, picture.shape[:2], strict=True):
            factor = factor if most is None else min(factor, most / length)
        if _too_thin(picture, factor):
            return []
        small = cv2.resize(cv2.cvtColor(picture, cv2.COLOR_RGB2BGR), None, fx=factor, fy=factor)
        score, places = self._look(small)
        rows = np.flatnonzero((score >= self._threshold) & np.isfinite(places).all(1))
        score, places = score[rows], places[rows]
        # As OpenCV does it: boxes in whole pixels are compared.
        best = cv2.dnn.NMSBoxes(
            np.trunc(places[:, :4]).tolist(),
            score.tolist(),
            self._threshold,
            self._OVERLAP,
            top_k=self._MOST,
        )
        found = []
        for row in np.asarray(best, int).ravel():
            x, y, w, h = places[row, :4] / factor
            found.append(
                Detection(
                    np.array([x, y, x + w, y + h], np.float32),
                    float(score[row]),
                    (places[row, 4:] / factor).reshape(5, 2).astype(np.float32),
                )
            )
        return found

    def _look(self, small: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        """Of uint8 BGR [h, w, 3]: scores [n], and places [n, 14]: x, y, width, height, 5 points."""
        height, width = (
            length + -length % 32 if most is None else most
            for most, length in zip(self._fixed, small.shape[:2], strict=True)
        )
        padded = np.zeros((1, 3, height, width), np.float32)
        padded[0, :, : small.shape[0], : small.shape[1]] = small.transpose(2, 0, 1)
        try:
            answers = self._session.run(list(self._outputs), {self._input: padded})
        except Exception as error:  # as above
            raise self._bad(f"onnxruntime cannot run it: {first_line(error)}") from error
        parts = dict(zip(self._outputs, answers, strict=True))
        scores, places = [], []
        for stride in self._STRIDES:
            down, right = height // stride, width // stride
            for part, columns in self._PARTS:
                name = f"{part}_{stride}"
                if parts[name].shape != (1, down * right, columns):
                    raise self._bad(f"it gives {name} of shape {list(parts[name].shape)}")
            sure, seen, bbox, kps = (parts[f"{part}_{stride}"][0] for part, _ in self._PARTS)
            scores.append(np.sqrt(sure.clip(0, 1) * seen.clip(0, 1))[:, 0])
            corner = np.stack(np.meshgrid(np.arange(right), np.arange(down)), -1).reshape(-1, 2)
            with np.errstate(over="ignore", invalid="ignore"):  # such places are left out
                sides = np.exp(bbox[:, 2:])
                lefts_and_tops = bbox[:, :2] + corner - sides / 2
                points = kps + np.tile(corner, 5)
                whole = np.concatenate([lefts_and_tops, sides, points], 1) * stride
                places.append(whole.astype(np.float32))
        return np.concatenate(scores), np.concatenate(places)


def load_finder(name: str | None = None, bundle: Bundle | None = None) -> FaceFinder:
    """The finder called `name`: None for the bundle's own (dlib where it has none), "dlib", or the
    path of a YuNet ONNX file. `bundle`: the default one unless given.

    Raises AvfakeError where a file is missing, damaged or no face model, and names it.
    """
    if name is None:
        bundle = bundle or load_bundle()
        return BundledFinder.of(bundle) if bundle.has("finder") else DlibFinder()
    if name == "dlib":
        return DlibFinder()
    return YuNetFinder(Path(name))


def find_near(finder: FaceFinder, picture: np.ndarray, box: np.ndarray) -> Detection | None:
    """The face that `box` (in the picture's pixels) is about, searched for only round it.

    A search window of 2.2 faces, scaled so that the face is about 96 px, costs a tenth of a
    search of the whole picture and sees small faces as well as large ones.
    """
    x, y = (box[0] + box[2]) / 2, (box[1] + box[3]) / 2
    size = float(box[2] - box[0] + box[3] - box[1]) / 2
    height, width = picture.shape[:2]
    left, top = max(0, round(x - 1.1 * size)), max(0, round(y - 1.1 * size))
    right, bottom = min(width, round(x + 1.1 * size)), min(height, round(y + 1.1 * size))
    if right - left < 16 or bottom - top < 16:
        return None
    factor = 96 / size
    way = cv2.INTER_AREA if factor < 1 else cv2.INTER_LINEAR
    window = cv2.resize(
        picture[top:bottom, left:right], None, fx=factor, fy=factor, interpolation=way
    )
    best: Detection | None = None
    for seen in finder.find_as_is(window):
        moved = seen.box / factor + np.array([left, top, left, top], np.float32)
        if overlap(moved, box) > 0.3 and (best is None or seen.score > best.score):
            points = seen.points
            if points is not None:
                points = points / factor + np.array([left, top], np.float32)
            best = Detection(moved, seen.score, points)
    return best


def _too_thin(picture: np.ndarray, factor: float) -> bool:
    """Whether nothing is left of a picture at that scale, as of one of 4000x2 pixels."""
    return min(picture.shape[:2]) * factor < 1


def overlap(one: np.ndarray, other: np.ndarray) -> float:
    """Intersection over union of two boxes."""
    width = min(one[2], other[2]) - max(one[0], other[0])
    height = min(one[3], other[3]) - max(one[1], other[1])
    if width <= 0 or height <= 0:
        return 0.0
    both = float(width * height)
    areas = (one[2] - one[0]) * (one[3] - one[1]) + (other[2] - other[0]) * (other[3] - other[1])
    return both / (float(areas) - both)
