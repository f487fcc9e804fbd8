"""Triton's shared-memory extension over gRPC. `dialects.v2.shared_memory` says why there is nothing behind it."""

from __future__ import annotations

from sluice.gateway.dialects.v2.shared_memory import no_region, not_served
from sluice.gateway.dialects.v2_grpc import inference_pb2 as pb


class SharedMemoryMethods:
    """The methods of the extension, for memory of the system and of CUDA. Raise `SluiceError`."""

    async def system_status(self, request: pb.SystemSharedMemoryStatusRequest) -> pb.SystemSharedMemoryStatusResponse:
        """An empty list. Raises `NoSuchRegion` if a region is named."""
        if request.name:
            raise no_region("system", request.name)
        return pb.SystemSharedMemoryStatusResponse()

    async def system_register(
        self, request: pb.SystemSharedMemoryRegisterRequest
    ) -> pb.SystemSharedMemoryRegisterResponse:
        """Raises `InvalidRequest`: shared memory is not served."""
        raise not_served("system", request.name)

    async def system_unregister(
        self, _: pb.SystemSharedMemoryUnregisterRequest
    ) -> pb.SystemSharedMemoryUnregisterResponse:
        """Does nothing. Clients unregister everything before they begin."""
        return pb.SystemSharedMemoryUnregisterResponse()

    async def cuda_status(self, request: pb.CudaSharedMemoryStatusRequest) -> pb.CudaSharedMemoryStatusResponse:
        """An empty list. Raises `NoSuchRegion` if a region is named."""
        if request.name:
            raise no_region("cuda", request.name)
        return pb.CudaSharedMemoryStatusResponse()

    async def cuda_register(self, request: pb.CudaSharedMemoryRegisterRequest) -> pb.CudaSharedMemoryRegisterResponse:
        """Raises `InvalidRequest`: shared memory is not served."""
        raise not_served("cuda", request.name)

    async def cuda_unregister(self, _: pb.CudaSharedMemoryUnregisterRequest) -> pb.CudaSharedMemoryUnregisterResponse:
        """Does nothing. Clients unregister everything before they begin."""
        return pb.CudaSharedMemoryUnregisterResponse()
