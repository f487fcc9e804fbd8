"""The reference for Redis: an ASGI handler that awaits one GET for each request, as most caches do, and answers."""

from __future__ import annotations

import sys

import redis.asyncio
import uvicorn
from uvicorn._types import ASGIReceiveCallable, ASGISendCallable, Scope

NAME = b"sluice:benchmark:0123456789abcdef0123456789abcdef"
CLIENT = redis.asyncio.Redis.from_url(sys.argv[2]) if __name__ == "__main__" else redis.asyncio.Redis()


async def app(scope: Scope, receive: ASGIReceiveCallable, send: ASGISendCallable) -> None:
    more = True
    while more:
        message = await receive()
        more = message["type"] == "http.request" and message.get("more_body", False)
    body = await CLIENT.get(NAME)
    assert isinstance(body, bytes)
    headers = [(b"content-type", b"application/json"), (b"content-length", str(len(body)).encode())]
    await send({"type": "http.response.start", "status": 200, "headers": headers, "trailers": False})
    await send({"type": "http.response.body", "body": body, "more_body": False})


if __name__ == "__main__":
    uvicorn.run(
        app, port=int(sys.argv[1]), loop="uvloop", http="httptools", lifespan="off", log_level="error", access_log=False
    )
