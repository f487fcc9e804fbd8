"""What `costs` sends: requests within every limit, most of them small on the wire, that might cost others much."""

from __future__ import annotations

import gzip
import io
import struct
from collections.abc import Callable, Iterator, Mapping, Sequence

import msgspec
import numpy as np

from tests.hostile.protobuf import floats, infer, number, packed, raw, tensor, text, varint

MIB = 1 << 20
LIMIT = 64 * MIB
JSON, CSV, NPY = "application/json", "text/csv", "application/x-npy"
V2, TFS, TORCH = "/v2/models/{}/infer", "/v1/models/{}:predict", "/predictions/{}"


class Asked(msgspec.Struct, frozen=True):
    """One kind of request: what it is called, whom it is for, and its body, made when it is wanted.

    `target` is that of HTTP, and empty for a message of gRPC. `both` says to send it compressed as well.
    """

    what: str
    model: str
    target: str
    body: Callable[[], bytes]
    headers: Mapping[str, str] = {}
    both: bool = True


def filled(head: str, piece: str, tail: str, size: int = LIMIT) -> Callable[[], bytes]:
    """A text of `size` bytes or a little less: a piece again and again, with commas between."""

    def build() -> bytes:
        times = (size - len(head) - len(tail)) // (len(piece) + 1)
        return (head + ",".join([piece]) + f",{piece}" * (times - 1) + tail).encode()

    return build


def plain(head: str, piece: str, tail: str, size: int = LIMIT) -> Callable[[], bytes]:
    """As `filled`, without commas."""
    return lambda: (head + piece * ((size - len(head) - len(tail)) // len(piece)) + tail).encode()


def v2(shape: str, datatype: str = "FP32") -> str:
    """The beginning of a V2 body, up to its data."""
    return f'{{"inputs":[{{"name":"x","shape":{shape},"datatype":"{datatype}","data":'


def rows() -> Iterator[Asked]:
    """All of them, in the order of the table."""
    yield from _v2()
    yield from _json_of_all_kinds()
    yield from _tfs()
    yield from _items()
    yield from _embeddings()
    yield from _grpc()


def _v2() -> Iterator[Asked]:
    to = V2.format
    yield Asked("V2: shape [3000000, 0], no data", "echo", to("echo"), lambda: v2("[3000000,0]").encode() + b"[]}]}")
    yield Asked(
        "V2: shape [1000000000000, 0], no data", "echo", to("echo"), lambda: v2("[1000000000000,0]").encode() + b"[]}]}"
    )
    equal = f"{v2('[16000000,1]')}[0" + ",0" * 15_999_999 + "]}]}"
    yield Asked("V2: 16,000,000 equal rows, flat", "linear", to("linear"), equal.encode)
    nested = f"{v2('[16000000,1]')}[[0]" + ",[0]" * 15_999_999 + "]}]}"
    yield Asked("V2: 16,000,000 equal rows, nested", "linear", to("linear"), nested.encode)
    yield Asked("V2: [0], by the million, shape [1]", "linear", to("linear"), filled(v2("[1]") + "[", "[0]", "]}]}"))
    yield Asked(
        "V2: 60,000 rows that differ",
        "linear",
        to("linear"),
        lambda: _flat(np.arange(60_000.0), "[60000,1]"),
        both=False,
    )
    yield Asked("V2: 4,096 rows that differ", "linear", to("linear"), lambda: _flat(np.arange(4096.0), "[4096,1]"))
    yield Asked("V2: one row of 18 MB of digits, answered by a number", "sums", to("sums"), lambda: _digits(1))
    yield Asked("V2: one row of 18 MB of digits, answered with as much", "echo", to("echo"), lambda: _digits(1))
    yield Asked(
        "V2: empty strings by the million", "strings", to("strings"), filled(v2("[1]", "BYTES") + "[", '""', "]}]}")
    )
    yield Asked(
        "V2: one string of 60 MB", "strings", to("strings"), plain(v2("[1]", "BYTES") + '["', "a", '"]}]}', 60 * MIB)
    )
    yield Asked(
        "V2: one string of escapes",
        "strings",
        to("strings"),
        plain(v2("[1]", "BYTES") + '["', "\\u0000", '"]}]}', 60 * MIB),
    )
    yield Asked("V2: 100,000 inputs", "linear", to("linear"), _inputs(100_000))
    yield Asked("V2: 100,000 outputs wished", "linear", to("linear"), _outputs(100_000))
    yield Asked("V2: 4 MB of parameters", "linear", to("linear"), _parameters(4 * MIB))
    yield _binary("V2 binary: one row of 60 MB", "sums", [1, 15_000_000], 60_000_000)
    yield _binary("V2 binary: 16,000,000 equal rows", "linear", [16_000_000, 1], 64_000_000)
    yield _binary("V2 binary: 16,000,000 empty strings", "strings", [16_000_000], 64_000_000, "BYTES")


def _json_of_all_kinds() -> Iterator[Asked]:
    kinds = {
        "blanks": plain('{"inputs":[{"name":"x",', " ", '"shape":[1,1],"datatype":"FP32","data":[0]}]}'),
        "brackets": plain(v2("[1,1]"), "[", ""),
        "brackets within brackets, 1,000 deep": plain(f"{v2('[1,1]')}[", "[" * 1000 + "]" * 1000 + ",", "0]}]}"),
        "keys that differ": _keys,
        "one key again and again": plain("{" + '"a":0,' * 1, '"a":0,', '"a":0}'),
        "objects within objects": plain("", '{"a":', ""),
        "integers beyond 64 bits": filled(f"{v2('[1,1]')}[", "9" * 30, "]}]}"),
        "one integer": plain(f"{v2('[1,1]')}[", "9", "]}]}"),
        "tiny fractions": filled(f"{v2('[1,1]')}[", "1e-400", "]}]}"),
        "null": filled(f"{v2('[1,1]')}[", "null", "]}]}"),
        "{}": filled(f"{v2('[1,1]')}[", "{}", "]}]}"),
    }
    for kind, body in kinds.items():
        yield Asked(f"V2: 64 MB of {kind}", "linear", V2.format("linear"), body)
    for kind in ("brackets", "keys that differ", "objects within objects"):
        yield Asked(f"TensorFlow Serving: 64 MB of {kind}", "linear", TFS.format("linear"), kinds[kind])
        yield Asked(f"TorchServe: 64 MB of {kind}", "linear", TORCH.format("linear"), kinds[kind])


def _tfs() -> Iterator[Asked]:
    to = TFS.format
    instances, columns = '{"instances":[', '{"inputs":{"x":['
    yield Asked("TensorFlow Serving: [0], by the million, rows", "linear", to("linear"), filled(instances, "[0]", "]}"))
    yield Asked("TensorFlow Serving: 0, by the million, rows", "linear", to("linear"), filled(instances, "0", "]}"))
    yield Asked(
        "TensorFlow Serving: [0], by the million, columns", "linear", to("linear"), filled(columns, "[0]", "]}}")
    )
    yield Asked("TensorFlow Serving: {} by the million", "linear", to("linear"), filled(instances, "{}", "]}"))
    yield Asked(
        'TensorFlow Serving: {"x":[0]} by the million', "linear", to("linear"), filled(instances, '{"x":[0]}', "]}")
    )
    yield Asked("TensorFlow Serving: NaN by the million", "linear", to("linear"), filled(instances, "[NaN]", "]}"))
    yield Asked("TensorFlow Serving: NaN, one row", "sums", to("sums"), filled(instances + "[", "NaN", "]]}"))
    yield Asked(
        "TensorFlow Serving: b64 by the million", "strings", to("strings"), filled(instances, '{"b64":""}', "]}")
    )
    yield Asked(
        "TensorFlow Serving: one row of 18 MB of digits",
        "sums",
        to("sums"),
        lambda: _rows_of_digits('{"instances":', "}"),
    )
    for verb in ("classify", "regress"):
        target = f"/v1/models/linear:{verb}"
        yield Asked(
            f"TensorFlow Serving: {verb}, {{}} by the million", "linear", target, filled('{"examples":[', "{}", "]}")
        )
    yield Asked(
        'TensorFlow Serving: classify, {"x":0} by the million',
        "linear",
        "/v1/models/linear:classify",
        filled('{"examples":[', '{"x":0}', "]}"),
    )


def _items() -> Iterator[Asked]:
    to, csv, npy = TORCH.format, {"Content-Type": CSV}, {"Content-Type": NPY}
    yield Asked("TorchServe: [0], by the million", "linear", to("linear"), filled("[", "[0]", "]"))
    yield Asked("TorchServe: {} by the million", "linear", to("linear"), filled("[", "{}", "]"))
    yield Asked("TorchServe: one row of 18 MB of digits", "sums", to("sums"), lambda: _rows_of_digits("", ""))
    form = {"Content-Type": "multipart/form-data; boundary=b"}
    yield Asked("TorchServe: 100,000 parts", "linear", to("linear"), _parts(100_000, 1), form)
    yield Asked("TorchServe: parts by the million", "linear", to("linear"), _parts(900_000, 0), form)
    yield Asked("TorchServe: one part of 60 MB", "strings", to("strings"), _parts(1, 60 * MIB), form)
    yield Asked("TorchServe: CSV lines by the million", "linear", to("linear"), plain("", "0\n", ""), csv)
    yield Asked("SageMaker: CSV lines by the million", "linear", "/invocations", plain("", "0\n", ""), csv)
    yield Asked("SageMaker: one CSV line of 64 MB", "linear", "/invocations", filled("", "0", "\n"), csv)
    yield Asked("SageMaker: empty CSV lines by the million", "linear", "/invocations", plain("0", "\n", "0\n"), csv)
    yield Asked("SageMaker: CSV, one quoted field", "linear", "/invocations", plain('"', "0", '"\n'), csv)
    lines = {"Content-Type": "application/jsonlines"}
    yield Asked("SageMaker: JSON lines by the million", "linear", "/invocations", plain("", "[0]\n", ""), lines)
    yield Asked("SageMaker: npy, 16,000,000 equal rows", "linear", "/invocations", lambda: _npy((16_000_000, 1)), npy)
    yield Asked("SageMaker: npy of shape [3000000, 0]", "echo", TORCH.format("echo"), lambda: _npy((3_000_000, 0)), npy)
    yield Asked("SageMaker: npy, one row of 60 MB", "sums", TORCH.format("sums"), lambda: _npy((1, 15_000_000)), npy)


def _embeddings() -> Iterator[Asked]:
    head, to = '{"model":"texts","input":', "/v1/embeddings"
    yield Asked("embeddings: one text of 60 MB", "texts", to, plain(head + '"', "to be ", '"}', 60 * MIB))
    yield Asked("embeddings: one text of 4 MB", "texts", to, plain(head + '"', "to be ", '"}', 4_000_000))
    yield Asked("embeddings: one word of 4 MB", "texts", to, plain(head + '"', "a", '"}', 4_000_000))
    yield Asked("embeddings: 100,000 empty texts", "texts", to, lambda: _listed(head, '""', 100_000))
    yield Asked("embeddings: empty texts by the million", "texts", to, filled(head + "[", '""', "]}"))
    yield Asked("embeddings: lists of no tokens by the million", "texts", to, filled(head + "[", "[]", "]}"))
    yield Asked("embeddings: tokens by the million", "texts", to, filled(head + "[", "3", "]}"))
    yield Asked("embeddings: 2,048 texts", "texts", to, lambda: _listed(head, '"to be or not to be"', 2048))


def _grpc() -> Iterator[Asked]:
    def linear(*parts: bytes) -> bytes:
        return infer(b"linear", *parts)

    fp32, x = b"FP32", b"x"
    built: Mapping[str, tuple[str, Callable[[], bytes]]] = {
        "100,000 inputs with contents": (
            "linear",
            lambda: linear(tensor(x, fp32, [1, 1], text(6, floats([0]))) * 100_000),
        ),
        "100,000 entries of raw contents": (
            "linear",
            lambda: linear(tensor(x, fp32, [1, 1]), raw(floats([0])) * 100_000),
        ),
        "10,000,000 empty raw contents": ("linear", lambda: linear(tensor(x, fp32, [1, 1]), raw(b"") * 10_000_000)),
        "100,000 bytes_contents": (
            "strings",
            lambda: infer(b"strings", tensor(x, b"BYTES", [100_000], text(8, b"") * 100_000)),
        ),
        "16,000,000 bytes_contents": (
            "strings",
            lambda: infer(b"strings", tensor(x, b"BYTES", [16_000_000], text(8, b"") * 16_000_000)),
        ),
        "16,000,000 floats, not packed": (
            "linear",
            lambda: linear(tensor(x, fp32, [12_000_000, 1], (varint(6 << 3 | 5) + floats([0])) * 12_000_000)),
        ),
        "16,000,000 equal rows, raw": (
            "linear",
            lambda: linear(tensor(x, fp32, [16_000_000, 1]), raw(bytes(64_000_000))),
        ),
        "16,000,000 empty strings, raw": (
            "strings",
            lambda: infer(b"strings", tensor(x, b"BYTES", [16_000_000]), raw(bytes(64_000_000))),
        ),
        "shape [3000000, 0]": ("echo", lambda: infer(b"echo", tensor(x, fp32, [3_000_000, 0]), raw(b""))),
        "a shape of 60,000,000 axes": ("linear", lambda: linear(tensor(x, fp32, [], more=text(3, b"\1" * 60_000_000)))),
        "100,000 parameters": (
            "linear",
            lambda: linear(tensor(x, fp32, [1, 1]), raw(floats([0])), _wished(4, 100_000)),
        ),
        "100,000 outputs wished": (
            "linear",
            lambda: linear(tensor(x, fp32, [1, 1]), raw(floats([0])), _wished(6, 100_000)),
        ),
        "one row of 60 MB": ("sums", lambda: infer(b"sums", tensor(x, fp32, [1, 15_000_000]), raw(bytes(60_000_000)))),
        "messages within messages": ("linear", lambda: linear(_within(2000), text(5, packed(3, [1] * 1000)))),
    }
    for what, (model, body) in built.items():
        yield Asked(f"gRPC: {what}", model, "", body)


def compressed(body: bytes) -> bytes:
    """As gzip, and as small as a patient attacker makes it."""
    return gzip.compress(body, 9, mtime=0)


def _flat(values: np.ndarray[tuple[int], np.dtype[np.float64]], shape: str) -> bytes:
    return (v2(shape) + str(values.tolist()) + "}]}").encode()


def _digits(rows: int) -> bytes:
    values = np.random.default_rng(0).standard_normal(900_000 // rows * rows)
    return _flat(values, f"[{rows},{len(values) // rows}]")


def _rows_of_digits(head: str, tail: str) -> bytes:
    return f"{head}[{np.random.default_rng(0).standard_normal(900_000).tolist()}]{tail}".encode()


def _keys() -> bytes:
    return ("{" + ",".join([f'"k{place}":0' for place in range(4_700_000)]) + "}").encode()


def _inputs(times: int) -> Callable[[], bytes]:
    one = '{"name":"x","shape":[1,1],"datatype":"FP32","data":[0]}'
    return lambda: _listed('{"inputs":', one, times)


def _outputs(times: int) -> Callable[[], bytes]:
    return lambda: _listed(f'{v2("[1,1]")}[0]}}],"outputs":', '{"name":"y"}', times)


def _parameters(size: int) -> Callable[[], bytes]:
    return lambda: f'{{"parameters":{{"a":"{"p" * size}"}},{v2("[1,1]")[1:]}[0]}}]}}'.encode()


def _listed(head: str, piece: str, times: int) -> bytes:
    return (head + "[" + ",".join([piece] * times) + "]}").encode()


def _binary(what: str, model: str, shape: Sequence[int], size: int, datatype: str = "FP32") -> Asked:
    one = f'{{"name":"x","shape":{list(shape)},"datatype":"{datatype}","parameters":{{"binary_data_size":{size}}}}}'
    head = f'{{"inputs":[{one}],"parameters":{{"binary_data_output":true}}}}'.encode()
    headers = {"Inference-Header-Content-Length": str(len(head))}
    return Asked(what, model, V2.format(model), lambda: head + bytes(size), headers)


def _parts(times: int, size: int) -> Callable[[], bytes]:
    def build() -> bytes:
        parts = (
            b'--b\r\nContent-Disposition: form-data; name="x%d"\r\n\r\n%s\r\n' % (place, b"0" * size)
            for place in range(times)
        )
        return b"".join(parts) + b"--b--\r\n"

    return build


def _npy(shape: tuple[int, ...]) -> bytes:
    file = io.BytesIO()
    np.save(file, np.zeros(shape, np.float32))
    return file.getvalue()


def _wished(field: int, times: int) -> bytes:
    return b"".join([text(field, text(1, b"y%d" % place) + text(2, number(2, 1))) for place in range(times)])


def _within(depth: int) -> bytes:
    inner = b""
    for _ in range(depth):
        inner = text(5, inner)
    return inner


def prefixed(message: bytes, *, compressed: bool = False) -> bytes:
    """A message as it travels in gRPC's frames."""
    return struct.pack(">BI", compressed, len(message)) + message
