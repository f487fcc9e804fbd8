"""Where requests go: an address, plain or TLS, and the head of every request."""

from __future__ import annotations

import re
import ssl
from collections.abc import Mapping, Sequence
from pathlib import Path
from urllib.parse import urlsplit

import msgspec

from sluice.inference.errors import StartError

NOT_YOURS = ("content-length", "transfer-encoding", "connection", "expect", "upgrade", "te", "trailer")
"""Headers that this generator writes itself, or cannot keep to."""

_NAME = re.compile(r"[!#$%&'*+.^_`|~0-9A-Za-z-]+")
_CONTROL = re.compile(r"[\x00-\x08\x0a-\x1f\x7f]")


class Target(msgspec.Struct, frozen=True):
    """A server, and the path that was named with it. `tls` is `None` for plain HTTP."""

    host: str
    port: int
    path: str
    tls: ssl.SSLContext | None = None

    @property
    def address(self) -> str:
        """Host and port as in a URL."""
        return f"[{self.host}]:{self.port}" if ":" in self.host else f"{self.host}:{self.port}"


def target(url: str, ca_file: Path | None = None, *, insecure: bool = False) -> Target:
    """What a URL names. Raises `StartError`."""
    try:
        parts = urlsplit(url)
        port = parts.port
    except ValueError as error:
        raise StartError(f"{url!r} is not a URL: {error}") from None
    if parts.scheme not in ("http", "https") or not parts.hostname:
        raise StartError(f"{url!r} is not a URL that can be called; it looks like http://127.0.0.1:8000")
    if parts.username is not None or parts.fragment:
        raise StartError(f"{url!r}: a URL here has no user and no fragment; give credentials as --header")
    path = (parts.path or "/") + (f"?{parts.query}" if parts.query else "")
    if not path.isascii() or not path.isprintable() or " " in path:
        raise StartError(f"{url!r}: the path has characters that must be written as %XX")
    secure = parts.scheme == "https"
    if not secure and (ca_file is not None or insecure):
        raise StartError(f"{url!r}: --ca-file and --insecure are about https")
    return Target(parts.hostname, port or (443 if secure else 80), path, _tls(ca_file, insecure) if secure else None)


def headers(lines: Sequence[str]) -> Mapping[str, str]:
    """Headers written as `Name: value`. Raises `StartError` for what cannot be sent."""
    found: dict[str, str] = {}
    for line in lines:
        name, colon, value = line.partition(":")
        if not colon or not _NAME.fullmatch(name):
            raise StartError(f"--header {name!r}: a header is written as 'Name: value'")
        if _CONTROL.search(value) or not value.isascii():
            raise StartError(f"--header {name!r}: its value has characters that a header cannot have")
        if name.lower() in NOT_YOURS:
            raise StartError(f"--header {name!r}: this one is written by the generator")
        found[name] = value.strip()
    return found


def request(where: Target, path: str, extra: Mapping[str, str], body: bytes) -> bytes:
    """A POST as it goes over the wire. What `extra` names is not set otherwise."""
    given = {name.lower() for name in extra}
    own = {"Host": where.address, "Content-Type": "application/json"}
    lines = [f"{name}: {value}" for name, value in own.items() if name.lower() not in given]
    lines += [f"{name}: {value}" for name, value in extra.items()]
    head = "\r\n".join([f"POST {path} HTTP/1.1", *lines, f"Content-Length: {len(body)}", "", ""])
    return head.encode("ascii") + body


def _tls(ca_file: Path | None, insecure: bool) -> ssl.SSLContext:
    try:
        context = ssl.create_default_context(cafile=ca_file)
    except (OSError, ssl.SSLError) as error:
        raise StartError(f"--ca-file {ca_file}: {error.strerror or error}") from None
    if insecure:
        context.check_hostname = False
        context.verify_mode = ssl.CERT_NONE
    return context
