"""A graph that reaches for more than its own bytes never gets as far as onnxruntime."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

import numpy as np
import pytest

onnx = pytest.importorskip("onnx")
from onnx import TensorProto, helper, numpy_helper  # noqa: E402

import avfake.graphs  # noqa: E402
from avfake.bundle import GRAPHS, OPTIONAL, Bundle  # noqa: E402
from avfake.graphs import KINDS, Graph, Value, read_graph  # noqa: E402
from avfake.types import AvfakeError  # noqa: E402

WEIGHT = np.array([1.0, 2.0, 3.0], np.float32)


def weight(values: Any = WEIGHT, name: str = "weight") -> Any:
    return numpy_helper.from_array(np.asarray(values), name)


def elsewhere() -> Any:
    """A tensor whose numbers lie in another file."""
    tensor = TensorProto(name="weight", data_type=TensorProto.FLOAT, dims=[3])
    tensor.data_location = TensorProto.EXTERNAL
    tensor.external_data.add(key="location", value="/etc/passwd")
    return tensor


def model(
    nodes: Sequence[Any] | None = None, weights: Sequence[Any] | None = None, **more: Any
) -> Any:
    """x [batch, 3] and weight -> y [batch, 3]."""
    nodes = [helper.make_node("Mul", ["x", "weight"], ["y"])] if nodes is None else nodes
    weights = [weight()] if weights is None else weights
    x, y = (helper.make_tensor_value_info(n, TensorProto.FLOAT, ["batch", 3]) for n in "xy")
    graph = helper.make_graph(nodes, "graph", [x], [y], weights, **more)
    return helper.make_model(graph, opset_imports=[helper.make_opsetid("", 18)])


def read(made: Any) -> Graph:
    data = made if isinstance(made, bytes) else made.SerializeToString()
    return read_graph(data, "some.onnx")


def refused(made: Any, reason: str = "bundle_unsafe") -> str:
    with pytest.raises(AvfakeError) as caught:
        read(made)
    assert caught.value.reason == reason, caught.value
    sentence = str(caught.value)
    assert sentence.startswith("some.onnx ")
    assert sentence.isprintable()
    assert len(sentence) < 300
    return sentence


def varint(number: int) -> bytes:
    low = number & 0x7F
    return bytes([low | 0x80]) + varint(number >> 7) if number > 0x7F else bytes([low])


def field(number: int, payload: bytes, wire: int = 2) -> bytes:
    """One field as protobuf writes it."""
    length = varint(len(payload)) if wire == 2 else b""
    return varint(number << 3 | wire) + length + payload


def model_of(graph: bytes) -> bytes:
    """A model around a graph of these bytes."""
    return field(7, graph) + field(8, field(2, b"\x12", 0))


# What is sound is read as `onnx` reads it


def seen_by_onnx(data: bytes) -> Graph:
    graph = onnx.load_model_from_string(data).graph
    inner = {tensor.name for tensor in graph.initializer}

    def values(infos: Any) -> dict[str, Value]:
        return {
            info.name: Value(
                KINDS[info.type.tensor_type.elem_type],
                tuple(
                    d.dim_value if d.HasField("dim_value") else None
                    for d in info.type.tensor_type.shape.dim
                ),
            )
            for info in infos
            if info.name not in inner
        }

    return Graph(values(graph.input), values(graph.output))


@pytest.mark.parametrize("name", [*GRAPHS, *OPTIONAL])
def test_the_shipped_graphs_are_read_as_onnx_reads_them(bundle: Bundle, name: str) -> None:
    data = bundle.data[name]
    assert read_graph(data, name) == seen_by_onnx(data)


def test_inputs_and_outputs_are_told_with_their_free_axes() -> None:
    wanted = Value("float32", (None, 3))
    assert read(model()) == Graph({"x": wanted}, {"y": wanted})
    assert str(wanted) == "float32 [*, 3]"


def test_a_weight_that_is_also_listed_as_an_input_is_none() -> None:
    made = model()
    made.graph.input.append(helper.make_tensor_value_info("weight", TensorProto.FLOAT, [3]))
    assert set(read(made).inputs) == {"x"}


@pytest.mark.parametrize("kind", sorted(set(KINDS.values())))
def test_every_kind_of_number_is_read(kind: str) -> None:
    made = model(weights=[weight(), weight(np.zeros((2, 3), kind), "other")])
    assert read(made) == read(model())


def test_an_empty_tensor_and_packed_sizes_are_read() -> None:
    made = model(weights=[weight(), weight(np.zeros((0, 4), np.float32), "none")])
    assert read(made) == read(model())
    packed = field(1, b"\x03") + field(2, b"\x01", 0) + field(9, WEIGHT.tobytes())
    graph = model(weights=[]).graph.SerializeToString() + field(5, packed)
    assert onnx.TensorProto.FromString(packed).dims == [3]
    whole = model_of(graph)
    assert set(read(whole).outputs) == {"y"}


# What reaches outside of the file


def constant() -> Any:
    return model(
        [
            helper.make_node("Constant", [], ["inner"], value=elsewhere()),
            helper.make_node("Mul", ["x", "inner"], ["y"]),
        ],
        [],
    )


def listed() -> Any:
    node = helper.make_node("Mul", ["x", "weight"], ["y"])
    attribute = onnx.AttributeProto(name="list", type=onnx.AttributeProto.TENSORS)
    attribute.tensors.append(elsewhere())
    node.attribute.append(attribute)
    return model([node])


def branch(tensor: Any) -> Any:
    """An If, one of whose branches holds a tensor."""
    out = helper.make_tensor_value_info("z", TensorProto.FLOAT, [3])
    node = helper.make_node("Constant", [], ["z"], value=tensor)
    inner = helper.make_graph([node], "inner", [], [out])
    return model(
        [
            helper.make_node("If", ["yes"], ["z"], then_branch=inner, else_branch=inner),
            helper.make_node("Mul", ["x", "z"], ["y"]),
        ],
        [weight(np.array(True), "yes")],
    )


def sparse(tensor: Any) -> Any:
    made = model()
    entry = made.graph.sparse_initializer.add(dims=[3])
    entry.values.CopyFrom(tensor)
    entry.indices.CopyFrom(weight(np.arange(3), "at"))
    return made


def sparse_attribute() -> Any:
    node = helper.make_node("Constant", [], ["inner"])
    attribute = node.attribute.add(name="sparse_value", type=onnx.AttributeProto.SPARSE_TENSOR)
    attribute.sparse_tensor.dims.append(3)
    attribute.sparse_tensor.values.CopyFrom(elsewhere())
    return model([node, helper.make_node("Mul", ["x", "inner"], ["y"])], [])


def function(tensor: Any) -> Any:
    node = helper.make_node("Constant", [], ["z"], value=tensor)
    made = model()
    made.functions.append(
        helper.make_function("mine", "F", [], ["z"], [node], [helper.make_opsetid("", 18)])
    )
    return made


def training() -> Any:
    made = model()
    made.training_info.add().initialization.initializer.append(elsewhere())
    return made


@pytest.mark.parametrize(
    ("make", "words"),
    [
        (lambda: model(weights=[elsewhere()]), "a tensor that lies in another file"),
        (constant, "a tensor that lies in another file"),
        (listed, "a tensor that lies in another file"),
        (lambda: branch(elsewhere()), "a graph inside of a graph"),
        (lambda: sparse(elsewhere()), "sparse tensors"),
        (sparse_attribute, "a sparse tensor"),
        (lambda: function(elsewhere()), "functions of its own"),
        (training, "steps of a training"),
    ],
)
def test_data_in_other_files_is_refused_wherever_it_hides(
    make: Callable[[], Any], words: str
) -> None:
    assert words in refused(make())


def test_a_mark_of_external_data_alone_is_refused_and_so_is_an_address_alone() -> None:
    marked, addressed = elsewhere(), elsewhere()
    marked.ClearField("external_data")
    addressed.ClearField("data_location")
    for tensor in (marked, addressed):
        assert "another file" in refused(model(weights=[tensor]))


@pytest.mark.parametrize("domain", ["com.microsoft", "ai.onnx.ml", "mine"])
def test_operators_of_other_domains_are_refused(domain: str) -> None:
    made = model([helper.make_node("Mul", ["x", "weight"], ["y"], domain=domain)])
    assert f"'Mul' of '{domain}'" in refused(made)
    imported = model()
    imported.opset_import.append(helper.make_opsetid(domain, 1))
    assert domain in refused(imported)


def test_the_standard_domain_has_two_names() -> None:
    node = helper.make_node("Mul", ["x", "weight"], ["y"], domain="ai.onnx")
    assert read(model([node])) == read(model())


def test_loops_are_refused() -> None:
    """They need not end."""
    values = [
        helper.make_tensor_value_info(name, kind, [])
        for name, kind in (("i", TensorProto.INT64), ("on", TensorProto.BOOL))
    ]
    again = helper.make_node("Identity", ["on"], ["go"])
    go = helper.make_tensor_value_info("go", TensorProto.BOOL, [])
    body = helper.make_graph([again], "body", values, [go])
    assert "a graph inside" in refused(model([helper.make_node("Loop", ["", "on"], [], body=body)]))


def test_strings_are_refused() -> None:
    text = helper.make_tensor("weight", TensorProto.STRING, [1], [b"text"])
    assert "a tensor of strings" in refused(model(weights=[text]))


def test_numbers_that_do_not_lie_as_they_are_exported_are_refused() -> None:
    """In a list of their own field rather than as plain bytes."""
    listed = helper.make_tensor("weight", TensorProto.FLOAT, [3], [1.0, 2.0, 3.0])
    assert listed.float_data
    assert "field 4 of its tensor" in refused(model(weights=[listed]))


def test_kinds_of_numbers_that_are_not_known_are_refused() -> None:
    for kind in (TensorProto.COMPLEX64, TensorProto.BFLOAT16, 99):
        tensor = TensorProto(name="weight", data_type=kind, dims=[1], raw_data=b"\0" * 8)
        assert f"kind {kind}" in refused(model(weights=[tensor]))


# Weights


@pytest.mark.parametrize("kind", ["float16", "float32", "float64"])
@pytest.mark.parametrize("value", [np.nan, np.inf, -np.inf])
def test_weights_that_are_no_numbers_are_damage(kind: str, value: float) -> None:
    bad = np.array([1.0, value, 3.0]).astype(kind)
    assert "'weight'" in refused(model(weights=[weight(bad)]), "bundle_damaged")
    inner = helper.make_node("Constant", [], ["weight"], value=weight(bad))
    refused(model([inner, helper.make_node("Mul", ["x", "weight"], ["y"])], []), "bundle_damaged")


def test_one_infinite_number_may_stand_for_no_bound_but_nan_for_nothing() -> None:
    assert read(model(weights=[weight(np.float32(-np.inf))]))
    refused(model(weights=[weight(np.float32(np.nan))]), "bundle_damaged")


@pytest.mark.parametrize("dims", [[4], [2], [3, 2], [], [-1], [1 << 40, 1 << 40], [-3, -1]])
def test_a_shape_that_its_bytes_do_not_fill_is_damage(dims: list[int]) -> None:
    tensor = TensorProto(name="weight", data_type=1, dims=dims, raw_data=WEIGHT.tobytes())
    assert "12 bytes" in refused(model(weights=[tensor]), "bundle_damaged")


# Bytes that are no model, or that other parsers read otherwise


@pytest.mark.parametrize(
    "data",
    [
        *(b"", b"\0", b"\0" * 1000, b"not a graph", b"\xff" * 1000, b"{}", b"PK\x03\x04"),
        b"\x80" * 20,  # a number without end
        b"\x18\0\0\0ORTM" + b"\0" * 100,  # onnxruntime's own format
        b"\x08\x80\x80\x80ORTM" + b"\0" * 100,  # and so that it looks like protobuf at first
        b"\x3a\xff\xff\xff\xff\xff\xff\xff\xff\xff\x01",  # a graph of 2**64 - 1 bytes
        b"\x3a\x0c" + b"\x0a" * 3,  # one that is cut off
    ],
)
def test_what_is_no_model_is_damage(data: bytes) -> None:
    refused(data, "bundle_damaged")


def test_a_model_cut_short_anywhere_is_refused(bundle: Bundle) -> None:
    data = bundle.data["fusion"]
    for end in range(len(data)):
        with pytest.raises(AvfakeError):
            read(data[:end])


def test_a_second_graph_is_refused_where_protobuf_would_merge_it_into_the_first() -> None:
    hidden = onnx.GraphProto()
    hidden.initializer.append(elsewhere())
    data = model().SerializeToString() + field(7, hidden.SerializeToString())
    assert len(onnx.ModelProto.FromString(data).graph.initializer) == 2
    assert "twice" in refused(data)


def test_a_second_mark_on_a_tensor_is_refused_where_the_last_would_hold() -> None:
    tensor = weight().SerializeToString() + field(14, b"\0", 0) + field(14, b"\1", 0)
    data = model(weights=[]).graph.SerializeToString() + field(5, tensor)
    assert "twice" in refused(model_of(data))


@pytest.mark.parametrize("wire", [0, 1, 3, 4, 5, 6, 7])
def test_fields_of_another_wire_type_are_refused_where_protobuf_would_skip_them(wire: int) -> None:
    tensor = weight().SerializeToString() + field(9, b"\0" * 8, wire)
    data = model(weights=[]).graph.SerializeToString() + field(5, tensor)
    refused(model_of(data))


@pytest.mark.parametrize("number", [3, 99, 5000])
def test_fields_that_are_not_known_are_refused(number: int) -> None:
    graph = model().graph.SerializeToString() + field(number, b"new")
    assert f"field {number} of its graph" in refused(model_of(graph))


def test_a_file_of_countless_parts_is_refused_before_all_are_read(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(avfake.graphs, "MAX_FIELDS", 1000)
    assert "more than 1,000 parts" in refused(model_of(b"\x0a\x00" * 2000))


def test_a_tensor_of_countless_axes_is_refused() -> None:
    tensor = TensorProto(name="weight", data_type=1, dims=[1] * 17, raw_data=b"\0" * 4)
    assert "16 axes" in refused(model(weights=[tensor]))


def test_names_of_strangers_are_written_out() -> None:
    bad = weight(np.array([np.nan, 1], np.float32), "\x1b[2J\u202e" + "x" * 500)
    assert r"\x1b[2J\u202e" in refused(model(weights=[bad]), "bundle_damaged")


def holds_more(message: Any) -> bool:
    """Whether `onnx` finds anything in a message that must not be there."""
    for descriptor, value in message.ListFields():
        if descriptor.name in ("external_data", "sparse_initializer", "functions", "g", "graphs"):
            return True
        if descriptor.name == "data_location" and value:
            return True
        if descriptor.name == "domain" and message.DESCRIPTOR.name == "NodeProto" and value:
            return value != "ai.onnx"
        if descriptor.message_type is not None:
            parts = [value] if hasattr(value, "ListFields") else value
            if any(holds_more(part) for part in parts):
                return True
    return False


def test_of_bytes_turned_at_random_what_is_read_is_harmless_to_onnx_too() -> None:
    """4,000 mutations of models that hold data elsewhere, and of one that does not."""
    random = np.random.default_rng(0)
    makers = [model, constant, listed, lambda: sparse(weight()), lambda: function(weight())]
    originals = [make().SerializeToString() for make in makers]
    read_of = 0
    for turn in range(4000):
        data = bytearray(originals[turn % len(originals)])
        for at in random.integers(0, len(data), random.integers(1, 4)):
            data[at] = random.integers(0, 256)
        try:
            read(bytes(data))
        except AvfakeError:
            continue
        read_of += 1
        assert not holds_more(onnx.ModelProto.FromString(bytes(data))), bytes(data)
    assert read_of > 100  # else nothing was compared
