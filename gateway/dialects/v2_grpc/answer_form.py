"""What the answer over gRPC needs to know of its request. It stands apart so that no importer needs protobuf."""

from __future__ import annotations

import msgspec

from sluice.gateway.dialects.v2.outputs import V2AnswerForm


class GrpcAnswerForm(msgspec.Struct, frozen=True, tag="grpc"):
    """Which outputs are wanted as `classes`, and whether the answer has to say that it is the `final` one."""

    final: bool = False
    classes: V2AnswerForm | None = None
