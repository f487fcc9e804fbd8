"""What must stand in no line of the log: credentials, bodies, and what commands a terminal or looks like a line."""

from __future__ import annotations

import asyncio
import gc
import io
import json
import logging
import math
from collections.abc import Iterator, Sequence

import pytest

from sluice.gateway.commands.show_settings import as_json_text, as_table
from sluice.gateway.http.asgi import AsgiLane, AsgiScope, Receive, Send
from sluice.gateway.http.lane import make_lane
from sluice.gateway.messages import Body, Header, HttpResponse
from sluice.gateway.settings.load import SettingsError, load_settings
from sluice.gateway.telemetry.logs import Mask, configure_logs, log
from sluice.gateway.telemetry.tracebacks import unquoted
from tests import logs
from tests.gateway.http.planes import PuppetPlane
from tests.gateway.http.servers import Client, Served, request

MARK = "hunter2hunter2"


@pytest.fixture(params=["json", "console"])
def stream(request: pytest.FixtureRequest) -> Iterator[io.StringIO]:
    stream = io.StringIO()
    with logs.restored():
        configure_logs(request.param, "debug", stream, secrets=["known-secret"])
        yield stream


class FailingPlane(PuppetPlane):
    """Fails with the body in the exception, in its notes, in its cause, and in the variables around it."""

    async def answer(
        self, route: str, method: str, headers: Sequence[Header], body: Body, came_s: float = math.inf
    ) -> HttpResponse:
        secret = dict(headers)
        assert isinstance(body, bytes | bytearray)
        try:
            try:
                int(body)
            except ValueError as error:
                error.add_note(f"with {secret!r}")
                raise KeyError(bytes(body)) from error
        except KeyError as error:
            raise ExceptionGroup(f"{body!r} and {body.decode()!r}", [error]) from error
        raise AssertionError


class FailingApp:
    """Fails like the plane, after its task has left one behind whose exception nobody looks at."""

    async def __call__(self, scope: AsgiScope, receive: Receive, send: Send) -> None:
        message = await receive()

        async def fail() -> None:
            int(message["body"])

        task = asyncio.create_task(fail())
        await asyncio.wait([task])
        del task
        gc.collect()
        raise RuntimeError({"scope": scope, "message": message})


@pytest.mark.parametrize("path", ["/v2/boom", "/app/boom"])
def test_no_traceback_shows_what_came_from_a_caller(stream: io.StringIO, path: str) -> None:
    plane = FailingPlane()
    with Served(AsgiLane(plane, FailingApp()), http=make_lane(plane)) as server, Client(server.address) as client:
        headers = (f"Authorization: Bearer {MARK}", f"Cookie: a={MARK}", f"X-Api-Key: {MARK}")
        client.send(request(f"{path}?token={MARK}", MARK.encode(), *headers))
        assert client.answer().status == 500
    told = stream.getvalue()
    assert MARK not in told
    assert "RuntimeError" in told or "ExceptionGroup" in told
    assert "test_secrets.py" in told


def test_a_known_secret_is_masked_wherever_it_stands(stream: io.StringIO) -> None:
    log.warning("cannot reach redis://:known-secret@host", because="known-secret", deep={"a": ["known-secret"]})
    logging.getLogger("other").error("of others: %s", "known-secret")
    assert "known-secret" not in stream.getvalue()
    assert stream.getvalue().count("**********") == 4


def test_a_secret_is_masked_in_each_form_that_it_may_have() -> None:
    mask = Mask(['pass"word/é', "abc"])
    for form in ('pass"word/é', "pass%22word%2F%C3%A9", json.dumps('pass"word/é')):
        assert "word" not in mask(None, "", f"a line with {form} in it")
    assert mask(None, "", "abc is too short to be told from a word") == "abc is too short to be told from a word"


@pytest.mark.parametrize(
    "text", ["a\nb", 'a\n{"event": "forged", "level": "info"}', "a\x1b[2J\x1b]0;b\x07", "a\r\x00b", "a\u2028b\x9bb"]
)
def test_no_text_makes_a_line_of_its_own(stream: io.StringIO, text: str) -> None:
    log.info("prediction", model=text, request_id=text)
    logging.getLogger("other").warning("of others: %s", text)
    try:
        raise ValueError(text)
    except ValueError:
        log.exception(text)
    lines = stream.getvalue().splitlines()
    assert not any(character in stream.getvalue() for character in "\x1b\x07\r\x00\x9b\u2028")
    if lines[0].startswith("{"):
        assert [json.loads(line)["level"] for line in lines] == ["info", "warning", "error"]
    else:
        assert not any(line.startswith(("b", "{")) for line in lines)


@pytest.mark.parametrize(
    ("text", "bare"),
    [
        ("invalid literal for int() with base 10: 'x y'", "invalid literal for int() with base 10: '…'"),
        ("can't read b'x' of bytearray(b\"y'z\")", "can't read '…' of bytearray('…')"),
        (r"{'a': 'it\'s'} is one", "{'…': '…'} is one"),
        ("cut off 'in the middle", "cut off '…'"),
        ("the client's own", "the client's own"),
        ("z" * 600, "z" * 500 + "…"),
    ],
)
def test_what_an_exception_quotes_is_left_out(text: str, bare: str) -> None:
    assert unquoted(text) == bare


def test_credentials_of_the_settings_are_known() -> None:
    settings = load_settings(
        {
            "cache.redis_url": "redis://me:p%40ss-word@host:6379/0",
            "tracing.endpoint": "https://user-token@host/v1/traces?key=query-token",
            "tracing.headers": "authorization=Bearer header-token,x=other",
        },
        environ={},
    ).settings
    assert {"p%40ss-word", "p@ss-word", "user-token", "key=query-token", "Bearer header-token"} <= set(settings.secrets)


@pytest.mark.parametrize(
    ("name", "value"),
    [
        ("SLUICE_CACHE_REDIS_URL", f"mysql://me:{MARK}@host"),
        ("SLUICE_CACHE_REDIS_URL", f"redis://me:{MARK}@host/0"),
        ("SLUICE_TRACING_ENDPOINT", f"ftp://me:{MARK}@host/?key={MARK}"),
        ("SLUICE_TRACING_ENDPOINT", f"http://me:{MARK}@host/?key={MARK}"),
        ("SLUICE_TRACING_HEADERS", MARK),
    ],
)
def test_settings_are_told_without_secrets(name: str, value: str) -> None:
    try:
        loaded = load_settings({}, environ={name: value})
    except SettingsError as error:
        told = str(error)
    else:
        told = as_table(loaded) + as_json_text(loaded)
    assert MARK not in told
    assert name in told
