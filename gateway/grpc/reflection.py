"""gRPC's server reflection: tools such as grpcurl ask it for the services and their messages."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Callable, Sequence

from google.protobuf import text_format
from google.protobuf.descriptor import FileDescriptor
from google.protobuf.descriptor_pb2 import FileDescriptorProto
from google.protobuf.descriptor_pool import DescriptorPool

from sluice.gateway.dialects.v2_grpc.messages import parsed
from sluice.gateway.grpc import reflection_v1alpha_pb2 as pb
from sluice.gateway.grpc.codes import Code
from sluice.gateway.grpc.methods import Context, MessageBody

VERSIONS = ("grpc.reflection.v1alpha.ServerReflection", "grpc.reflection.v1.ServerReflection")
"""The names of the service. Both versions have the same messages, in different packages."""

INFO = "ServerReflectionInfo"


class Reflection:
    """Describes `services`. `files` are the serialized descriptors of their messages; it adds its own."""

    def __init__(self, files: Sequence[bytes], services: Sequence[str]) -> None:
        # A pool of its own, so that no other package's descriptors of the same names collide with these.
        self._pool = DescriptorPool()
        for file in (*files, *_described()):
            self._pool.AddSerializedFile(file)
        self._services = sorted(services)

    async def info(self, bodies: AsyncIterator[MessageBody], context: Context) -> None:
        """Write an answer for each request of a stream. Raises `InvalidRequest`."""
        async for body in bodies:
            request = parsed(pb.ServerReflectionRequest, body)
            response = self._response(request)
            response.valid_host = request.host
            response.original_request.CopyFrom(request)
            await context.write(response.SerializeToString())
            # Others have their turn, even if a client sends thousands of requests.
            await asyncio.sleep(0)

    def _response(self, request: pb.ServerReflectionRequest) -> pb.ServerReflectionResponse:
        match request.WhichOneof("message_request"):
            case "list_services":
                services = [pb.ServiceResponse(name=name) for name in self._services]
                return pb.ServerReflectionResponse(list_services_response=pb.ListServiceResponse(service=services))
            case "file_by_filename":
                return _files(self._pool.FindFileByName, request.file_by_filename)
            case "file_containing_symbol":
                return _files(self._pool.FindFileContainingSymbol, request.file_containing_symbol)
            case "all_extension_numbers_of_type":
                return self._extensions(request.all_extension_numbers_of_type)
            case _:
                return _fault(Code.NOT_FOUND, "there is nothing of that kind here")

    def _extensions(self, name: str) -> pb.ServerReflectionResponse:
        try:
            self._pool.FindMessageTypeByName(name)
        except KeyError:
            return _fault(Code.NOT_FOUND, "there is no message of that name")
        none = pb.ExtensionNumberResponse(base_type_name=name)
        return pb.ServerReflectionResponse(all_extension_numbers_response=none)


def _described() -> tuple[bytes, bytes]:
    """The descriptor of each version: they differ in the package alone."""
    alpha = pb.DESCRIPTOR.serialized_pb
    text = text_format.MessageToString(FileDescriptorProto.FromString(alpha))
    return alpha, text_format.Parse(text.replace("v1alpha", "v1"), FileDescriptorProto()).SerializeToString()


def _files(find: Callable[[str], FileDescriptor], name: str) -> pb.ServerReflectionResponse:
    try:
        file = find(name)
    except KeyError:
        return _fault(Code.NOT_FOUND, "there is no file or symbol of that name")
    found = pb.FileDescriptorResponse(file_descriptor_proto=[file.serialized_pb])
    return pb.ServerReflectionResponse(file_descriptor_response=found)


def _fault(code: Code, message: str) -> pb.ServerReflectionResponse:
    return pb.ServerReflectionResponse(error_response=pb.ErrorResponse(error_code=code, error_message=message))
