"""`grpc.health.v1`, for load balancers and orchestrators that ask in gRPC (gRFC A17)."""

from __future__ import annotations

import asyncio
from contextlib import suppress
from typing import TypeAlias

import grpc
from grpc_health.v1 import health_pb2 as pb

from gateway.catalogue import Catalogue
from gateway.grpc.messages import parsed
from gateway.shutdown import Drain
from inference.errors import InvalidRequest, ModelNotFound, ModelNotReady

NOT_SERVING, SERVING, SERVICE_UNKNOWN = (
    int(pb.HealthCheckResponse.ServingStatus.Value(name)) for name in ("NOT_SERVING", "SERVING", "SERVICE_UNKNOWN")
)

SERVICE = "grpc.health.v1.Health"
INFERENCE = "inference.GRPCInferenceService"

LOOK_S = 0.5
"""How often a watched status is looked at. That the gateway is on its way out is told at once."""

Context: TypeAlias = grpc.aio.ServicerContext[bytes, bytes]


class Health:
    """Says whether the whole gateway serves, or one model.

    The services are the empty name and `inference.GRPCInferenceService`, which are both the gateway, and the name of
    each model. None of them serves from the moment on that the gateway drains. Nothing is stored: whoever asks, is
    told what is so.
    """

    def __init__(self, catalogue: Catalogue, drain: Drain) -> None:
        self._catalogue = catalogue
        self._drain = drain
        self._stopping = asyncio.Event()

    def status(self, service: str) -> int:
        """The status of a service now."""
        try:
            whole = service in ("", INFERENCE)
            ready = self._catalogue.ready if whole else self._catalogue.resolve(service, None).ready
        except ModelNotFound:
            return SERVICE_UNKNOWN
        except ModelNotReady:
            return NOT_SERVING
        return SERVING if ready and not self._drain.begun else NOT_SERVING

    async def check(self, body: bytes, context: Context) -> bytes:
        """The status of a service; `NOT_FOUND` for one that there is not."""
        status = self.status(await _service(body, context))
        if status == SERVICE_UNKNOWN:
            await context.abort(grpc.StatusCode.NOT_FOUND, "unknown service; services are named like models")
        return _said(status)

    async def watch(self, body: bytes, context: Context) -> None:
        """The status of a service, and again whenever it changes, until the gateway stops."""
        service = await _service(body, context)
        told: int | None = None
        while not self._stopping.is_set():
            status = self.status(service)
            if status != told:
                await context.write(_said(status))
                told = status
            # Once it drains, the only thing to wait for is the end.
            awaited = self._stopping.wait() if self._drain.begun else self._drain.noticed()
            with suppress(TimeoutError):
                await asyncio.wait_for(awaited, LOOK_S)

    def stop(self) -> None:
        """End all watching."""
        self._stopping.set()


def _said(status: int) -> bytes:
    return bytes(pb.HealthCheckResponse(status=status).SerializeToString())


async def _service(body: bytes, context: Context) -> str:
    try:
        return str(parsed(pb.HealthCheckRequest, body).service)
    except InvalidRequest as error:
        await context.abort(grpc.StatusCode.INVALID_ARGUMENT, str(error))
