"""The extensions of the Open Inference Protocol that are served, by Triton's names."""

from __future__ import annotations

_BOTH = ("classification", "model_configuration", "schedule_policy", "statistics")
_REST = ("binary_tensor_data", "logging", "trace")
_REPOSITORY = ("model_repository",)


def rest_extensions(*, repository: bool) -> list[str]:
    """The extensions over REST. `repository`: clients may see and change what is served."""
    return sorted([*_BOTH, *_REST, *(_REPOSITORY if repository else ())])


def grpc_extensions(*, repository: bool) -> list[str]:
    """The extensions over gRPC. `binary_tensor_data` is not one: tensors are binary there anyway."""
    return sorted([*_BOTH, *(_REPOSITORY if repository else ())])
