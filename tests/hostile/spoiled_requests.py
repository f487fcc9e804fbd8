"""HTTP requests with faults in them: in the line, the headers, the length, the chunks, the coding or the body."""

from __future__ import annotations

import gzip
import zlib
from collections.abc import Callable, Mapping, Sequence
from random import Random

from tests.hostile.mutations import NOTABLE, WORDS, json_bytes, spoiled, twisted
from tests.hostile.requests import Request, pages, predictions

HEADERS: Mapping[str, Sequence[str]] = {
    "X-Request-Timeout-Ms": ("0", "-1", "1", "1e9", "abc", "9" * 400, "NaN", "5000"),
    "Cache-Control": (
        "no-store",
        "no-cache",
        "max-age=0",
        "only-if-cached",
        "no-store, " * 200,
        '=,;"',
        "max-age=9999999999999999999999",
    ),
    "Accept-Encoding": ("gzip", "gzip;q=0", "*", "identity;q=0", "br, gzip;q=abc", ",,,"),
    "Accept": ("text/csv", "application/x-npy", "*/*;q=0", "text/html", "a/b;" * 100, ""),
    "Content-Type": (
        "text/csv",
        "application/x-npy",
        "multipart/form-data",
        "multipart/form-data; boundary=",
        "image/png",
        "text/csv; charset=x",
        "multipart/form-data; boundary=" + "b" * 300,
        "application/json; charset=utf-16",
        "application/x-www-form-urlencoded",
    ),
    "Content-Encoding": ("gzip", "deflate", "br", "gzip, gzip", "identity", "GZIP", "", "x" * 200),
    "Inference-Header-Content-Length": ("0", "-1", "1", "99999999999999999999", "abc", "5.0", " 7"),
    "traceparent": (
        "00-" + "0" * 32 + "-" + "0" * 16 + "-01",
        "00-4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7-01",
        "x",
        "ff-" * 30,
    ),
    "X-Request-Id": ("a" * 300, "b c", "\x7f", "é"),
    "X-Forwarded-Prefix": ("/a", "//evil", "/a," * 50, "\\"),
    "Connection": ("close", "upgrade", "keep-alive", "close, keep-alive", "x" * 100),
    "Upgrade": ("h2c", "websocket", "TLS/1.0"),
    "Expect": ("100-continue", "200-ok", ""),
    "Transfer-Encoding": ("chunked", "gzip, chunked", "identity", "chunked, chunked", "xchunked", " chunked"),
    "Content-Length": ("0", "1", "-1", "+5", "0x10", "5, 5", "5, 6", "99999999999999999999", "", "1e3", "5\t"),
    "Host": ("", "a:b:c", "[::1", "x" * 500, "a b"),
    "Authorization": ("Bearer secret", ""),
    "Range": ("bytes=0-1", "bytes=-1", "x"),
    "If-None-Match": ("*", '"x"'),
}
METHODS = (
    "GET",
    "POST",
    "PUT",
    "DELETE",
    "HEAD",
    "OPTIONS",
    "PATCH",
    "TRACE",
    "CONNECT",
    "PRI",
    "post",
    "X" * 40,
    "",
    "GET ",
    "M-SEARCH",
)
TARGETS = (
    "*",
    "/",
    "//",
    "/%00",
    "/%ff",
    "/%zz",
    "/..%2f..%2fetc/passwd",
    "http://a",
    "http://a/",
    "http://a:99999/v2",
    "https://[::1/v2",
    "a:443",
    "/v2/models//infer",
    "/v2/models/linear/infer?x=1&x=%00",
    "/v2/models/linear/infer#f",
    "/v2/models/" + "a" * 5000 + "/infer",
    "/\xe9",
    "/v2/models/linear/versions/99999999999999999999999/infer",
    "/v2/models/linear/versions/-1/infer",
    "/v1/models/x:y:z",
    "?",
    "",
    "/v2/models/%6c%69near/infer",
    "/predictions/linear/1.0.0",
    "/v2/models/linear/versions/\u0661/infer",
    "/static/%2e%2e/%2e%2e/x",
)
VERSIONS = (
    "HTTP/1.1",
    "HTTP/1.0",
    "HTTP/0.9",
    "HTTP/2.0",
    "HTTP/1.2",
    "http/1.1",
    "HTTP/1.1 x",
    "",
    "HTTP/99999.1",
    "HTTP/1",
)
HELLO = bytes.fromhex("16030100c8010000c40303") + bytes(32) + b"\x20" + bytes(32) + b"\x00\x02\x13\x01\x01\x00"
"""How TLS begins."""

PREFACE = b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n\0\0\0\4\0\0\0\0\0"


class Wire:
    """Makes bytes to send from valid requests, by chance."""

    def __init__(self, chance: Random, pages_share: float = 0.1) -> None:
        self._chance, self._pages_share = chance, pages_share
        self._predictions, self._pages = predictions(), pages()

    def request(self) -> tuple[str, Request, bytes]:
        """A request with a body that was spoiled in its structure, its bytes, or not at all; and what it is called."""
        chance = self._chance
        base = chance.choice(self._pages if chance.random() < self._pages_share else self._predictions)
        turn = chance.random()
        if base.value is not None:
            if turn < 0.6:
                return "structure", base, json_bytes(chance, twisted(chance, twisted(chance, base.value)))
            body = json_bytes(chance, base.value)
        else:
            body = base.body
        return ("body", base, spoiled(chance, body)) if turn < 0.85 else ("whole", base, body)

    def framed(self) -> tuple[str, bytes]:
        """A request that frames its body as it should, so that others may follow it on the connection."""
        chance = self._chance
        kind, base, body = self.request()
        headers = dict(base.headers)
        if chance.random() < 0.15:
            body, headers["Content-Encoding"] = _coded(chance, body)
            kind = "coding"
        if chance.random() < 0.3:
            for name in chance.sample(list(HEADERS), chance.choice((1, 1, 3))):
                if name not in {"Transfer-Encoding", "Content-Length", "Connection", "Upgrade", "Expect", "Host"}:
                    headers[name] = chance.choice(HEADERS[name])
                    kind = "header"
        if chance.random() < 0.15:
            return kind, _head(base.method, base.target, {**headers, "Transfer-Encoding": "chunked"}) + _chunks(
                chance, body
            )
        return kind, _head(base.method, base.target, {**headers, "Content-Length": str(len(body))}) + body

    def unframed(self) -> tuple[str, bytes]:
        """A request after which nobody can tell where the next one begins."""
        return self._chance.choice(_FAULTS)(self)

    def _line(self) -> tuple[str, bytes]:
        chance, (_, base, body) = self._chance, self.request()
        method = chance.choice(METHODS) if chance.random() < 0.4 else base.method
        target = chance.choice(TARGETS) if chance.random() < 0.6 else base.target
        version = chance.choice(VERSIONS) if chance.random() < 0.3 else "HTTP/1.1"
        return "line", _head(method, target, {"Content-Length": str(len(body))}, version) + body

    def _length(self) -> tuple[str, bytes]:
        chance, (_, base, body) = self._chance, self.request()
        lengths = (
            chance.sample(HEADERS["Content-Length"], 2)
            if chance.random() < 0.3
            else [chance.choice(HEADERS["Content-Length"])]
        )
        if chance.random() < 0.4:
            lengths = [str(len(body) + chance.choice((-3, -1, 1, 7, 100_000)))]
        lines = "".join([f"Content-Length: {length}\r\n" for length in lengths])
        return "length", f"{base.method} {base.target} HTTP/1.1\r\nHost: x\r\n{lines}\r\n".encode(
            "utf-8", "replace"
        ) + body

    def _chunked(self) -> tuple[str, bytes]:
        chance, (_, base, body) = self._chance, self.request()
        headers = {**base.headers, "Transfer-Encoding": chance.choice(HEADERS["Transfer-Encoding"])}
        if chance.random() < 0.3:
            headers["Content-Length"] = str(len(body))
        return "chunks", _head(base.method, base.target, headers) + spoiled(chance, _chunks(chance, body))

    def _headers(self) -> tuple[str, bytes]:
        chance, (_, base, body) = self._chance, self.request()
        names = chance.sample(list(HEADERS), chance.choice((1, 2, 6)))
        lines = [f"{name}: {chance.choice(HEADERS[name])}" for name in names]
        turn = chance.randrange(8)
        if turn == 0:
            lines += [f"X-{place}: {place}" for place in range(chance.choice((50, 2000)))]
        elif turn == 1:
            lines.append("X-Long: " + "v" * chance.choice((9000, 70_000)))
        elif turn == 2:
            lines += [" folded", "no colon", ": no name", "X y: blank", "X\0: nul", "X: \0"][chance.randrange(6) :]
        head = "\r\n".join(
            [f"{base.method} {base.target} HTTP/1.1", "Host: x", *lines, f"Content-Length: {len(body)}", "", ""]
        )
        return "headers", head.encode("latin-1", "replace") + body

    def _bytes(self) -> tuple[str, bytes]:
        return "bytes", spoiled(self._chance, self.framed()[1])

    def _other(self) -> tuple[str, bytes]:
        chance = self._chance
        start = chance.choice(
            (HELLO, PREFACE, b"\r\n" * chance.choice((1, 3, 500)), b"", b"GET / HTTP/1.1\n\n", b"\0" * 64)
        )
        return "other", start + chance.choice((b"", chance.choice(NOTABLE), chance.randbytes(40)))


_FAULTS: Sequence[Callable[[Wire], tuple[str, bytes]]] = (
    Wire._line,
    Wire._line,
    Wire._length,
    Wire._chunked,
    Wire._headers,
    Wire._bytes,
    Wire._bytes,
    Wire._other,
)


def _head(method: str, target: str, headers: Mapping[str, str], version: str = "HTTP/1.1") -> bytes:
    lines = "".join([f"{name}: {value}\r\n" for name, value in headers.items()])
    return f"{method} {target} {version}\r\nHost: x\r\n{lines}\r\n".encode("utf-8", "replace")


def _chunks(chance: Random, body: bytes) -> bytes:
    out, at = [], 0
    while at < len(body):
        piece = body[at : at + chance.choice((1, 7, 100, 5000))]
        extension = ";a=b" if chance.random() < 0.1 else ""
        out.append(b"%x%s\r\n%s\r\n" % (len(piece), extension.encode(), piece))
        at += len(piece)
    trailer = f"{chance.choice(WORDS)}: x\r\n".encode() if chance.random() < 0.1 else b""
    return b"".join([*out, b"0\r\n", trailer, b"\r\n"])


def _coded(chance: Random, body: bytes) -> tuple[bytes, str]:
    turn = chance.randrange(6)
    if turn == 0:
        return zlib.compress(body, 1), "deflate"
    if turn == 1:
        return gzip.compress(body, 1)[: chance.randrange(30) + 1], "gzip"
    if turn == 2:
        return spoiled(chance, gzip.compress(body, 1)), "gzip"
    if turn == 3:
        return gzip.compress(body, 1) * chance.choice((2, 20)), "gzip"
    if turn == 4:
        return body, chance.choice(HEADERS["Content-Encoding"])
    return gzip.compress(body, 1), "gzip"
