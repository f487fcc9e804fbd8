from __future__ import annotations

import re
from typing import Any
from urllib.parse import urljoin, urlsplit

import pytest
from hypothesis import given
from hypothesis import strategies as st

from sluice.gateway.pages.middleware import TrailingSlash
from sluice.gateway.pages.proxy_prefix import FORWARDED_PREFIX, MAX_LENGTH, ProxyPrefix, forwarded_prefix, plain_prefix


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


async def passed_on(setting: str, **scope: Any) -> tuple[str, str, bytes]:
    """What an application behind the middleware sees: root path, path, and the path as it was written."""
    seen: list[Any] = []

    async def app(scope: Any, receive: Any, send: Any) -> None:
        seen.append(scope)

    asked: dict[str, Any] = {"type": "http", "path": "/docs", "raw_path": b"/docs", "headers": [], **scope}
    before = dict(asked)
    await TrailingSlash(ProxyPrefix(app, setting), "/v2/")(asked, None, None)  # type: ignore[arg-type]
    assert asked == before
    return seen[0].get("root_path", ""), seen[0]["path"], seen[0]["raw_path"]


TOLD = [(FORWARDED_PREFIX, b"/told")]


async def test_the_settings_come_first_then_the_server_then_the_header() -> None:
    assert await passed_on("") == ("", "/docs", b"/docs")
    assert await passed_on("", headers=TOLD) == ("/told", "/told/docs", b"/told/docs")
    assert await passed_on("/set", headers=TOLD) == ("/set", "/set/docs", b"/set/docs")
    served: dict[str, Any] = {"root_path": "/served", "path": "/served/docs", "raw_path": b"/served/docs"}
    assert await passed_on("", headers=TOLD, **served) == ("/served", "/served/docs", b"/served/docs")
    assert await passed_on("/set", headers=TOLD, **served) == ("/set", "/set/docs", b"/set/docs")
    assert await passed_on("/served", **served) == ("/served", "/served/docs", b"/served/docs")


async def test_a_slash_at_the_end_is_taken_off_under_a_prefix_too() -> None:
    for root in ("", "/served"):
        served: dict[str, Any] = {"root_path": root, "path": f"{root}/v2/", "raw_path": f"{root}/v2/".encode()}
        assert await passed_on("", **served) == (root, f"{root}/v2", f"{root}/v2".encode())
        served = {"root_path": root, "path": f"{root}/docs/", "raw_path": f"{root}/docs/".encode()}
        assert await passed_on("", **served) == (root, f"{root}/docs/", f"{root}/docs/".encode())
