"""Requests of every dialect whose structure is wrong, odd or at its limits: what a hostile client would send.

`bodies` makes them without end, from a seed. Each begins as a valid request for one of `MODELS` and is changed a few
times: types, nesting, names, numbers, members that are missing, superfluous or there twice, and headers. Many stay
valid. Nothing is sent anywhere, and no body is larger than some 100 KB: whoever imports this decides what becomes
of a case.

    for case in itertools.islice(bodies(seed=7), 1000):
        answer = call(case.method, case.target, case.headers, case.body)

Every model gives its input `x` back as its output `y`, so that it can be said whether an answer is right.
`model_file` has them as ONNX; a case of the protocol `grpc` has a serialized `ModelInferRequest` as its body, and an
empty target.
"""

from __future__ import annotations

import base64
import io
import json
import random
from collections.abc import Callable, Iterator, Mapping, Sequence
from typing import Any, NamedTuple

import numpy as np

from sluice.gateway.dialects.v2_grpc import inference_pb2 as pb
from sluice.inference.types import Datatype
from tests import models

MODELS: Mapping[str, tuple[Datatype, tuple[int | str, ...]]] = {
    "floats": (Datatype.FP32, ("N", 3)),
    "doubles": (Datatype.FP64, ("N", "W")),
    "halves": (Datatype.FP16, ("N", 2)),
    "integers": (Datatype.INT64, ("N", 2)),
    "small": (Datatype.INT8, ("N",)),
    "unsigned": (Datatype.UINT64, ("N", "W")),
    "truths": (Datatype.BOOL, ("N", 2)),
    "texts": (Datatype.BYTES, ("N", 2)),
    "cube": (Datatype.FP32, ("N", 2, "W")),
    "fixed": (Datatype.FP32, (2, 3)),
}
"""By name: what `x` and `y` are. `N` is the axis of rows; `fixed` has none, and is not batched."""

PROTOCOLS = ("v2", "v2-binary", "tfs", "tfs-examples", "torchserve", "sagemaker", "multipart", "csv", "npy", "grpc")


class Case(NamedTuple):
    """One request: where it goes, and what it is. `seed` and `number` make it again."""

    protocol: str
    model: str
    method: str
    target: str
    headers: tuple[tuple[bytes, bytes], ...]
    body: bytes
    seed: int
    number: int


class Text(str):
    """Text that stands in the JSON as it is, quotes or none."""


class Members(list[tuple[Any, Any]]):
    """An object whose members may have one name."""


def model_file(name: str) -> bytes:
    """A model of `MODELS` as ONNX."""
    datatype, axes = MODELS[name]
    return models.identity(datatype, axes)


def bodies(seed: int, protocols: Sequence[str] = PROTOCOLS) -> Iterator[Case]:
    """Cases without end, the same ones for the same seed; each number of a seed is made independently of the others."""
    number = 0
    while True:
        yield case_of(seed, number, protocols)
        number += 1


def case_of(seed: int, number: int, protocols: Sequence[str] = PROTOCOLS) -> Case:
    """The case of a seed with this number."""
    chance = random.Random(f"{seed} {number}")
    protocol, model = chance.choice(protocols), chance.choice(list(MODELS))
    made = _MAKERS[protocol](chance, model)
    return Case(protocol, model, *made, seed, number)


Made = tuple[str, str, tuple[tuple[bytes, bytes], ...], bytes]

NUMBERS = (
    *("0", "-0", "-1", "1", "2", "127", "128", "-129", "255", "256", "65504", "65520", "16777217", "2147483648"),
    *("9007199254740993", "9223372036854775807", "9223372036854775808", "-9223372036854775809", "18446744073709551615"),
    *("18446744073709551616", "1" + "0" * 40, "1" + "0" * 400, "9" * 5000, "-" + "9" * 5000, "0.1", "1e2", "1E+2"),
    *("1e308", "1.8e308", "-1e400", "1e-400", "1e99999999999", "3.4028236e38", "1.0", "-0.0", "0.5e0"),
)
BROKEN = (
    "NaN",
    "-Infinity",
    "Infinity",
    "01",
    "1.",
    ".5",
    "+1",
    "0x1",
    "1_0",
    "--1",
    "nul",
    "tru",
    "",
    "[",
    "}",
    "1 2",
)
STRINGS = (
    *(
        '""',
        '"x"',
        '"y"',
        '"\\u0000"',
        '"\\ud800"',
        '"\\udc00\\ud800"',
        '"\\ud83d\\ude00"',
        '"é"',
        '"' + "a" * 300 + '"',
    ),
    *('"\\u005b"', '"[0],"', '"\\""', '"FP32"', '"BYTES"', '"INT64"', '"fp32"', '"NaN"', '"AAAA"', '"A"', '"\x01"'),
)
OTHERS = (
    "null",
    "true",
    "false",
    "[]",
    "{}",
    "[[]]",
    "[{}]",
    "[null]",
    '{"b64": "AAAA"}',
    '{"b64": "A"}',
    '{"b64": 1}',
)
NAMES = (
    *("id", "parameters", "outputs", "inputs", "name", "shape", "datatype", "data", "x", "y", "instances", "examples"),
    *("context", "signature_name", "timeout", "priority", "binary_data_size", "binary_data", "binary_data_output"),
    *("classification", "shared_memory_region", "b64", "", "\x00", "é", "sequence_id"),
)


def _odd(chance: random.Random) -> Any:
    kind = chance.random()
    if kind < 0.45:
        return Text(chance.choice(NUMBERS))
    if kind < 0.55:
        return Text(chance.choice(BROKEN))
    if kind < 0.7:
        return Text(chance.choice(STRINGS))
    if kind < 0.93:
        return Text(chance.choice(OTHERS))
    depth = chance.choice((2, 33, 65, 130, 1100, 30_000))
    opening, closing = chance.choice((("[", "]"), ('{"a":', "}")))
    return Text(opening * depth + chance.choice(("", "0", "{}")) + closing * depth)


def _changed(chance: random.Random, tree: Any, times: int) -> Any:
    for _ in range(times):
        place, key = _any_place(chance, tree)
        if place is None or chance.random() < 0.02:
            tree = chance.choice((_odd(chance), [tree], tree))
        else:
            _change(chance, place, key)
    return tree


def _any_place(chance: random.Random, tree: Any) -> tuple[Any, int]:
    """A list or an object of the tree, and the number of an entry of it."""
    place, key = None, 0
    while isinstance(tree, list) and tree:
        place, key = tree, chance.randrange(len(tree))
        tree = tree[key][1] if isinstance(tree, Members) else tree[key]
        if chance.random() < 0.25:
            break
    return place, key


def _change(chance: random.Random, place: Any, key: int) -> None:
    named = isinstance(place, Members)
    name, value = place[key] if named else (None, place[key])
    kind = chance.randrange(9)
    if kind in (0, 1, 2):
        value = _odd(chance)
    elif kind == 3:
        value = [value]
    elif kind == 4 and isinstance(value, list) and value and not isinstance(value, Members):
        value = value[0]
    elif kind == 5:
        del place[key]
        return
    elif kind == 6:
        place.insert(key, place[chance.randrange(len(place))])
        return
    elif kind == 7 and named:
        name = chance.choice(NAMES)
    elif kind == 8 and named:
        place.insert(chance.randrange(len(place) + 1), (chance.choice(NAMES), _odd(chance)))
        return
    elif kind == 8:
        place += [place[key]] * chance.choice((1, 2, 5) if isinstance(value, list) else (1, 2, 50, 5000))
        return
    place[key] = (name, value) if named else value


def written(chance: random.Random, tree: Any) -> str:
    """The tree as JSON, with white space now and then."""
    if isinstance(tree, Text):
        return str(tree)
    if isinstance(tree, Members):
        pairs = [f"{json.dumps(name)}:{written(chance, value)}" for name, value in tree]
        return "{" + (", " if chance.random() < 0.2 else ",").join(pairs) + "}"
    if isinstance(tree, list):
        return "[" + (" ,\n" if chance.random() < 0.05 else ",").join([written(chance, each) for each in tree]) + "]"
    return json.dumps(tree)


def _bytes_of(chance: random.Random, tree: Any) -> bytes:
    text = written(chance, tree)
    if chance.random() < 0.05:
        text = chance.choice(("\ufeff", " ", "\n\t", "\x00", "//")) + text
    if chance.random() < 0.05:
        text += chance.choice((" ", "\n", "\x00", "}", "]", ",", " {}"))
    body = text.encode()
    if chance.random() < 0.05 and body:
        at = chance.randrange(len(body))
        body = (
            body[:at] + chance.choice((b"", b"\xff", b"\x00", b"\xed\xa0\x80", b'"')) + body[at + chance.randrange(2) :]
        )
    return body


def _times(chance: random.Random) -> int:
    return chance.choice((0, 1, 1, 1, 2, 2, 3, 5))


def _shape(chance: random.Random, model: str) -> list[int]:
    rows = chance.choice((1, 1, 2, 3, 0))
    return [
        rows if size == "N" else chance.choice((1, 2, 0)) if size == "W" else int(size) for size in MODELS[model][1]
    ]


def _element(chance: random.Random, datatype: Datatype) -> Any:
    if datatype is Datatype.BOOL:
        return chance.random() < 0.5
    if datatype is Datatype.BYTES:
        return chance.choice(("", "a", "é", "\U0001f600", "[0],", "NaN", "a\nb", 'q"', "\\"))
    if datatype in (Datatype.FP32, Datatype.FP64, Datatype.FP16):
        return chance.choice((0.0, 1, -2.5, 0.1, 1000, Text("1e2"), Text("-0.0"), Text("65504.0"), Text("5e-324")))
    return chance.choice((0, 1, 2, 100, 127))


def _nested(chance: random.Random, datatype: Datatype, shape: Sequence[int]) -> Any:
    if not shape:
        return _element(chance, datatype)
    return [_nested(chance, datatype, shape[1:]) for _ in range(shape[0])]


def _count(shape: Sequence[int]) -> int:
    return int(np.prod(shape, dtype=np.int64))


def _headers(chance: random.Random, *usual: tuple[bytes, bytes]) -> tuple[tuple[bytes, bytes], ...]:
    names = (b"content-type", b"accept", b"inference-header-content-length", b"x-request-timeout-ms", b"cache-control")
    values = (
        *(
            b"",
            b"application/json",
            b"text/csv",
            b"application/x-npy",
            b"multipart/form-data",
            b"image/png",
            b"\xff\x00",
        ),
        *(
            b"multipart/form-data; boundary=",
            b'multipart/form-data; boundary="',
            b"a/b;json-header-size=-1",
            b"0",
            b"-1",
        ),
        *(
            b"application/vnd.sagemaker-triton.binary+json;json-header-size=5",
            b"9" * 30,
            b"1e3",
            b"text/csv;q=x",
            b"*/*",
        ),
        *(b"application/vnd.sagemaker-triton.binary+json", b"application/json; charset=utf-16", b";;=,", b"x" * 500),
    )
    found = list(usual)
    while chance.random() < 0.15:
        found.insert(chance.randrange(len(found) + 1), (chance.choice(names), chance.choice(values)))
    if found and chance.random() < 0.03:
        del found[chance.randrange(len(found))]
    return tuple(found)


def _v2_tree(chance: random.Random, model: str) -> Members:
    datatype, shape = MODELS[model][0], _shape(chance, model)
    flat = [_element(chance, datatype) for _ in range(_count(shape))]
    data = flat if chance.random() < 0.5 else _nested(chance, datatype, shape)
    one = Members([("name", "x"), ("shape", list(shape)), ("datatype", str(datatype)), ("data", data)])
    tree = Members([("inputs", [one])])
    if chance.random() < 0.3:
        tree.append(("id", "42"))
    if chance.random() < 0.3:
        said = [("timeout", 60_000_000), ("priority", 2), ("mine", "x"), ("other", 1.5), ("binary_data_output", False)]
        tree.append(("parameters", Members(chance.sample(said, chance.randrange(4)))))
    if chance.random() < 0.3:
        wishes = Members(chance.sample([("binary_data", True), ("classification", 2), ("binary_data", False)], 1))
        tree.append(("outputs", [Members([("name", "y"), ("parameters", wishes)][: chance.choice((1, 2))])]))
    return tree


def _v2(chance: random.Random, model: str) -> Made:
    tree = _changed(chance, _v2_tree(chance, model), _times(chance))
    return "POST", f"/v2/models/{model}/infer", _headers(chance), _bytes_of(chance, tree)


def _v2_binary(chance: random.Random, model: str) -> Made:
    raw, shape = _raw(chance, model)
    size = chance.choice((len(raw), len(raw), len(raw), len(raw) + 1, -1, 0, Text(chance.choice(NUMBERS))))
    one = Members([("name", "x"), ("shape", list(shape)), ("datatype", str(MODELS[model][0]))])
    one.append(("parameters", Members([("binary_data_size", size)])))
    tree = Members([("inputs", [one]), ("parameters", Members([("binary_data_output", chance.random() < 0.5)]))])
    text = _bytes_of(chance, _changed(chance, tree, _times(chance) // 2))
    length = b"%d" % chance.choice((len(text), len(text), len(text), len(text), 0, len(text) + 1, len(text) - 1))
    usual = ((b"inference-header-content-length", length),)
    return "POST", f"/v2/models/{model}/infer", _headers(chance, *usual), text + raw


def _raw(chance: random.Random, model: str) -> tuple[bytes, list[int]]:
    datatype, shape = MODELS[model][0], _shape(chance, model)
    if datatype is Datatype.BYTES:
        texts = [_element(chance, datatype).encode() for _ in range(_count(shape))]
        raw = b"".join([len(each).to_bytes(4, "little") + each for each in texts])
    else:
        raw = np.zeros(shape, _dtype(datatype)).tobytes()
    if chance.random() < 0.2:
        raw = chance.choice((raw[:-1], raw + b"\x00", b"\xff" * len(raw), raw * 2, b""))
    return raw, shape


def _dtype(datatype: Datatype) -> Any:
    names = {"FP16": "float16", "FP32": "float32", "FP64": "float64", "BOOL": "bool"}
    return np.dtype(names.get(datatype, str(datatype).lower()))


def _rows(chance: random.Random, model: str) -> Any:
    datatype = MODELS[model][0]
    rows = _nested(chance, datatype, _shape(chance, model))
    if datatype is Datatype.BYTES and chance.random() < 0.3:
        return [[Members([("b64", base64.b64encode(each.encode()).decode())]) for each in row] for row in rows]
    return rows


def _tfs(chance: random.Random, model: str) -> Made:
    rows = _rows(chance, model)
    form = chance.randrange(4)
    if form == 0:
        tree = Members([("instances", rows)])
    elif form == 1:
        tree = Members([("instances", [Members([("x", row)]) for row in rows])])
    else:
        tree = Members([("inputs", rows if form == 2 else Members([("x", rows)]))])
    if chance.random() < 0.2:
        tree.append(("signature_name", "serving_default"))
    tree = _changed(chance, tree, _times(chance))
    return "POST", f"/v1/models/{model}:predict", _headers(chance), _bytes_of(chance, tree)


def _tfs_examples(chance: random.Random, model: str) -> Made:
    examples = [Members([("x", row)]) for row in _rows(chance, model)]
    tree = Members([("examples", examples)])
    if chance.random() < 0.3:
        tree.append(("context", Members([("x", [0, 0])])))
    verb = chance.choice(("classify", "regress"))
    return (
        "POST",
        f"/v1/models/{model}:{verb}",
        _headers(chance),
        _bytes_of(chance, _changed(chance, tree, _times(chance))),
    )


def _items(chance: random.Random, model: str) -> bytes:
    rows = _rows(chance, model)
    form = chance.randrange(5)
    if form == 0 and rows:
        rows = rows[0]
    tree: Any = (rows, rows, Members([("x", rows)]), Members([("instances", rows)]), _v2_tree(chance, model))[form]
    return _bytes_of(chance, _changed(chance, tree, _times(chance)))


def _torchserve(chance: random.Random, model: str) -> Made:
    usual = ((b"content-type", b"application/json"),) if chance.random() < 0.7 else ()
    return chance.choice(("POST", "PUT")), f"/predictions/{model}", _headers(chance, *usual), _items(chance, model)


def _sagemaker(chance: random.Random, model: str) -> Made:
    accept = chance.choice(
        (b"application/json", b"text/csv", b"application/x-npy", b"text/csv;q=0.5, */*", b"image/png")
    )
    usual = ((b"content-type", b"application/json"), (b"accept", accept))
    return "POST", "/invocations", _headers(chance, *usual), _items(chance, model)


def _either(chance: random.Random, model: str) -> str:
    return chance.choice(("/invocations", f"/predictions/{model}"))


def _multipart(chance: random.Random, model: str) -> Made:
    boundary = chance.choice((b"b", b"--", b"x" * 70, b"a b", b"\xff"))
    pieces = []
    for _ in range(chance.choices((1, 2, 0, 70), (60, 20, 10, 1))[0]):
        name = chance.choice(
            (*['name="x"'] * 8, 'name="data"', "name=x", 'name=""', "", 'name="\xe9"', 'name="x"; filename="f"')
        )
        heads = [
            f"Content-Disposition: form-data; {name}",
            "Content-Type: application/json",
            "x",
            ":",
            "\x00: y",
            "a: b\rc",
        ]
        head = "\r\n".join(chance.sample(heads, chance.choice((1, 2))) if chance.random() < 0.3 else heads[:1])
        pieces.append(b"--" + boundary + b"\r\n" + head.encode() + b"\r\n\r\n" + _items(chance, model) + b"\r\n")
    body = b"".join(pieces) + b"--" + boundary + b"--\r\n"
    if chance.random() < 0.3:
        body = chance.choice(
            (body[:-5], body.replace(b"\r\n", b"\n"), b"pre\r\n" + body, body + b"post", b"", body[1:])
        )
    kind = b"multipart/form-data; boundary=" + (boundary if chance.random() < 0.5 else b'"%b"' % boundary)
    return "POST", _either(chance, model), _headers(chance, (b"content-type", kind)), body


def _csv(chance: random.Random, model: str) -> Made:
    datatype, shape = MODELS[model][0], _shape(chance, model)
    lines = []
    for _ in range(shape[0]):
        cells = [str(_element(chance, datatype)) for _ in range(_count(shape[1:]))]
        if chance.random() < 0.3 and cells:
            odd = ("", " ", '"', '"a', '"a"b', "1_0", "nan", "-inf", "1e400", "True", "٣", "\x00", "0x1", *NUMBERS)
            cells[chance.randrange(len(cells))] = chance.choice(odd)
        if chance.random() < 0.1:
            cells += cells
        lines.append(",".join([f'"{each}"' if chance.random() < 0.1 else each for each in cells]))
    body = chance.choice(("\n", "\r\n", "\r", "\n\n")).join(lines).encode() + chance.choice((b"", b"\n", b"\r\n\r\n"))
    if chance.random() < 0.1:
        body = chance.choice((b"", b"\n\n", b"\xff", b"\xef\xbb\xbf" + body, b"a,b\n" + body, b"\x93NUMPY" + body))
    accept = chance.choice((b"text/csv", b"application/json", b"application/x-npy"))
    usual = ((b"content-type", b"text/csv"), (b"accept", accept))
    return "POST", _either(chance, model), _headers(chance, *usual), body


def _npy(chance: random.Random, model: str) -> Made:
    datatype, shape = MODELS[model][0], _shape(chance, model)
    dtype = "S3" if datatype is Datatype.BYTES else _dtype(datatype)
    if chance.random() < 0.3:
        dtype = chance.choice(("f8", ">f4", "i1", "u8", "S1", "S0", "U2", "?", "f2"))
    file = io.BytesIO()
    np.save(file, np.zeros(shape, dtype), allow_pickle=False)
    body = file.getvalue()
    if chance.random() < 0.4:
        old, new = chance.choice(
            (
                (b"'shape': (", b"'shape': (9999999999, "),
                (b"'shape': (", b"'shape': (0, 9223372036854775807, "),
                (b"False", b"True "),
                (b"'descr'", b"'d'"),
                (b"<f4", b"|O1"),
                (b"<f4", b"<f3"),
                (b"\x01\x00", b"\x02\x00"),
                (b"\x93NUMPY", b"\x93NUMP"),
                (b"\n", b"\n\x00"),
                (b"(", b"(-1,"),
            )
        )
        body = body.replace(old, new, 1)
    usual = ((b"content-type", b"application/x-npy"), (b"accept", b"application/x-npy"))
    return "POST", _either(chance, model), _headers(chance, *usual), body


def _grpc(chance: random.Random, model: str) -> Made:
    datatype, shape = MODELS[model][0], _shape(chance, model)
    message = pb.ModelInferRequest(model_name=model)
    one = message.inputs.add(name="x", datatype=str(datatype), shape=shape)
    if chance.random() < 0.5:
        message.raw_input_contents.append(_raw(chance, model)[0])
    else:
        fields = [each.name for each in pb.InferTensorContents.DESCRIPTOR.fields]
        field = chance.choice([each for each in fields if _suits(each, datatype)] * 6 + fields)
        value: Any = b"a" if field == "bytes_contents" else 1
        getattr(one.contents, field).extend([value] * _count(shape))
    for _ in range(chance.choice((0, 0, 1, 2))):
        _GRPC_CHANGES[chance.randrange(len(_GRPC_CHANGES))](chance, message)
    body = message.SerializeToString()
    if chance.random() < 0.1 and body:
        at = chance.randrange(len(body))
        body = chance.choice(
            (body[:at], body[:at] + b"\xff" + body[at:], body + body, body + b"\x0b", body + b"\x00" * 9)
        )
    return "POST", "", _headers(chance), body


def _suits(field: str, datatype: Datatype) -> bool:
    starts = {"BOOL": "bool", "BYTES": "bytes", "INT64": "int64", "UINT64": "uint64", "FP32": "fp32", "FP64": "fp64"}
    return field.startswith(starts.get(datatype, "int_" if datatype in ("INT8", "INT16", "INT32") else "uint_"))


def _set_parameter(chance: random.Random, parameters: Any) -> None:
    name = chance.choice((*NAMES, "triton_enable_empty_final_response"))
    kind = chance.choice(("bool_param", "int64_param", "string_param", "double_param", "uint64_param", None))
    values = {"bool_param": True, "string_param": chance.choice(("", "x", "\x00"))}
    if kind is None:
        parameters[name].SetInParent()
    else:
        limits = (0, 1, 2**63 - 1, 2**64 - 1) if kind == "uint64_param" else (0, 1, -1, 2**63 - 1, -(2**63))
        value = values.get(
            kind, chance.choice((0.0, 1e308, float("nan"), float("inf"))) if kind == "double_param" else None
        )
        setattr(parameters[name], kind, chance.choice(limits) if value is None else value)


_GRPC_CHANGES: tuple[Callable[[random.Random, Any], object], ...] = (
    lambda chance, message: _set_parameter(chance, message.parameters),
    lambda chance, message: _set_parameter(chance, message.inputs[0].parameters),
    lambda chance, message: _set_parameter(chance, message.outputs.add(name=chance.choice(("y", "", "z"))).parameters),
    lambda chance, message: message.inputs[0].shape.append(chance.choice((0, 1, -1, 2**63 - 1, 10**12))),
    lambda chance, message: message.inputs[0].shape.extend([1] * 70),
    lambda chance, message: message.inputs[0].shape.pop() if message.inputs[0].shape else None,
    lambda chance, message: message.inputs.add().CopyFrom(message.inputs[0]),
    lambda chance, message: message.raw_input_contents.extend([b""] * chance.choice((1, 100))),
    lambda chance, message: message.inputs[0].contents.bytes_contents.extend([b""] * chance.choice((1, 3000))),
    lambda chance, message: setattr(
        message.inputs[0], "datatype", chance.choice(("", "FP8", "BYTES", "INT64", "FP16"))
    ),
    lambda chance, message: setattr(message.inputs[0], "name", chance.choice(("", "y", "\x00", "é" * 200))),
    lambda chance, message: setattr(message, "model_version", chance.choice(("1", "0", "-1", "9" * 40, "x"))),
    lambda chance, message: setattr(message, "id", chance.choice(("", "\x00", "i" * 500))),
)

_MAKERS: Mapping[str, Callable[[random.Random, str], Made]] = {
    "v2": _v2,
    "v2-binary": _v2_binary,
    "tfs": _tfs,
    "tfs-examples": _tfs_examples,
    "torchserve": _torchserve,
    "sagemaker": _sagemaker,
    "multipart": _multipart,
    "csv": _csv,
    "npy": _npy,
    "grpc": _grpc,
}
