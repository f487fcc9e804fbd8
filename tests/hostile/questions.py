"""Questions of all kinds to models whose answers numpy knows, in the words of every dialect."""

from __future__ import annotations

import gzip
import io
import json
import struct
import zlib
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from random import Random
from typing import Any, NamedTuple

import numpy as np
from onnx import TensorProto, helper, numpy_helper

from sluice.gateway.dialects.formats import bfloat16
from sluice.gateway.dialects.v2_grpc import inference_pb2 as pb
from sluice.inference.types import STORAGE, Array, Datatype
from tests import models
from tests.models import place

Arrays = dict[str, Array]

TYPES = (
    *(Datatype.FP32, Datatype.FP64, Datatype.FP16, Datatype.BF16, Datatype.INT8, Datatype.INT64, Datatype.UINT8),
    *(Datatype.UINT64, Datatype.BOOL, Datatype.BYTES),
)
TOKENS = 50
WIDENED = 2048
LABELS = ("no", 'may"be,[', "yes")
PADDED = """
[padding.inputs.ids]
buckets = [4, 8, 16, 64]

[padding.inputs.mask]
like = "ids"

[padding.outputs.logits]

"""
OBJECTIVE = "[batching]\nlatency_objective_ms = 40\n"
WORDS = (b"", b"a", b",", b'"],[', b"\\", "é".encode(), b"NaN", b"null", b"x" * 40, b"[1,2]", b"\n", b"{}")


class Question(NamedTuple):
    """What is asked of a model, and what the answer is. Versions differ in `versions`, by their number."""

    model: str
    inputs: Arrays
    outputs: Arrays
    types: Mapping[str, Datatype]
    exact: bool = True

    @property
    def rows(self) -> int:
        """How many rows it has."""
        return len(next(iter(self.inputs.values())))


class Call(NamedTuple):
    """A question in the words of a dialect, and how its answer is to be read."""

    target: str
    headers: dict[str, str]
    body: bytes
    read: Callable[[Mapping[str, str], bytes], tuple[str, Arrays]]


def scaled(factor: float) -> bytes:
    """float32[N,W] `x` -> float32[N,W] `y` = x times the factor: what it was made of shows in each answer."""
    graph = helper.make_graph(
        [helper.make_node("Mul", ["x", "factor"], ["y"])],
        "scaled",
        [helper.make_tensor_value_info("x", TensorProto.FLOAT, ["N", "W"])],
        [helper.make_tensor_value_info("y", TensorProto.FLOAT, ["N", "W"])],
        [numpy_helper.from_array(np.array([factor], np.float32), "factor")],
    )
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", models.OPSET)])
    model.ir_version = models.IR_VERSION
    serialized: bytes = model.SerializeToString()
    return serialized


def repository(folder: Path) -> Path:
    """The models that `question` asks. `swapped` is replaced while it is asked."""
    built: dict[str, tuple[bytes, str]] = {
        f"same_{each.lower()}": (models.identity(each, ["N", "W"]), "") for each in TYPES
    }
    built |= {
        "twofold": (models.two_in_two_out(), ""),
        "alone": (models.fixed_rows(), ""),
        "padded": (models.texts(TOKENS), PADDED),
        "labelled": (models.tiny(), "[labels]\ny = " + json.dumps(list(LABELS)) + "\n"),
        "widened": (models.widened(WIDENED), ""),
        "promised": (scaled(3.0), OBJECTIVE),
        "swapped": (scaled(1.0), ""),
    }
    for name, (model, config) in built.items():
        place(model, folder / name / "1")
        limits = "[workers]\ncount = 1\nintra_op_threads = 1\nrun_timeout_s = 5\n"
        (folder / name / "model.toml").write_text(config + limits)
    return folder


def question(chance: Random, factors: Sequence[float] = (1.0,), large_share: float = 0.1) -> Question:
    """Any question. Half of its rows are asked by others, too; some are large."""
    kind = chance.choice(
        ("same", "same", "same", "twofold", "alone", "padded", "labelled", "widened", "promised", "swapped")
    )
    size = int(2 ** (chance.uniform(14, 21.5) if chance.random() < large_share else chance.uniform(2, 12)))
    if kind in ("same", "promised", "swapped"):
        datatype = chance.choice(TYPES) if kind == "same" else Datatype.FP32
        element_bytes = 8 if datatype is Datatype.BYTES else STORAGE[datatype].itemsize
        elements = max(1, size // element_bytes)
        columns = chance.choice((1, 3, 16, 64, 1000, max(1, elements // 2)))
        rows = min(max(1, elements // columns), 1000)
        x = _rows(chance, datatype, rows, columns)
        name = f"same_{datatype.lower()}" if kind == "same" else kind
        y = x if kind == "same" else x * np.float32(3.0 if kind == "promised" else factors[0])
        return Question(name, {"x": x}, {"y": y}, {"x": datatype, "y": datatype})
    rows = min(max(1, size // 32), 1000)
    if kind == "twofold":
        a, b = _rows(chance, Datatype.FP32, rows, 4), _rows(chance, Datatype.INT64, rows, 2) // 2
        outputs = {"b_plus_one": b + 1, "a_doubled": a + a}
        types = dict.fromkeys(("a", "a_doubled"), Datatype.FP32) | dict.fromkeys(("b", "b_plus_one"), Datatype.INT64)
        return Question(kind, {"a": a, "b": b}, outputs, types)
    if kind == "alone":
        x = _rows(chance, Datatype.FP32, 1, 4)
        return Question(kind, {"x": x}, {"y": x + x}, {"x": Datatype.FP32, "y": Datatype.FP32})
    if kind == "padded":
        length = chance.choice((1, 3, 4, 5, 8, 9, 30, 64))
        rows = min(rows, 1000)
        ids = _pooled(chance, rows, lambda seed: np.random.default_rng(seed).integers(0, TOKENS, length))
        mask = (np.arange(length)[None, :] < 1 + ids[:, :1] % length).astype(np.int64)
        table = np.arange(1, 2 * TOKENS + 1, dtype=np.float32).reshape(TOKENS, 2)
        logits = table[ids]
        outputs = {"logits": logits, "pooled": (logits * mask[:, :, None]).sum(1, dtype=np.float32)}
        types = {"ids": Datatype.INT64, "mask": Datatype.INT64, "logits": Datatype.FP32, "pooled": Datatype.FP32}
        return Question(kind, {"ids": ids.astype(np.int64), "mask": mask}, outputs, types)
    if kind == "labelled":
        x = _rows(chance, Datatype.FP32, rows, 4)
        x = np.clip(np.nan_to_num(x, posinf=9, neginf=-9), -9, 9)
        weights = models._random(1, (4, 3))
        logits = (x @ weights).astype(np.float64)
        y = np.exp(logits - logits.max(1, keepdims=True))
        y = (y / y.sum(1, keepdims=True)).astype(np.float32)
        return Question(kind, {"x": x}, {"y": y}, {"x": Datatype.FP32, "y": Datatype.FP32}, exact=False)
    rows = min(rows, 600)
    x = _rows(chance, Datatype.FP32, rows, 1)
    return Question(kind, {"x": x}, {"y": np.repeat(x, WIDENED, 1)}, {"x": Datatype.FP32, "y": Datatype.FP32})


def _pooled(chance: Random, rows: int, make: Callable[[int], Array]) -> Array:
    """Rows, of which some come again and again."""
    common = chance.choice((3, 50, 1 << 31))
    if rows > 64 and common == 1 << 31:
        common = 4096
    made: dict[int, Array] = {}
    seeds = [chance.randrange(common) for _ in range(rows)]
    return np.stack([made[each] if each in made else made.setdefault(each, make(each)) for each in seeds])


def _rows(chance: Random, datatype: Datatype, rows: int, columns: int) -> Array:
    def make(seed: int) -> Array:
        draw = np.random.default_rng((seed, columns))
        if datatype is Datatype.BYTES:
            row = np.empty(columns, np.object_)
            row[:] = [WORDS[each] + b"%d" % (seed % 97) for each in draw.integers(0, len(WORDS), columns)]
            return row
        if datatype is Datatype.BOOL:
            return draw.integers(0, 2, columns).astype(np.bool_)
        if datatype is Datatype.BF16:
            return bfloat16.from_float64(draw.normal(size=columns) * 10.0 ** draw.integers(-5, 5))
        if STORAGE[datatype].kind == "f":
            return (draw.normal(size=columns) * 10.0 ** draw.integers(-3, 3)).astype(STORAGE[datatype])
        wide = draw.integers(0, 2**64, columns, dtype=np.uint64).astype(STORAGE[datatype])
        return np.where(draw.random(columns) < 0.5, wide, draw.integers(0, 100, columns).astype(wide.dtype))

    return _pooled(chance, rows, make)


def plain(array: Array, datatype: Datatype) -> Any:
    """An array as lists of what JSON has."""
    if datatype is Datatype.BF16:
        array = bfloat16.to_float32(array)
    if datatype is Datatype.BYTES:
        flat = [each.decode() for each in array.ravel().tolist()]
        return np.array([*flat, None], np.object_)[:-1].reshape(array.shape).tolist()
    if datatype is Datatype.FP32:
        return array.astype(np.float64).tolist()
    return array.tolist()


def unplain(values: Any, datatype: Datatype, shape: Sequence[int]) -> Array:
    """The array that was told in lists of what JSON has."""
    if datatype is Datatype.BYTES:
        items = [each.encode() for each in _flat(values)]
        out: Array = np.empty(len(items), np.object_)
        out[:] = items
        return out.reshape(shape)
    numbers: Array = np.array(values, np.float64 if datatype is Datatype.BF16 else STORAGE[datatype])
    if datatype is Datatype.BF16:
        return bfloat16.from_any_float64(numbers.ravel()).reshape(shape)
    return numbers.reshape(shape)


def _flat(values: Any) -> list[Any]:
    if not isinstance(values, list):
        return [values]
    out: list[Any] = []
    for each in values:
        out += _flat(each) if isinstance(each, list) else [each]
    return out


def raw_of(array: Array, datatype: Datatype) -> bytes:
    """An array as the binary extension has it."""
    if datatype is Datatype.BYTES:
        return b"".join([struct.pack("<I", len(each)) + each for each in array.ravel().tolist()])
    return array.tobytes()


def of_raw(content: bytes, datatype: Datatype, shape: Sequence[int]) -> Array:
    """The array that was told so."""
    if datatype is not Datatype.BYTES:
        return np.frombuffer(content, STORAGE[datatype]).reshape(shape)
    items, at = [], 0
    while at < len(content):
        (size,) = struct.unpack_from("<I", content, at)
        items.append(content[at + 4 : at + 4 + size])
        at += 4 + size
    out: Array = np.empty(len(items), np.object_)
    out[:] = items
    return out.reshape(shape)


def written(chance: Random, asked: Question) -> Call:
    """The question in some dialect over HTTP."""
    kinds = ["v2", "v2", "binary", "rows", "columns"]
    if len(asked.inputs) == 1 and asked.model != "alone":
        kinds += ["torchserve"]
        if asked.model == "same_fp32":
            kinds += ["sagemaker", "csv", "npy"]
    kind = chance.choice(kinds)
    headers = {"Content-Type": "application/json"}
    call = _WAYS[kind](chance, asked, headers)
    target, body, read = call
    if chance.random() < 0.25:
        if chance.random() < 0.5:
            headers["Content-Encoding"], body = "gzip", gzip.compress(body, 1)
        else:
            headers["Content-Encoding"], body = "deflate", zlib.compress(body, 1)
    headers["Accept-Encoding"] = "gzip" if chance.random() < 0.3 else "identity"
    if chance.random() < 0.2:
        headers["Cache-Control"] = chance.choice(("no-store", "no-cache"))
    return Call(target, headers, body, read)


_Way = tuple[str, bytes, Callable[[Mapping[str, str], bytes], tuple[str, Arrays]]]


def _dumped(chance: Random, value: Any) -> bytes:
    style = chance.random()
    if style < 0.6:
        return json.dumps(value, separators=(",", ":"), ensure_ascii=chance.random() < 0.5).encode()
    return json.dumps(value, indent=1 if style > 0.9 else None).encode()


def _v2(chance: Random, asked: Question, headers: dict[str, str]) -> _Way:
    inputs = []
    for name, array in asked.inputs.items():
        shaped = array if chance.random() < 0.4 else array.ravel()
        inputs.append(
            {
                "name": name,
                "shape": list(array.shape),
                "datatype": asked.types[name],
                "data": plain(shaped, asked.types[name]),
            }
        )
    body: dict[str, Any] = {"inputs": inputs}
    if chance.random() < 0.3:
        body["parameters"] = {"binary_data_output": True}
    if chance.random() < 0.3:
        body["id"] = f"{chance.getrandbits(30)}"
    if chance.random() < 0.3:
        names = list(asked.outputs)
        body["outputs"] = [{"name": name} for name in chance.sample(names, chance.randint(1, len(names)))]
    return f"/v2/models/{asked.model}/infer", _dumped(chance, body), _read_v2(asked, body.get("id"))


def _binary(chance: Random, asked: Question, headers: dict[str, str]) -> _Way:
    inputs, tail = [], b""
    for name, array in asked.inputs.items():
        raw = raw_of(array, asked.types[name])
        inputs.append(
            {
                "name": name,
                "shape": list(array.shape),
                "datatype": asked.types[name],
                "parameters": {"binary_data_size": len(raw)},
            }
        )
        tail += raw
    head = json.dumps({"inputs": inputs, "parameters": {"binary_data_output": chance.random() < 0.5}}).encode()
    headers["Inference-Header-Content-Length"] = str(len(head))
    headers["Content-Type"] = "application/octet-stream"
    return f"/v2/models/{asked.model}/infer", head + tail, _read_v2(asked, None)


def _read_v2(asked: Question, id_: Any) -> Callable[[Mapping[str, str], bytes], tuple[str, Arrays]]:
    def read(headers: Mapping[str, str], body: bytes) -> tuple[str, Arrays]:
        length = int(headers.get("Inference-Header-Content-Length", len(body)))
        head, tail = json.loads(body[:length]), body[length:]
        assert head["model_name"] == asked.model, head["model_name"]
        assert head.get("id") == id_, (head.get("id"), id_)
        found, at = {}, 0
        for each in head["outputs"]:
            assert each["datatype"] == asked.types[each["name"]]
            datatype, shape = asked.types[each["name"]], each["shape"]
            size = (each.get("parameters") or {}).get("binary_data_size")
            if size is None:
                found[each["name"]] = unplain(each["data"], datatype, shape)
            else:
                found[each["name"]] = of_raw(tail[at : at + size], datatype, shape)
                at += size
        assert at == len(tail)
        return str(head.get("model_version")), found

    return read


def _rows_of_tfs(chance: Random, asked: Question, headers: dict[str, str]) -> _Way:
    told = {name: plain(array, asked.types[name]) for name, array in asked.inputs.items()}
    if len(told) == 1 and chance.random() < 0.7:
        (rows,) = told.values()
    else:
        rows = [dict(zip(told, row, strict=True)) for row in zip(*told.values(), strict=True)]
    return f"/v1/models/{asked.model}:predict", _dumped(chance, {"instances": rows}), _read_rows(asked, "predictions")


def _columns(chance: Random, asked: Question, headers: dict[str, str]) -> _Way:
    told: Any = {name: plain(array, asked.types[name]) for name, array in asked.inputs.items()}
    if len(told) == 1 and chance.random() < 0.7:
        (told,) = told.values()
    body = _dumped(chance, {"signature_name": "serving_default", "inputs": told})

    def read(_: Mapping[str, str], content: bytes) -> tuple[str, Arrays]:
        outputs = json.loads(content)["outputs"]
        if len(asked.outputs) == 1:
            outputs = {next(iter(asked.outputs)): outputs}
        return "", {name: unplain(outputs[name], asked.types[name], _shape(outputs[name])) for name in outputs}

    return f"/v1/models/{asked.model}:predict", body, read


def _shape(value: Any) -> list[int]:
    shape = []
    while isinstance(value, list):
        shape.append(len(value))
        value = value[0] if value else None
    return shape


def _read_rows(asked: Question, member: str) -> Callable[[Mapping[str, str], bytes], tuple[str, Arrays]]:
    def read(_: Mapping[str, str], content: bytes) -> tuple[str, Arrays]:
        rows = json.loads(content)
        rows = rows[member] if member else rows
        names = list(asked.outputs)
        columns = {names[0]: rows} if len(names) == 1 else {name: [row[name] for row in rows] for name in names}
        return "", {name: unplain(told, asked.types[name], _shape(told)) for name, told in columns.items()}

    return read


def _torchserve(chance: Random, asked: Question, headers: dict[str, str]) -> _Way:
    (name,) = asked.inputs
    body = _dumped(chance, plain(asked.inputs[name], asked.types[name]))
    if asked.model == "labelled":
        return f"/predictions/{asked.model}", body, _read_labels
    return f"/predictions/{asked.model}", body, _read_rows(asked, "")


def _read_labels(_: Mapping[str, str], content: bytes) -> tuple[str, Arrays]:
    rows = json.loads(content)
    for row in rows:
        assert list(row.values()) == sorted(row.values(), reverse=True)
    return "", {"y": np.array([[row[label] for label in LABELS] for row in rows], np.float32)}


def _sagemaker(chance: Random, asked: Question, headers: dict[str, str]) -> _Way:
    return "/invocations", _dumped(chance, plain(asked.inputs["x"], asked.types["x"])), _read_rows(asked, "")


def _csv(chance: Random, asked: Question, headers: dict[str, str]) -> _Way:
    headers["Content-Type"] = "text/csv"
    lines = [",".join(map(repr, row)) for row in plain(asked.inputs["x"], asked.types["x"])]
    body = chance.choice(("\n", "\r\n")).join(lines).encode()
    if chance.random() < 0.5:
        return "/invocations", body, _read_rows(asked, "")
    headers["Accept"] = "text/csv"

    def read(_: Mapping[str, str], content: bytes) -> tuple[str, Arrays]:
        rows = [[float(each) for each in line.split(",")] for line in content.decode().splitlines()]
        return "", {"y": np.array(rows, np.float32)}

    return "/invocations", body, read


def _npy(chance: Random, asked: Question, headers: dict[str, str]) -> _Way:
    headers["Content-Type"] = "application/x-npy"
    out = io.BytesIO()
    np.save(out, asked.inputs["x"])
    headers["Accept"] = "application/x-npy"
    return "/invocations", out.getvalue(), lambda _, content: ("", {"y": np.load(io.BytesIO(content))})


_WAYS: Mapping[str, Callable[[Random, Question, dict[str, str]], _Way]] = {
    "v2": _v2,
    "binary": _binary,
    "rows": _rows_of_tfs,
    "columns": _columns,
    "torchserve": _torchserve,
    "sagemaker": _sagemaker,
    "csv": _csv,
    "npy": _npy,
}

_CONTENTS = {
    Datatype.FP32: "fp32_contents",
    Datatype.FP64: "fp64_contents",
    Datatype.INT8: "int_contents",
    Datatype.INT64: "int64_contents",
    Datatype.UINT8: "uint_contents",
    Datatype.UINT64: "uint64_contents",
    Datatype.BOOL: "bool_contents",
    Datatype.BYTES: "bytes_contents",
}


def message(chance: Random, asked: Question, id_: str) -> Any:
    """The question as a message of gRPC."""
    told = pb.ModelInferRequest(model_name=asked.model, id=id_)
    raw = chance.random() < 0.6 or any(asked.types[name] not in _CONTENTS for name in asked.inputs)
    for name, array in asked.inputs.items():
        tensor = told.inputs.add(name=name, datatype=asked.types[name], shape=list(array.shape))
        if raw:
            told.raw_input_contents.append(raw_of(array, asked.types[name]))
        else:
            getattr(tensor.contents, _CONTENTS[asked.types[name]]).extend(array.ravel().tolist())
    return told


def read_message(asked: Question, answer: Any, id_: str) -> tuple[str, Arrays]:
    """What a message says."""
    assert (answer.model_name, answer.id) == (asked.model, id_), (answer.model_name, answer.id, id_)
    found = {}
    for place_, each in enumerate(answer.outputs):
        datatype = asked.types[each.name]
        assert each.datatype == datatype
        if answer.raw_output_contents:
            found[each.name] = of_raw(answer.raw_output_contents[place_], datatype, list(each.shape))
        else:
            values = list(getattr(each.contents, _CONTENTS[datatype]))
            if datatype is Datatype.BYTES:
                array: Array = np.empty(len(values), np.object_)
                array[:] = values
                found[each.name] = array.reshape(list(each.shape))
            else:
                found[each.name] = np.array(values, STORAGE[datatype]).reshape(list(each.shape))
    return answer.model_version, found


def differs(asked: Question, found: Arrays, factors: Sequence[float] = ()) -> str | None:
    """What is wrong about an answer, if anything is. One of `swapped` may be any factor's."""
    for name, array in found.items():
        wanted = asked.outputs[name]
        if asked.model == "swapped":
            if any(_equal(asked.inputs["x"] * np.float32(each), array, exact=True) for each in factors):
                continue
            return f"{name} is of none of {factors}: {array.ravel()[:4]} of {asked.inputs['x'].ravel()[:4]}"
        if not _equal(wanted, array, exact=asked.exact):
            if wanted.shape != array.shape:
                return f"{name} has the shape {array.shape}, not {wanted.shape}"
            places = np.argwhere(wanted != array)
            first = tuple(places[0]) if len(places) else ()
            return f"{name} differs at {len(places)} places, first {first}: {array[first]!r}, not {wanted[first]!r}"
    return None if found else "no outputs"


def _equal(one: Array, other: Array, *, exact: bool) -> bool:
    if one.shape != other.shape or one.dtype != other.dtype:
        return False
    if not exact:
        return bool(np.allclose(one, other, rtol=1e-4, atol=1e-6))
    if one.dtype.kind == "f":
        return bool(np.array_equal(one, other, equal_nan=True))
    return bool(np.array_equal(one, other))
