from __future__ import annotations

import re
from urllib.parse import urljoin, urlsplit

import pytest
from hypothesis import given
from hypothesis import strategies as st

from sluice.gateway.headers.forwarded_prefix import FORWARDED_PREFIX, MAX_LENGTH, forwarded_prefix, plain_prefix


@pytest.mark.parametrize(
    ("text", "prefix"),
    [
        ("", ""),
        ("/", ""),
        ("/ml", "/ml"),
        ("/ml/", "/ml"),
        ("/ml/sluice", "/ml/sluice"),
        ("/a.b-c_d~e/1", "/a.b-c_d~e/1"),
        ("/.well-known/...", "/.well-known/..."),
        ("/" + "a" * (MAX_LENGTH - 1), "/" + "a" * (MAX_LENGTH - 1)),
    ],
)
def test_a_plain_path_is_a_prefix(text: str, prefix: str) -> None:
    assert plain_prefix(text) == prefix
    assert forwarded_prefix([(FORWARDED_PREFIX, text.encode())]) == prefix


@pytest.mark.parametrize(
    "text",
    [
        "ml",
        "//evil.example",
        "//",
        "/a//b",
        "/..",
        "/a/../b",
        "/.",
        "/a/./b",
        "/\\evil.example",
        "https://evil.example",
        "/a?b",
        "/a#b",
        "/%2e%2e",
        "/a b",
        "/a\n",
        "/a\r\nx: y",
        '/"><script>',
        "/caf\u00e9",
        "/a;b",
        "/a:b",
        "javascript:alert(1)",
        "/" + "a" * MAX_LENGTH,
    ],
)
def test_what_is_no_plain_path_is_no_prefix(text: str) -> None:
    assert plain_prefix(text) is None
    assert forwarded_prefix([(FORWARDED_PREFIX, text.encode() + b"/")]) == ""


def test_proxies_in_a_row_have_their_prefixes_in_a_row() -> None:
    """The first one's was the first to be taken off, whether each adds to the header or a header of its own."""
    assert forwarded_prefix([(FORWARDED_PREFIX, b"/a, /b/")]) == "/a/b"
    assert forwarded_prefix([(FORWARDED_PREFIX, b"/a"), (b"x", b"/c"), (FORWARDED_PREFIX, b"/b")]) == "/a/b"
    assert forwarded_prefix([(FORWARDED_PREFIX, b"/, /b,")]) == "/b"
    assert forwarded_prefix([(FORWARDED_PREFIX, b"/a, //b")]) == ""
    assert forwarded_prefix([(FORWARDED_PREFIX, b"/" + b"a" * 200), (FORWARDED_PREFIX, b"/" + b"b" * 200)]) == ""
    assert forwarded_prefix([]) == ""


@given(st.lists(st.text("/\\.,:;%?#@ aZ0-~_<\"'\r\n\t\xe9") | st.text(), max_size=3))
def test_whatever_the_header_says_it_leads_nowhere_else(values: list[str]) -> None:
    headers = [(FORWARDED_PREFIX, value.encode("utf-8", "surrogatepass")) for value in values]
    prefix = forwarded_prefix(headers)
    assert re.fullmatch(r"[A-Za-z0-9._~/-]{0,256}", prefix)
    target = urlsplit(urljoin("https://here.example/docs", prefix + "/metrics"))
    assert (target.scheme, target.netloc) == ("https", "here.example")
    assert target.path == prefix + "/metrics"
