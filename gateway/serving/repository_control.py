"""What clients of any protocol may see and change of the model repository."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path

from sluice.gateway.serving.catalogue import Catalogue
from sluice.gateway.serving.repository_index import IndexEntry, VersionState
from sluice.inference.errors import Forbidden, InvalidRequest, ModelNotFound, StartError


class RepositoryControl:
    """The repository as clients see it. All methods raise `Forbidden` unless `server.model_control` is set."""

    def __init__(self, catalogue: Catalogue, *, allowed: bool) -> None:
        self._catalogue = catalogue
        self.allowed = allowed

    async def index(self, *, only_ready: bool) -> list[IndexEntry]:
        """Every version in service or on its way, and every model of the repository that has none."""
        self._must_be_allowed()
        return [each for each in await self._catalogue.index() if each.state is VersionState.READY or not only_ready]

    async def load(self, model: str, parameters: Mapping[str, object]) -> None:
        """Serve a model as it is in the repository now. Raises `ModelNotFound`, or `InvalidRequest` with the reason."""
        self._must_be_allowed()
        failed = f"failed to load {model[:128]!r}"
        if parameters:
            raise InvalidRequest(
                f"{failed}: loading takes no parameters: models and their configuration are in the repository"
            )
        try:
            await self._catalogue.load(model)
        except ModelNotFound as error:
            raise ModelNotFound(f"{failed}: {error}") from None
        except StartError as error:
            # Clients who may load models act for the operator, so they are told what is wrong with one.
            raise InvalidRequest(f"{failed}: {error}") from None

    async def unload(self, model: str) -> None:
        """Stop serving a model. Raises `ModelNotFound`."""
        self._must_be_allowed()
        await self._catalogue.unload(model)

    def record_sample(self, model: str) -> Path:
        """Have the inputs of the next valid request written to a file beside the model, whose path is returned.

        Raises `ModelNotFound`, or `InvalidRequest` where there is a sample already.
        """
        self._must_be_allowed()
        return self._catalogue.resolve(model, None).record_sample()

    def _must_be_allowed(self) -> None:
        if not self.allowed:
            raise Forbidden("clients may not see or change the repository; server.model_control lets them")
