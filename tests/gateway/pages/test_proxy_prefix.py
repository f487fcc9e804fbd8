from __future__ import annotations

from typing import Any

from sluice.gateway.headers.forwarded_prefix import FORWARDED_PREFIX
from sluice.gateway.pages.middleware import TrailingSlash
from sluice.gateway.pages.proxy_prefix import ProxyPrefix


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
