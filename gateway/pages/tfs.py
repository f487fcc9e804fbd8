"""TensorFlow Serving's pages: the versions of a model in service, and their inputs and outputs.

They follow the model status and model metadata APIs of https://www.tensorflow.org/tfx/serving/api_rest, with the names
of `get_model_status.proto` and `meta_graph.proto`.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from types import MappingProxyType
from typing import Annotated, Any, TypeAlias

from fastapi import APIRouter, Path
from pydantic import BaseModel

from sluice.gateway.pages.dependencies import CatalogueDependency
from sluice.gateway.pages.errors import problem
from sluice.gateway.pages.openai import ModelCard
from sluice.gateway.pages.parameters import VersionNumber
from sluice.gateway.serving.model import ServedModel
from sluice.inference.types import Datatype, TensorSpec

NameInPath: TypeAlias = Annotated[str, Path(description="A model's name", examples=["digits"], pattern="^[^:]*$")]
"""A colon is not part of a name here: in this protocol's paths, a verb follows it."""

Label: TypeAlias = Annotated[str, Path(description="A version's label", examples=["stable"], pattern="^[^:]*$")]

DTYPES: Mapping[Datatype, str] = MappingProxyType(
    {
        Datatype.BOOL: "DT_BOOL",
        Datatype.BYTES: "DT_STRING",
        Datatype.FP16: "DT_HALF",
        Datatype.BF16: "DT_BFLOAT16",
        Datatype.FP32: "DT_FLOAT",
        Datatype.FP64: "DT_DOUBLE",
    }
)
"""TensorFlow's names of the types whose name is not `DT_` and the name here, as it is for integers."""


class Status(BaseModel):
    """Whether a version is well."""

    error_code: str
    error_message: str


class VersionStatus(BaseModel):
    """One version."""

    version: str
    state: str
    status: Status


class ModelStatus(BaseModel):
    """The versions of a model that were asked for, highest first."""

    model_version_status: list[VersionStatus]


class SharedModelPage(ModelCard, ModelStatus):
    """A model for clients of TensorFlow Serving and of OpenAI, whose APIs have the same path for it."""


NOT_FOUND = problem(404, "Unknown model or version")

router = APIRouter(prefix="/v1/models", tags=["TensorFlow Serving"])


@router.get("/{model}", summary="A model and its versions", responses=NOT_FOUND)
async def model_status(model: NameInPath, catalogue: CatalogueDependency) -> SharedModelPage:
    versions = _status(catalogue.versions(model)[::-1])
    return SharedModelPage(id=model, model_version_status=versions.model_version_status)


@router.get("/{model}/versions/{version}", summary="One version of a model", responses=NOT_FOUND)
async def version_status(model: NameInPath, version: VersionNumber, catalogue: CatalogueDependency) -> ModelStatus:
    return _status([catalogue.resolve(model, version)])


@router.get("/{model}/labels/{label}", summary="The version with a label", responses=NOT_FOUND)
async def label_status(model: NameInPath, label: Label, catalogue: CatalogueDependency) -> ModelStatus:
    return _status([catalogue.resolve(model, None, label)])


@router.get("/{model}/metadata", summary="What a model takes and gives", responses=NOT_FOUND)
async def model_metadata(model: NameInPath, catalogue: CatalogueDependency) -> dict[str, Any]:
    return _metadata(catalogue.resolve(model, None))


@router.get("/{model}/versions/{version}/metadata", summary="What a version takes and gives", responses=NOT_FOUND)
async def version_metadata(model: NameInPath, version: VersionNumber, catalogue: CatalogueDependency) -> dict[str, Any]:
    return _metadata(catalogue.resolve(model, version))


@router.get("/{model}/labels/{label}/metadata", summary="What a label's version takes", responses=NOT_FOUND)
async def label_metadata(model: NameInPath, label: Label, catalogue: CatalogueDependency) -> dict[str, Any]:
    return _metadata(catalogue.resolve(model, None, label))


def _status(versions: Sequence[ServedModel]) -> ModelStatus:
    return ModelStatus(
        model_version_status=[
            VersionStatus(
                version=str(each.version),
                state="AVAILABLE" if each.ready else "LOADING",
                status=Status(
                    error_code="OK" if each.ready else "UNAVAILABLE",
                    error_message="" if each.ready else "no worker process lives; one is being started",
                ),
            )
            for each in versions
        ]
    )


def _metadata(served: ServedModel) -> dict[str, Any]:
    definition = {
        "inputs": {spec.name: _tensor_info(spec) for spec in served.signature.inputs},
        "outputs": {spec.name: _tensor_info(spec) for spec in served.signature.outputs},
        "method_name": "tensorflow/serving/predict",
    }
    return {
        "model_spec": {"name": served.name, "signature_name": "", "version": str(served.version)},
        "metadata": {"signature_def": {"signature_def": {"serving_default": definition}}},
    }


def _tensor_info(spec: TensorSpec) -> dict[str, Any]:
    dims = [{"size": str(-1 if size is None else size), "name": ""} for size in spec.shape]
    return {
        "dtype": DTYPES.get(spec.datatype) or f"DT_{spec.datatype}",
        "tensor_shape": {"dim": dims, "unknown_rank": False},
        "name": spec.name,
    }
