"""Shared memory over gRPC: there are no regions, and there will be none. What clients ask beforehand is answered."""

from __future__ import annotations

from sluice.gateway.dialects.v2.shared_memory import no_region, not_served
from sluice.gateway.dialects.v2_grpc import inference_pb2 as pb


class SharedMemoryMethods:
    """The methods of Triton's shared-memory extension, for memory of the system and of CUDA. Raise `SluiceError`."""

    async def system_status(self, request: pb.SystemSharedMemoryStatusRequest) -> pb.SystemSharedMemoryStatusResponse:
        """No regions; asked for one by name, an error."""
        if request.name:
            raise no_region("system", request.name)
        return pb.SystemSharedMemoryStatusResponse()

    async def system_register(
        self, request: pb.SystemSharedMemoryRegisterRequest
    ) -> pb.SystemSharedMemoryRegisterResponse:
        """Refused."""
        raise not_served("system", request.name)

    async def system_unregister(
        self, _: pb.SystemSharedMemoryUnregisterRequest
    ) -> pb.SystemSharedMemoryUnregisterResponse:
        """Nothing to be done."""
        return pb.SystemSharedMemoryUnregisterResponse()

    async def cuda_status(self, request: pb.CudaSharedMemoryStatusRequest) -> pb.CudaSharedMemoryStatusResponse:
        """No regions; asked for one by name, an error."""
        if request.name:
            raise no_region("cuda", request.name)
        return pb.CudaSharedMemoryStatusResponse()

    async def cuda_register(self, request: pb.CudaSharedMemoryRegisterRequest) -> pb.CudaSharedMemoryRegisterResponse:
        """Refused."""
        raise not_served("cuda", request.name)

    async def cuda_unregister(self, _: pb.CudaSharedMemoryUnregisterRequest) -> pb.CudaSharedMemoryUnregisterResponse:
        """Nothing to be done."""
        return pb.CudaSharedMemoryUnregisterResponse()
