"""What is called, and what every request begins with."""

from __future__ import annotations

import ssl
from pathlib import Path

import pytest

from sluice.inference.errors import StartError
from sluice.loadgen.target import headers, request, target


@pytest.mark.parametrize(
    ("url", "host", "port", "path"),
    [
        ("http://127.0.0.1:8000", "127.0.0.1", 8000, "/"),
        ("http://example.org/v2/models/m/infer?x=1", "example.org", 80, "/v2/models/m/infer?x=1"),
        ("http://[::1]:81/", "::1", 81, "/"),
    ],
)
def test_a_url_names_a_server_and_a_path(url: str, host: str, port: int, path: str) -> None:
    found = target(url)

    assert (found.host, found.port, found.path, found.tls) == (host, port, path, None)


def test_https_is_verified_unless_it_is_asked_not_to_be() -> None:
    careful, careless = target("https://example.org").tls, target("https://example.org", insecure=True).tls

    assert careful is not None
    assert careless is not None
    assert target("https://example.org").port == 443
    assert (careful.verify_mode, careful.check_hostname) == (ssl.CERT_REQUIRED, True)
    assert careless.verify_mode == ssl.CERT_NONE


@pytest.mark.parametrize(
    ("url", "words"),
    [
        ("nonsense", "looks like http://"),
        ("ftp://example.org", "looks like http://"),
        ("http://", "looks like http://"),
        ("http://example.org:99999", "not a URL"),
        ("http://[::1", "not a URL"),
        ("http://me:secret@example.org", "--header"),
        ("http://example.org/a b", "%XX"),
        ("http://example.org/ä", "%XX"),
    ],
)
def test_what_is_no_url_is_told(url: str, words: str) -> None:
    with pytest.raises(StartError, match=words):
        target(url)


def test_a_certificate_is_about_https(tmp_path: Path) -> None:
    with pytest.raises(StartError, match="about https"):
        target("http://example.org", insecure=True)
    nonsense = tmp_path / "ca.pem"
    nonsense.write_text("nonsense")
    with pytest.raises(StartError, match=r"ca\.pem"):
        target("https://example.org", nonsense)


def test_a_request_says_its_length_and_what_it_was_given() -> None:
    whole = request(target("http://[::1]:81"), "/infer", {"Authorization": "Bearer x", "content-type": "text/x"}, b"ab")

    head, body = whole.split(b"\r\n\r\n")
    assert body == b"ab"
    assert head.split(b"\r\n") == [
        b"POST /infer HTTP/1.1",
        b"Host: [::1]:81",
        b"Authorization: Bearer x",
        b"content-type: text/x",
        b"Content-Length: 2",
    ]


def test_headers_are_read_as_they_are_written() -> None:
    assert headers(["X-One: 1", "Authorization:Bearer a:b"]) == {"X-One": "1", "Authorization": "Bearer a:b"}


@pytest.mark.parametrize(
    "line", ["nothing", "a b: c", ": c", "X: a\r\nY: b", "X: a\0", "X: ä", "content-length: 3", "Connection: close"]
)
def test_a_header_that_cannot_be_sent_is_told(line: str) -> None:
    with pytest.raises(StartError, match="--header"):
        headers([line])
