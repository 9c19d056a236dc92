"""What an ONNX file holds, looked at before onnxruntime is let near it.

    graph = read_graph(data, "visual.onnx")
    graph.inputs  # {"faces": Value("uint8", (None, 128, 128, 3))}

The graph of a bundle is a plain list of standard operators over numbers that it carries itself,
as `training.export` writes it. All else is refused: tensors that lie in other files, operators of
other domains, functions, graphs inside of graphs (with them loops, which need not end), sparse
tensors, strings, fields that are not known here. Nothing is skipped that could hold any of these:
types of inner values and notes (`value_info`, `metadata_props`, doc strings) are all that is not
looked into.

The reader is our own because the `onnx` package would add 29 MB to an installation and 0.4 s to
the start of every command (0.5 s without it), and because a reader that knows only what is allowed
cannot overlook what is not. It reads protobuf's wire format
(https://protobuf.dev/programming-guides/encoding/) as onnxruntime's parser does, or refuses:
groups, a field of another wire type than the schema's, and a single field that is given twice,
which other parsers skip or merge. Tests compare it with `onnx`.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, NoReturn

import numpy as np

from avfake.terminal import visible
from avfake.types import AvfakeError

MAX_FIELDS = 1_000_000
"""Fields of a file that are read before it is refused; the shipped graphs have up to 4,400."""
MAX_AXES = 16
DOMAINS = ("", "ai.onnx")  # two names for the standard operators
KINDS = {
    1: "float32",
    2: "uint8",
    3: "int8",
    4: "uint16",
    5: "int16",
    6: "int32",
    7: "int64",
    9: "bool",
    10: "float16",
    11: "float64",
    12: "uint32",
    13: "uint64",
}
"""ONNX's numbers of element types that are read -> numpy's names."""

_VARINT, _BYTES, _FIXED32 = 0, 2, 5


@dataclass(frozen=True)
class Value:
    """An input or output: numpy's name of its type, and its shape, None where an axis is free."""

    kind: str
    shape: tuple[int | None, ...]

    def __str__(self) -> str:
        return f"{self.kind} [{', '.join('*' if s is None else str(s) for s in self.shape)}]"


@dataclass(frozen=True)
class Graph:
    """What a graph takes and gives, by name."""

    inputs: Mapping[str, Value]
    outputs: Mapping[str, Value]


@dataclass(frozen=True)
class _Field:
    """A field that is allowed: its wire types, and whether it may come more than once."""

    name: str
    wires: tuple[int, ...]
    many: bool = False


def _number(name: str) -> _Field:
    return _Field(name, (_VARINT,))


def _bytes(name: str, many: bool = False) -> _Field:
    return _Field(name, (_BYTES,), many)


# Field numbers are those of onnx.proto (https://github.com/onnx/onnx/blob/main/onnx/onnx.proto).
_ALLOWED: dict[str, dict[int, _Field]] = {
    "model": {
        1: _number("ir_version"),
        2: _bytes("producer_name"),
        3: _bytes("producer_version"),
        4: _bytes("domain"),
        5: _number("model_version"),
        6: _bytes("doc_string"),
        7: _bytes("graph"),
        8: _bytes("opset_import", many=True),
        14: _bytes("metadata_props", many=True),
    },
    "opset": {1: _bytes("domain"), 2: _number("version")},
    "graph": {
        1: _bytes("node", many=True),
        2: _bytes("name"),
        5: _bytes("initializer", many=True),
        10: _bytes("doc_string"),
        11: _bytes("input", many=True),
        12: _bytes("output", many=True),
        13: _bytes("value_info", many=True),
        16: _bytes("metadata_props", many=True),
    },
    "node": {
        1: _bytes("input", many=True),
        2: _bytes("output", many=True),
        3: _bytes("name"),
        4: _bytes("op_type"),
        5: _bytes("attribute", many=True),
        6: _bytes("doc_string"),
        7: _bytes("domain"),
        9: _bytes("metadata_props", many=True),
    },
    "attribute": {
        1: _bytes("name"),
        2: _Field("f", (_FIXED32,)),
        3: _number("i"),
        4: _bytes("s"),
        5: _bytes("t"),
        7: _Field("floats", (_FIXED32, _BYTES), many=True),
        8: _Field("ints", (_VARINT, _BYTES), many=True),
        9: _bytes("strings", many=True),
        10: _bytes("tensors", many=True),
        13: _bytes("doc_string"),
        20: _number("type"),
    },
    "tensor": {
        1: _Field("dims", (_VARINT, _BYTES), many=True),
        2: _number("data_type"),
        8: _bytes("name"),
        9: _bytes("raw_data"),
        12: _bytes("doc_string"),
        14: _number("data_location"),
        16: _bytes("metadata_props", many=True),
    },
    "value": {
        1: _bytes("name"),
        2: _bytes("type"),
        3: _bytes("doc_string"),
        4: _bytes("metadata_props", many=True),
    },
    "type": {1: _bytes("tensor_type"), 6: _bytes("denotation")},
    "tensor type": {1: _number("elem_type"), 2: _bytes("shape")},
    "shape": {1: _bytes("dim", many=True)},
    "axis": {1: _number("dim_value"), 2: _bytes("dim_param"), 3: _bytes("denotation")},
}
_REFUSED = {
    ("model", 20): "steps of a training",
    ("model", 25): "functions of its own",
    ("graph", 15): "sparse tensors",
    ("attribute", 6): "a graph inside of a graph",
    ("attribute", 11): "graphs inside of a graph",
    ("attribute", 21): "the attribute of a function",
    ("attribute", 22): "a sparse tensor",
    ("attribute", 23): "sparse tensors",
    ("tensor", 13): "a tensor that lies in another file",
    ("tensor", 6): "a tensor of strings",
}
"""What is told by its name; any other field that is not allowed, by its number."""


def read_graph(data: bytes, name: str) -> Graph:
    """Check all of an ONNX file and return what it takes and gives; `name` is for messages.

    Raises AvfakeError `bundle_damaged` (it is no ONNX, is cut short, or weights are NaN or
    infinite) or `bundle_unsafe` (it holds more than a bundle's graph may).
    """
    return _Reader(name).model(memoryview(data))


class _Reader:
    """One file on its way through the checks."""

    def __init__(self, name: str) -> None:
        self._name = name
        self._left = MAX_FIELDS

    def model(self, data: memoryview) -> Graph:
        model = self._message(data, "model")
        if "graph" not in model or "opset_import" not in model:
            self._damaged("is no ONNX model")
        for part in model["opset_import"]:
            self._standard(self._message(part, "opset"))
        return self._graph(self._message(model["graph"], "graph"))

    def _graph(self, graph: dict[str, Any]) -> Graph:
        for part in graph.get("node", ()):
            self._node(part)
        weights = {self._tensor(part) for part in graph.get("initializer", ())}
        inputs = self._values(graph.get("input", ()))
        outputs = self._values(graph.get("output", ()))
        # A weight may be listed among the inputs, as a value that they have unless told otherwise.
        return Graph({n: v for n, v in inputs.items() if n not in weights}, outputs)

    def _node(self, data: memoryview) -> None:
        node = self._message(data, "node")
        self._standard(node)
        for part in node.get("attribute", ()):
            attribute = self._message(part, "attribute")
            if "t" in attribute:
                self._tensor(attribute["t"])
            for tensor in attribute.get("tensors", ()):
                self._tensor(tensor)

    def _standard(self, part: dict[str, Any]) -> None:
        domain = _text(part.get("domain", b""))
        if domain not in DOMAINS:
            what = _text(part["op_type"]) if "op_type" in part else "operators"
            self._unsafe(f"uses {_quoted(what)} of {_quoted(domain)}, not a standard operator")

    def _tensor(self, data: memoryview) -> str:
        """Check one tensor; return its name."""
        tensor = self._message(data, "tensor")
        name = _text(tensor.get("name", b""))
        if tensor.get("data_location", 0) != 0:
            self._unsafe(f"holds {_REFUSED['tensor', 13]}")
        kind = KINDS.get(tensor.get("data_type", 0))
        if kind is None:
            self._unsafe(f"holds a tensor of kind {tensor.get('data_type')}, which is not read")
        dims = self._dims(tensor.get("dims", ()))
        raw = tensor.get("raw_data", b"")
        if math.prod(dims) * np.dtype(kind).itemsize != len(raw):
            self._damaged(
                f"holds {len(raw)} bytes for {_quoted(name)}, which is {Value(kind, dims)}"
            )
        if kind.startswith("float"):
            self._finite(np.frombuffer(raw, np.dtype(kind).newbyteorder("<")), name)
        return name

    def _finite(self, numbers: np.ndarray, name: str) -> None:
        # A single infinite number is how a graph writes "no bound" or "never look there".
        bad = np.isnan(numbers).any() if numbers.size == 1 else not np.isfinite(numbers).all()
        if bad:
            self._damaged(f"has weights that are no numbers (NaN or infinite) in {_quoted(name)}")

    def _dims(self, parts: Any) -> tuple[int, ...]:
        dims: list[int] = []
        for part in parts:
            if isinstance(part, int):
                dims.append(part)
                continue
            at = 0
            while at < len(part) and len(dims) <= MAX_AXES:
                number, at = self._varint(part, at)
                dims.append(number)
        if len(dims) > MAX_AXES:
            self._unsafe(f"holds a tensor of more than {MAX_AXES} axes")
        return tuple(dims)  # a negative one is huge here, and no file is as long

    def _values(self, parts: Any) -> dict[str, Value]:
        values = {}
        for part in parts:
            value = self._message(part, "value")
            name = _text(value.get("name", b""))
            if name in values:
                self._damaged(f"has two inputs or outputs {_quoted(name)}")
            values[name] = self._value(value, name)
        return values

    def _value(self, value: dict[str, Any], name: str) -> Value:
        kind = self._message(value.get("type", memoryview(b"")), "type")
        tensor = self._message(kind.get("tensor_type", memoryview(b"")), "tensor type")
        if "shape" not in tensor or tensor.get("elem_type") not in KINDS:
            self._damaged(f"does not tell type and shape of {_quoted(name)}")
        axes = [
            self._message(part, "axis").get("dim_value")
            for part in self._message(tensor["shape"], "shape").get("dim", ())
        ]
        return Value(KINDS[tensor["elem_type"]], tuple(axes))

    def _message(self, data: memoryview, what: str) -> dict[str, Any]:
        """The fields of one message by name: a value, or a list of those that may be many."""
        allowed = _ALLOWED[what]
        found: dict[str, Any] = {}
        at, end = 0, len(data)
        while at < end:
            self._left -= 1
            if self._left < 0:
                self._unsafe(f"has more than {MAX_FIELDS:,} parts")
            tag, at = self._varint(data, at)
            number, wire = tag >> 3, tag & 7
            field = allowed.get(number)
            if field is None or wire not in field.wires:
                self._refuse(what, number)
            value: int | memoryview
            if wire == _VARINT:
                value, at = self._varint(data, at)
            else:
                size = 4
                if wire == _BYTES:
                    size, at = self._varint(data, at)
                if size > end - at:
                    self._damaged("is cut short, or no ONNX model")
                value, at = data[at : at + size], at + size
            if field.many:
                found.setdefault(field.name, []).append(value)
            elif field.name in found:
                self._unsafe(f"gives {field.name} of its {what} twice")
            else:
                found[field.name] = value
        return found

    def _varint(self, data: memoryview, at: int) -> tuple[int, int]:
        """An unsigned number of up to 64 bits, and where it ends."""
        number = shift = 0
        while at < len(data) and shift < 64:
            byte = data[at]
            at += 1
            number |= (byte & 0x7F) << shift
            if byte < 0x80:
                return number & 0xFFFFFFFFFFFFFFFF, at
            shift += 7
        self._damaged("is cut short, or no ONNX model")

    def _refuse(self, what: str, number: int) -> NoReturn:
        if (what, number) in _REFUSED:
            self._unsafe(f"holds {_REFUSED[what, number]}")
        if what == "model":  # anything at all, read as protobuf
            self._damaged("is no ONNX model")
        self._unsafe(f"holds what is not read here: field {number} of its {what}")

    def _unsafe(self, predicate: str) -> NoReturn:
        raise AvfakeError("bundle_unsafe", f"{self._name} {predicate}: it is not run.")

    def _damaged(self, predicate: str) -> NoReturn:
        raise AvfakeError("bundle_damaged", f"{self._name} {predicate}.")


def _text(data: memoryview | bytes) -> str:
    return bytes(data).decode("utf-8", "replace")


def _quoted(text: str) -> str:
    return f"'{visible(text[:60])}'"
