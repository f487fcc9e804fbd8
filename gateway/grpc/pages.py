"""The methods of `inference.GRPCInferenceService` that are no predictions: server, models and repository."""

from __future__ import annotations

import time
from collections.abc import Awaitable, Callable, Mapping
from typing import TypeAlias, TypeVar

from google.protobuf.json_format import ParseDict
from google.protobuf.message import Message

from sluice.gateway.dialects.v2.codec import model_metadata
from sluice.gateway.dialects.v2.extensions import grpc_extensions
from sluice.gateway.dialects.v2_grpc import inference_pb2 as pb
from sluice.gateway.dialects.v2_grpc.address import call_of
from sluice.gateway.dialects.v2_grpc.messages import parsed
from sluice.gateway.grpc.methods import Context, MessageBody
from sluice.gateway.grpc.shared_memory import SharedMemoryMethods
from sluice.gateway.serving.catalogue import Catalogue
from sluice.gateway.serving.model import ServedModel
from sluice.gateway.serving.model_config_page import model_config_page
from sluice.gateway.serving.model_statistics_page import statistics_page
from sluice.gateway.serving.readiness import Readiness
from sluice.gateway.serving.repository_control import RepositoryControl
from sluice.inference.errors import InvalidRequest, ModelNotFound, ModelNotReady

RepositoryPage: TypeAlias = Callable[[MessageBody, Context], Awaitable[bytes]]
MessageT = TypeVar("MessageT", bound=Message)


class Pages:
    """Answers the methods of the service that are no predictions. They raise `SluiceError`."""

    def __init__(self, catalogue: Catalogue, readiness: Readiness, version: str, control: RepositoryControl) -> None:
        self._catalogue = catalogue
        self._readiness = readiness
        self._version = version
        self._control = control

    def by_method(self) -> Mapping[str, RepositoryPage]:
        """What answers each method, by the method's name."""
        memory = SharedMemoryMethods()
        return {
            "ServerLive": _page(pb.ServerLiveRequest, self.server_live),
            "ServerReady": _page(pb.ServerReadyRequest, self.server_ready),
            "ServerMetadata": _page(pb.ServerMetadataRequest, self.server_metadata),
            "ModelReady": _page(pb.ModelReadyRequest, self.model_ready),
            "ModelMetadata": _page(pb.ModelMetadataRequest, self.model_metadata),
            "ModelConfig": _page(pb.ModelConfigRequest, self.model_config),
            "ModelStatistics": _page(pb.ModelStatisticsRequest, self.model_statistics),
            "RepositoryIndex": _page(pb.RepositoryIndexRequest, self.repository_index),
            "RepositoryModelLoad": _page(pb.RepositoryModelLoadRequest, self.load),
            "RepositoryModelUnload": _page(pb.RepositoryModelUnloadRequest, self.unload),
            "SystemSharedMemoryStatus": _page(pb.SystemSharedMemoryStatusRequest, memory.system_status),
            "SystemSharedMemoryRegister": _page(pb.SystemSharedMemoryRegisterRequest, memory.system_register),
            "SystemSharedMemoryUnregister": _page(pb.SystemSharedMemoryUnregisterRequest, memory.system_unregister),
            "CudaSharedMemoryStatus": _page(pb.CudaSharedMemoryStatusRequest, memory.cuda_status),
            "CudaSharedMemoryRegister": _page(pb.CudaSharedMemoryRegisterRequest, memory.cuda_register),
            "CudaSharedMemoryUnregister": _page(pb.CudaSharedMemoryUnregisterRequest, memory.cuda_unregister),
        }

    async def server_live(self, _: pb.ServerLiveRequest) -> pb.ServerLiveResponse:
        """Whether the process is alive: it answers, and every version can get a worker."""
        return pb.ServerLiveResponse(live=not self._catalogue.stranded(time.monotonic()))

    async def server_ready(self, _: pb.ServerReadyRequest) -> pb.ServerReadyResponse:
        """Whether predictions can be sent here."""
        return pb.ServerReadyResponse(ready=self._readiness.ready)

    async def server_metadata(self, _: pb.ServerMetadataRequest) -> pb.ServerMetadataResponse:
        """The name, version and extensions of this server."""
        extensions = grpc_extensions(repository=self._control.allowed)
        return pb.ServerMetadataResponse(name="sluice", version=self._version, extensions=extensions)

    async def model_ready(self, request: pb.ModelReadyRequest) -> pb.ModelReadyResponse:
        """Whether a model answers predictions; an unknown model does not."""
        try:
            return pb.ModelReadyResponse(ready=self._served(request.name, request.version).ready)
        except (ModelNotFound, ModelNotReady):
            return pb.ModelReadyResponse(ready=False)

    async def model_metadata(self, request: pb.ModelMetadataRequest) -> pb.ModelMetadataResponse:
        """The inputs and outputs of a version, and the versions of its model."""
        served = self._served(request.name, request.version)
        versions = [served] if request.version else self._catalogue.versions(served.name)
        page = model_metadata(
            served.name, served.engine.platform, [each.version for each in versions], served.signature
        )
        return ParseDict(page, pb.ModelMetadataResponse())

    async def model_config(self, request: pb.ModelConfigRequest) -> pb.ModelConfigResponse:
        """The configuration of a version, without the fields that only Sluice has."""
        page = model_config_page(self._served(request.name, request.version))
        config = ParseDict(page.model_dump(exclude={"sluice"}), pb.ModelConfig())
        return pb.ModelConfigResponse(config=config)

    async def model_statistics(self, request: pb.ModelStatisticsRequest) -> pb.ModelStatisticsResponse:
        """The statistics of one version, of all versions of a model, or of all models."""
        if request.version:
            versions = [self._served(request.name, request.version)]
        else:
            names = [request.name] if request.name else self._catalogue.models
            versions = [served for name in names for served in self._catalogue.versions(name)]
        page = statistics_page(versions).model_dump(exclude={"model_stats": {"__all__": {"sluice"}}})
        return ParseDict(page, pb.ModelStatisticsResponse())

    async def repository_index(self, request: pb.RepositoryIndexRequest) -> pb.RepositoryIndexResponse:
        """All versions that are served or loading, and all models of the repository without a version."""
        _must_be_unnamed(request.repository_name)
        response = pb.RepositoryIndexResponse()
        for each in await self._control.index(only_ready=request.ready):
            version = "" if each.version is None else str(each.version)
            response.models.add(name=each.name, version=version, state=each.state, reason=each.reason)
        return response

    async def load(self, request: pb.RepositoryModelLoadRequest) -> pb.RepositoryModelLoadResponse:
        """Load a model as it is in the repository now."""
        _must_be_unnamed(request.repository_name)
        await self._control.load(request.model_name, request.parameters)
        return pb.RepositoryModelLoadResponse()

    async def unload(self, request: pb.RepositoryModelUnloadRequest) -> pb.RepositoryModelUnloadResponse:
        """Unload a model."""
        _must_be_unnamed(request.repository_name)
        await self._control.unload(request.model_name)
        return pb.RepositoryModelUnloadResponse()

    def _served(self, model: str, version: str) -> ServedModel:
        call = call_of(model, version)
        return self._catalogue.resolve(call.model, call.version)


def _must_be_unnamed(repository: str) -> None:
    if repository:
        raise InvalidRequest("there is one repository, and it has no name; leave repository_name empty")


def _page(kind: type[MessageT], answer: Callable[[MessageT], Awaitable[Message]]) -> RepositoryPage:
    """`answer`, which takes messages of one kind, as a method that takes and returns serialized messages."""

    async def page(body: MessageBody, context: Context) -> bytes:
        return (await answer(parsed(kind, body))).SerializeToString()

    return page
