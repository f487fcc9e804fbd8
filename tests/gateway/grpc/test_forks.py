"""gRPC's library and worker processes that start beside it."""

from __future__ import annotations

import subprocess
import sys

SCRIPT = """
import asyncio
import uvloop
from gateway.grpc import server
import grpc
from inference.spawn import spawn

async def call(channel):
    while True:
        try:
            await channel.unary_unary("/a/b")(b"")
        except grpc.aio.AioRpcError:
            pass

async def start():
    process, channel = await spawn()
    channel.close()
    return await process.wait()

async def main():
    door = grpc.aio.server()
    port = door.add_insecure_port("127.0.0.1:0")
    await door.start()
    async with grpc.aio.insecure_channel(f"127.0.0.1:{port}") as channel:
        calling = [asyncio.create_task(call(channel)) for _ in range(4)]
        for _ in range(6):
            print(*await asyncio.gather(*[start() for _ in range(2)]))
        for each in calling:
            each.cancel()
        await asyncio.wait(calling)
    await door.stop(0)

with asyncio.Runner(loop_factory=uvloop.new_event_loop) as runner:
    runner.run(main())
"""


def test_the_library_does_nothing_to_a_process_that_becomes_a_worker() -> None:
    """Its handlers would say that they are skipped, or end a child now and then with a segmentation fault."""
    ended = subprocess.run([sys.executable, "-c", SCRIPT], capture_output=True, text=True, timeout=100, check=False)
    assert (ended.returncode, ended.stdout.split()) == (0, ["0"] * 12), ended.stderr
    assert "fork" not in ended.stderr
