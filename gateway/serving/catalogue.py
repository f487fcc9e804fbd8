"""The versions in service: how a name becomes one of them, and how they come and go while others are called."""

from __future__ import annotations

import asyncio
from collections.abc import Iterable, Mapping, Sequence

from sluice.cache.cache import Cache
from sluice.gateway.serving.model import ServedModel
from sluice.gateway.serving.repository_index import IndexEntry, index_entries
from sluice.gateway.serving.version_loader import LoadedVersion, VersionLoader
from sluice.gateway.settings.load import Settings
from sluice.gateway.telemetry.logs import log
from sluice.gateway.telemetry.metrics import Metrics
from sluice.gateway.telemetry.tracing.tracer import Tracer
from sluice.inference.errors import ModelNotFound, ModelNotReady, StartError, VersionNotFound
from sluice.inference.repository.scan import BrokenModel, ModelVersion, model_names, scan_model


class Catalogue:
    """The versions in service, by name. An async context manager that owns them all.

    Entering loads the versions of `sources`. One that cannot be loaded is broken, as `broken` already is, and does not
    keep others from being served. Where nothing can be served, or anything is broken and `models.strict` is set,
    entering fails with a `StartError` that names all that is broken, and leaves nothing behind.

    Later changes come one after another. New versions are warm before they are called, and all that changes for a model
    changes at once. Versions that were replaced answer what they had accepted, and then end in the background.
    """

    def __init__(
        self,
        sources: Iterable[ModelVersion],
        settings: Settings,
        metrics: Metrics,
        cache: Cache,
        tracer: Tracer | None = None,
        broken: Iterable[BrokenModel] = (),
    ) -> None:
        self._sources = tuple(sources)
        self._broken: dict[str, tuple[BrokenModel, ...]] = {}
        for each in broken:
            self._break(each)
        self._settings = settings
        metrics.watch_broken(lambda: len(self.broken))
        self._loader = VersionLoader(settings, metrics, cache, tracer)
        self._entered = False
        self._versions: dict[str, dict[int, LoadedVersion]] = {}
        self._default: dict[str, ServedModel] = {}
        self._chosen: dict[str, int] = {}
        self._loading: set[str] = set()
        self._changing = asyncio.Lock()
        self._changer: asyncio.Task[object] | None = None

    async def __aenter__(self) -> Catalogue:
        loaded: list[LoadedVersion] = []
        try:
            for source in self._sources:
                loaded += await self._load_or_break(source)
            if self._broken and (self._settings.models.strict or not loaded):
                raise StartError(self._all_reasons())
        except BaseException:
            await self._loader.end(loaded)
            raise
        for name in {each.served.name for each in loaded}:
            self._put(name, [each for each in loaded if each.served.name == name])
        for broken in self.broken:
            log.error("a model cannot be served", model=broken.name, version=broken.version, because=broken.reason)
        self._entered = True
        return self

    async def __aexit__(self, *_: object) -> None:
        self._entered = False
        if self._changer is not None:
            self._changer.cancel()
        async with self._changing:
            loaded = [each for versions in self._versions.values() for each in versions.values()]
            self._versions.clear()
            self._default.clear()
            await self._loader.end(loaded)
            await self._loader.ended()

    # What is in service.

    def resolve(self, model: str, version: int | None, label: str | None = None) -> ServedModel:
        """The version that a caller means. Raises `ModelNotFound`, or `ModelNotReady` for one that is broken.

        An empty name means the default model: `models.default`, or the only one that there is. Without a version or a
        label, the model's default version is meant: the highest, unless another was chosen.
        """
        if not model:
            model = self.default_model
        if label is not None:
            version = self._labelled(model, label)
        if version is None:
            served = self._default.get(model)
        else:
            loaded = self._versions.get(model, {}).get(version)
            served = None if loaded is None else loaded.served
        if served is None:
            raise self._not_found(model, version)
        return served

    @property
    def default_model(self) -> str:
        """The model of calls that name none. Raises `ModelNotFound` if none is set and there is not exactly one."""
        named = self._settings.models.default
        if named is not None:
            return named
        # Broken models count: a call that was meant for one of them must not go to the only other one.
        if len(there := {*self._versions, *self._broken}) == 1:
            return there.pop()
        raise ModelNotFound(
            "the call names no model, and several are served or none: name one, or have the operator set models.default"
        )

    def versions(self, model: str) -> tuple[ServedModel, ...]:
        """All versions of a model, lowest first. Raises `ModelNotFound`."""
        if model not in self._versions:
            raise self._not_found(model, None)
        return tuple([each.served for each in self._versions[model].values()])

    @property
    def models(self) -> tuple[str, ...]:
        """The names in service, in alphabetical order."""
        return tuple(sorted(self._versions))

    @property
    def ready(self) -> bool:
        """Whether every version in service has a living worker; false before loading and after leaving."""
        return self._entered and all(each.ready for each in self._all())

    @property
    def broken(self) -> tuple[BrokenModel, ...]:
        """What was to be served and cannot be, by name."""
        return tuple([each for name in sorted(self._broken) for each in self._broken[name]])

    def readiness_state(self) -> tuple[object, ...]:
        """Everything that readiness depends on, as a value to compare: it differs once any of it has changed."""
        versions = [(each.name, each.version, each.ready) for each in self._all()]
        defaults = [(name, served.version) for name, served in self._default.items()]
        return tuple(versions), tuple(defaults), self.broken

    def stranded(self, now_s: float) -> tuple[ServedModel, ...]:
        """The versions in service that have been unable to answer for longer than they may, on the monotonic clock."""
        return tuple([each for each in self._all() if each.is_stranded(now_s)])

    async def index(self) -> tuple[IndexEntry, ...]:
        """Every version in service, on its way or broken, and every model of the repository that has none, by name."""
        names = await asyncio.to_thread(model_names, self._settings.models.path)
        entries: list[IndexEntry] = []
        for name in sorted({*names, *self._versions, *self._loading, *self._broken}):
            served = [each.served for each in self._versions.get(name, {}).values()]
            entries += index_entries(name, served, self._broken.get(name, ()), is_loading=name in self._loading)
        return tuple(entries)

    # How it changes.

    async def load(self, model: str) -> None:
        """Serve a model as it is in the repository now.

        Versions that are new, or whose files or configuration changed, are loaded and warmed first. Then they take
        over, and versions that are gone or replaced end. Unchanged versions are left alone. Raises `ModelNotFound` if
        the repository has no such model, and `StartError` if it cannot be served; nothing has changed then.
        """
        async with self._changing:
            self._changer = asyncio.current_task()
            self._loading.add(model)
            try:
                replaced = await self._reload(model)
            except StartError as error:
                if model not in self._versions:
                    self._broken[model] = (BrokenModel(model, None, str(error)),)
                raise
            finally:
                self._loading.discard(model)
                self._changer = None
        await self._loader.end(replaced)

    async def unload(self, model: str, version: int | None = None) -> None:
        """Stop serving a model, or one version of it. Returns once it has answered what it had accepted.

        A model that is broken is no longer listed as broken. Raises `ModelNotFound`.
        """
        async with self._changing:
            if model in self._broken and model not in self._versions and version is None:
                del self._broken[model]
                return
            self.resolve(model, version)
            versions = self._versions[model]
            gone = [versions[version]] if version is not None else list(versions.values())
            if version is None:
                self._broken.pop(model, None)
            self._put(model, [each for each in versions.values() if each not in gone])
        await self._loader.end(gone)

    def set_default(self, model: str, version: int) -> None:
        """Have calls that name no version mean this one, as long as it is served. Raises `ModelNotFound`."""
        self._default[model] = self.resolve(model, version)
        self._chosen[model] = version

    async def _reload(self, model: str) -> Sequence[LoadedVersion]:
        """Put the model as it is on disk in service. The caller has to end what it replaces, which is returned."""
        settings = self._settings
        path, allowed = settings.models.path, settings.models.allow
        sources = await asyncio.to_thread(scan_model, path, model, settings.model_defaults, allowed)
        if not sources:
            raise ModelNotFound(f"the repository has no model {model[:128]!r}")
        before = self._versions.get(model, {})
        kept = [
            before[source.version]
            for source in sources
            if source.version in before and before[source.version].is_of(source)
        ]
        versions_kept = {each.served.version for each in kept}
        loaded = await self._loader.load([source for source in sources if source.version not in versions_kept])
        self._broken.pop(model, None)
        self._put(model, [*kept, *loaded])
        return [each for each in before.values() if each not in kept]

    def _put(self, model: str, loaded: Sequence[LoadedVersion]) -> None:
        """Let these be the versions of a model, all at once."""
        if not loaded:
            del self._versions[model], self._default[model]
            self._chosen.pop(model, None)
            return
        by_version: Mapping[int, LoadedVersion] = {each.served.version: each for each in loaded}
        self._versions[model] = {version: by_version[version] for version in sorted(by_version)}
        if self._chosen.get(model) not in by_version:
            self._chosen.pop(model, None)
        self._default[model] = by_version[self._chosen.get(model, max(by_version))].served

    async def _load_or_break(self, source: ModelVersion) -> Sequence[LoadedVersion]:
        """The version, warm; none where it cannot be loaded, and it is broken then."""
        try:
            return await self._loader.load([source])
        except StartError as error:
            self._break(BrokenModel(source.name, source.version, str(error)))
        except Exception as error:  # whatever is wrong with one model, the others can be served
            log.error("a model could not be loaded", model=source.name, exc_info=error)
            self._break(BrokenModel(source.name, source.version, f"{source.file}: could not be loaded: {error!r}"))
        return ()

    def _all(self) -> list[ServedModel]:
        return [each.served for versions in self._versions.values() for each in versions.values()]

    def _labelled(self, model: str, label: str) -> int:
        """The version that the model's `[version_labels]` has for a label. Raises `ModelNotFound`."""
        labels = self.resolve(model, None).callee.config.version_labels
        if label not in labels:
            known = ", ".join(map(repr, labels)) or "none"
            raise ModelNotFound(f"model {model!r} has no version label {label[:80]!r}; it has {known}")
        return labels[label]

    def _break(self, broken: BrokenModel) -> None:
        self._broken[broken.name] = (*self._broken.get(broken.name, ()), broken)

    def _all_reasons(self) -> str:
        """What is wrong with all that is broken. A reason may be the same for several versions of a model."""
        return "\n".join(dict.fromkeys(each.reason for each in self.broken))

    def _not_found(self, model: str, version: int | None) -> ModelNotFound | ModelNotReady:
        broken = {each.version for each in self._broken.get(model, ())}
        as_a_whole = model not in self._versions and (version is None or None in broken)
        if version in broken or (broken and as_a_whole):
            return ModelNotReady(f"model {model!r} is in the repository and cannot be served; GET /v2/health says why")
        if model not in self._versions:
            return ModelNotFound(
                f"Request for unknown model: {model[:128]!r} is not found; see GET /v2/models for those that are served"
            )
        served = ", ".join(map(str, self._versions[model]))
        return VersionNotFound(f"Request for unknown model: {model!r} version {version} is not found; it has {served}")
