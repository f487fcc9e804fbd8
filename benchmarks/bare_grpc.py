"""The reference for gRPC: a server of grpc.aio whose only method answers a constant, on uvloop."""

from __future__ import annotations

import sys
from typing import Any

import grpc
import uvloop

from sluice.gateway.grpc.health import INFERENCE


async def answer(message: bytes, context: Any) -> bytes:
    return b"y"


async def main(port: int) -> None:
    server = grpc.aio.server()
    handlers: dict[str, Any] = {"ModelInfer": grpc.unary_unary_rpc_method_handler(answer)}
    server.add_generic_rpc_handlers((grpc.method_handlers_generic_handler(INFERENCE, handlers),))
    server.add_insecure_port(f"127.0.0.1:{port}")
    await server.start()
    await server.wait_for_termination()


if __name__ == "__main__":
    uvloop.run(main(int(sys.argv[1])))
