"""The service `grpc.health.v1.Health`, for load balancers and orchestrators (gRFC A17)."""

from __future__ import annotations

import asyncio
from contextlib import suppress

from sluice.gateway.dialects.v2_grpc.messages import parsed
from sluice.gateway.grpc import health_pb2 as pb
from sluice.gateway.grpc.codes import Code
from sluice.gateway.grpc.methods import CallEnded, Context, MessageBody
from sluice.gateway.serving.catalogue import Catalogue
from sluice.gateway.serving.readiness import Readiness
from sluice.inference.errors import ModelNotFound, ModelNotReady

NOT_SERVING, SERVING, SERVICE_UNKNOWN = (
    int(pb.HealthCheckResponse.ServingStatus.Value(name)) for name in ("NOT_SERVING", "SERVING", "SERVICE_UNKNOWN")
)

SERVICE = "grpc.health.v1.Health"
INFERENCE = "inference.GRPCInferenceService"

LOOK_S = 0.5
"""How often the state is checked, once for all `Watch` calls. That the gateway drains is told at once."""


class HealthService:
    """Tells whether the whole gateway serves, or one model.

    A service is the empty name or `inference.GRPCInferenceService` for the gateway, or the name of a model. From the
    moment that the gateway drains, none of them serves. The state is read when it is asked for. `Watch` calls cost
    nothing until it changes.
    """

    def __init__(self, catalogue: Catalogue, readiness: Readiness) -> None:
        self._catalogue = catalogue
        self._readiness = readiness
        self._stopped = False
        self._change = asyncio.Event()
        self._looking: asyncio.Task[None] | None = None
        self._watching = 0

    def status(self, service: str) -> int:
        """The status of a service now."""
        try:
            whole = service in ("", INFERENCE)
            ready = whole or self._catalogue.resolve(service, None).ready
        except ModelNotFound:
            return SERVICE_UNKNOWN
        except ModelNotReady:
            return NOT_SERVING
        return SERVING if ready and (self._readiness.ready if whole else self._readiness.open) else NOT_SERVING

    async def check(self, body: MessageBody, context: Context) -> bytes:
        """The status of a service. Raises `CallEnded` with `NOT_FOUND` for an unknown one."""
        status = self.status(_service(body))
        if status == SERVICE_UNKNOWN:
            raise CallEnded(Code.NOT_FOUND, b"unknown service; services are named like models")
        return _serialized(status)

    async def watch(self, body: MessageBody, context: Context) -> None:
        """Write the status of a service, and again whenever it changes, until `stop` is called."""
        service = _service(body)
        last: int | None = None
        self._watching += 1
        try:
            while not self._stopped:
                if self._looking is None:
                    self._looking = asyncio.create_task(self._look())
                change = self._change
                status = self.status(service)
                if status != last:
                    await context.write(_serialized(status))
                    last = status
                await change.wait()
        finally:
            self._watching -= 1
            if not self._watching and self._looking is not None:
                self._looking.cancel()
                self._looking = None

    def stop(self) -> None:
        """End all `Watch` calls."""
        self._stopped = True
        self._tell()

    async def _look(self) -> None:
        """Wake the `Watch` calls when anything changes that a status depends on."""
        seen = self._state()
        while True:
            # Once the gateway drains, `noticed` would return at once.
            awaited = asyncio.sleep(LOOK_S) if self._readiness.draining else self._readiness.noticed()
            with suppress(TimeoutError):
                await asyncio.wait_for(awaited, LOOK_S)
            if (now := self._state()) != seen:
                seen = now
                self._tell()

    def _state(self) -> object:
        return self._readiness.ready, self._readiness.open, self._catalogue.readiness_state()

    def _tell(self) -> None:
        change, self._change = self._change, asyncio.Event()
        change.set()


def _serialized(status: int) -> bytes:
    return pb.HealthCheckResponse(status=status).SerializeToString()  # type: ignore[arg-type]  # an enumeration's number


def _service(body: MessageBody) -> str:
    """The service that a request names. Raises `InvalidRequest`."""
    return parsed(pb.HealthCheckRequest, body).service
