"""TorchServe's management API: list, describe, register, scale and unregister models, and choose default versions.

https://pytorch.org/serve/management_api.html is the specification. Only models of the repository can be registered:
nothing is downloaded. The number of a model's workers is planned when it is loaded and cannot be changed here.
"""

from __future__ import annotations

import re
from collections.abc import Sequence
from pathlib import Path
from typing import Annotated

from fastapi import APIRouter, Query
from pydantic import BaseModel, BeforeValidator, Field

from sluice.gateway.dialects.torchserve.codec import version_of
from sluice.gateway.pages.dependencies import CatalogueDependency, ModelsPathDependency
from sluice.gateway.serving.catalogue import Catalogue
from sluice.gateway.serving.model import ServedModel
from sluice.inference.backends.registry import ENGINES
from sluice.inference.errors import Forbidden, InvalidRequest, ModelNotFound, ModelNotReady, StartError

LIMIT = 100
"""Models on one page where the client does not say how many. TorchServe has the same default."""

_NUMBER = re.compile(r"-?[0-9]{1,9}", re.ASCII)


class AlreadyRegistered(InvalidRequest):
    """A client registers a model that is in service already, and has not changed in the repository since."""


class Confirmation(BaseModel):
    """What has been done."""

    status: str


class ModelLine(BaseModel):
    """One model of the list."""

    modelName: str  # noqa: N815 - the protocol's names
    modelUrl: str  # noqa: N815


class ModelLines(BaseModel):
    """Some of the models, by name; the next ones begin at `nextPageToken`."""

    nextPageToken: str | None = None  # noqa: N815
    models: list[ModelLine]


class WorkerLine(BaseModel):
    """One worker process."""

    id: str
    status: str
    pid: int
    gpu: bool


class QueueStatus(BaseModel):
    """The queue, in rows."""

    remainingCapacity: int  # noqa: N815
    pendingRequests: int  # noqa: N815


class VersionDescription(BaseModel):
    """One version in service. `batchSize` is the most rows in a batch; no batch waits for others, so its delay is 0."""

    modelName: str  # noqa: N815
    modelVersion: str  # noqa: N815
    modelUrl: str  # noqa: N815
    runtime: str = ENGINES[0].name
    minWorkers: int  # noqa: N815
    maxWorkers: int  # noqa: N815
    batchSize: int  # noqa: N815
    maxBatchDelay: int = 0  # noqa: N815
    workers: list[WorkerLine]
    jobQueueStatus: QueueStatus  # noqa: N815


def _number_or(default: int | None) -> BeforeValidator:
    """Replaces what is no number with a default, as TorchServe does: its clients send `limit=` for no limit."""
    return BeforeValidator(lambda given: int(given) if _NUMBER.fullmatch(str(given)) else default)


class RegisterQuery(BaseModel):
    """The parameters of a registration. TorchServe has more, which are ignored."""

    url: str = Field(description="The model's name, or its folder in the repository.")
    model_name: str | None = Field(None, description="The same name, if it is given.")


class Scale(BaseModel):
    """How many workers a client wants."""

    min_worker: Annotated[int, Field(ge=0), _number_or(1)] = 1
    max_worker: Annotated[int | None, Field(ge=0), _number_or(None)] = None


router = APIRouter(prefix="/models", tags=["TorchServe management"])


@router.get("", summary="The models in service", response_model_exclude_none=True)
async def models(
    catalogue: CatalogueDependency,
    limit: Annotated[int, _number_or(LIMIT), Query()] = LIMIT,
    next_page_token: Annotated[int, _number_or(0), Query()] = 0,
) -> ModelLines:
    names = catalogue.models
    start = max(next_page_token, 0)
    end = start + (limit if limit > 0 else LIMIT)
    return ModelLines(
        nextPageToken=str(end) if end < len(names) else None,
        models=[ModelLine(modelName=name, modelUrl=name) for name in names[start:end]],
    )


@router.post("", summary="Serve a model as it lies in the repository now")
async def register(
    query: Annotated[RegisterQuery, Query()], catalogue: CatalogueDependency, models_path: ModelsPathDependency
) -> Confirmation:
    return await _register(catalogue, _name_of(query, models_path))


@router.get("/{model}", summary="The default version of a model")
async def describe(model: str, catalogue: CatalogueDependency) -> list[VersionDescription]:
    return _descriptions([catalogue.resolve(model, None)])


@router.get("/{model}/all", summary="All versions of a model")
async def describe_all(model: str, catalogue: CatalogueDependency) -> list[VersionDescription]:
    return _descriptions(catalogue.versions(model))


@router.get("/{model}/{version}", summary="One version of a model")
async def describe_version(model: str, version: str, catalogue: CatalogueDependency) -> list[VersionDescription]:
    return _descriptions([catalogue.resolve(model, version_of(model, version))])


@router.put("/{model}", summary="See that a model has as many workers as are wanted")
async def scale(model: str, wanted: Annotated[Scale, Query()], catalogue: CatalogueDependency) -> Confirmation:
    return _scaled(catalogue.resolve(model, None), wanted)


@router.put("/{model}/{version}", summary="See that a version has as many workers as are wanted")
async def scale_version(
    model: str, version: str, wanted: Annotated[Scale, Query()], catalogue: CatalogueDependency
) -> Confirmation:
    return _scaled(catalogue.resolve(model, version_of(model, version)), wanted)


@router.put("/{model}/{version}/set-default", summary="Choose the version of calls that name none")
async def set_default(model: str, version: str, catalogue: CatalogueDependency) -> Confirmation:
    number = version_of(model, version)
    catalogue.set_default(model, number)
    return Confirmation(status=f'Default version successfully updated for model "{model}" to "{number}"')


@router.delete("/{model}", summary="Serve a model no more")
async def unregister(model: str, catalogue: CatalogueDependency) -> Confirmation:
    await catalogue.unload(model)
    return Confirmation(status=f'Model "{model}" unregistered')


@router.delete("/{model}/{version}", summary="Serve a version no more")
async def unregister_version(model: str, version: str, catalogue: CatalogueDependency) -> Confirmation:
    served = catalogue.resolve(model, version_of(model, version))
    if served is catalogue.resolve(model, None) and len(catalogue.versions(model)) > 1:
        raise Forbidden(f"cannot remove default version {served.version} of model {model!r}; set another one first")
    await catalogue.unload(model, served.version)
    return Confirmation(status=f'Model "{model}" unregistered')


def _name_of(query: RegisterQuery, repository: Path) -> str:
    """The model that a URL names. Raises `InvalidRequest` if it does not lie in the repository."""
    folder = Path(query.url)
    if folder.is_absolute() and folder.parent == repository.absolute():
        folder = Path(folder.name)
    if "://" in query.url or folder.is_absolute() or len(folder.parts) != 1 or folder.name in ("", ".."):
        raise InvalidRequest(
            f"url is {query.url[:128]!r}; expected the name of a model in the repository: nothing is downloaded, and "
            "nothing beside the repository is read"
        )
    if query.model_name and query.model_name != folder.name:
        raise InvalidRequest(
            f"model_name is {str(query.model_name)[:128]!r}; models are called as their folder is, {folder.name!r}"
        )
    return folder.name


async def _register(catalogue: Catalogue, name: str) -> Confirmation:
    before = _in_service(catalogue, name)
    try:
        await catalogue.load(name)
    except StartError as error:
        # Only operators reach this port, so they may read what is wrong with a model.
        raise InvalidRequest(f"failed to load {name!r}: {error}") from None
    served = catalogue.resolve(name, None)
    after = _in_service(catalogue, name)
    if len(after) == len(before) and all(one is other for one, other in zip(before, after, strict=True)):
        raise AlreadyRegistered(f"model version {served.version} is already registered for model {name!r}")
    workers = served.health().workers_alive
    return Confirmation(status=f'Model "{name}" Version: {served.version} registered with {workers} initial workers')


def _in_service(catalogue: Catalogue, name: str) -> Sequence[ServedModel]:
    """The versions in service, or none. After a load that changed nothing they are the same objects."""
    try:
        return catalogue.versions(name)
    except (ModelNotFound, ModelNotReady):
        return ()


def _scaled(served: ServedModel, wanted: Scale) -> Confirmation:
    count = served.health().workers_alive
    if wanted.min_worker > count or (wanted.max_worker is not None and wanted.max_worker < count):
        raise InvalidRequest(
            f"model {served.name!r} has {count} workers; their number is planned when it loads: set workers.count in "
            "its model.toml, and register it again"
        )
    return Confirmation(status=f"Workers scaled to {count} for model: {served.name}")


def _descriptions(versions: Sequence[ServedModel]) -> list[VersionDescription]:
    return [_description(each) for each in versions]


def _description(served: ServedModel) -> VersionDescription:
    model, health = served.description(), served.health()
    on_gpu = model.config.workers.device != "cpu"
    return VersionDescription(
        modelName=served.name,
        modelVersion=str(served.version),
        modelUrl=served.name,
        runtime=model.engine.name,
        minWorkers=health.workers_alive,
        maxWorkers=health.workers_alive,
        batchSize=model.plan.max_rows if health.batched else 1,
        workers=[
            WorkerLine(id=str(number), status="READY", pid=pid, gpu=on_gpu)
            for number, pid in enumerate(health.worker_pids)
        ],
        jobQueueStatus=QueueStatus(
            remainingCapacity=max(model.config.batching.max_queue_rows - health.queue_rows, 0),
            pendingRequests=health.queue_rows,
        ),
    )
