"""What clients may see and change of the model repository, in whatever dialect they ask."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path

from sluice.gateway.serving.catalogue import Catalogue
from sluice.gateway.serving.repository_index import IndexEntry, VersionState
from sluice.inference.errors import Forbidden, InvalidRequest, ModelNotFound, StartError


class RepositoryControl:
    """The repository to clients. Raises `Forbidden` unless the operator has set `server.model_control`."""

    def __init__(self, catalogue: Catalogue, *, allowed: bool) -> None:
        self._catalogue = catalogue
        self.allowed = allowed

    async def index(self, *, only_ready: bool) -> list[IndexEntry]:
        """Every version in service or on its way, and every model of the repository that has none."""
        self._must_be_allowed()
        return [each for each in await self._catalogue.index() if each.state is VersionState.READY or not only_ready]

    async def load(self, model: str, parameters: Mapping[str, object]) -> None:
        """Serve a model as it lies in the repository now. Raises `ModelNotFound`, or `InvalidRequest` with why not."""
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
            # Who may load models is an operator, and is told what is wrong with them.
            raise InvalidRequest(f"{failed}: {error}") from None

    async def unload(self, model: str) -> None:
        """Serve a model no more. Raises `ModelNotFound`."""
        self._must_be_allowed()
        await self._catalogue.unload(model)

    def record_sample(self, model: str) -> Path:
        """Have the inputs of the next valid request written beside the model, and say where.

        Raises `ModelNotFound`, or `InvalidRequest` where a sample is there already.
        """
        self._must_be_allowed()
        return self._catalogue.resolve(model, None).record_sample()

    def _must_be_allowed(self) -> None:
        if not self.allowed:
            raise Forbidden("clients may not see or change the repository; server.model_control lets them")
