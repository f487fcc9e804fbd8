"""The versions in service: how a name becomes one of them, and how they come and go while others are called."""

from __future__ import annotations

import asyncio
from collections.abc import Iterable, Mapping, Sequence
from contextlib import AsyncExitStack
from enum import StrEnum

import msgspec

from sluice.cache.cache import Cache
from sluice.gateway.serving.model import ServedModel
from sluice.gateway.serving.served_version import serve_version
from sluice.gateway.settings.load import Settings
from sluice.gateway.telemetry.logs import log
from sluice.gateway.telemetry.metrics import Metrics
from sluice.gateway.telemetry.tracing.tracer import Tracer
from sluice.inference.errors import ModelNotFound, ModelNotReady, StartError, VersionNotFound
from sluice.inference.repository.scan import BrokenModel, ModelVersion, model_names, scan_model


class VersionState(StrEnum):
    """Where a model or a version of it stands, in the words of Triton's repository index."""

    READY = "READY"
    LOADING = "LOADING"
    UNAVAILABLE = "UNAVAILABLE"


class IndexEntry(msgspec.Struct, frozen=True):
    """One line of the index: a version in service or on its way, or a model without any. `reason` says why not."""

    name: str
    version: int | None
    state: VersionState
    reason: str = ""


class LoadedVersion(msgspec.Struct, frozen=True):
    """A version in service, what it was made from, and the stack that ends it."""

    served: ServedModel
    source: ModelVersion
    stack: AsyncExitStack


class Catalogue:
    """The versions in service, by name. An async context manager that owns them all.

    Entering loads the versions of `sources` one after another, since two would disturb each other's measurements, and
    plan with the same memory. What cannot be loaded is broken, as `broken` is already, and keeps no other from being
    served. Entering fails with a `StartError` that names all that is broken, leaving nothing behind, where nothing can
    be served, or, with `models.strict`, anything is broken.

    Later changes come one after another, too. New versions are warm before they are called, and all that changes for a
    model changes at once; those that were replaced answer what they had accepted and end behind everybody's back.
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
        self._cache = cache
        self._settings = settings
        self._metrics = metrics
        metrics.watch_broken(lambda: len(self.broken))
        self._tracer = tracer
        self._entered = False
        self._standing: dict[str, dict[int, LoadedVersion]] = {}
        self._default: dict[str, ServedModel] = {}
        self._chosen: dict[str, int] = {}
        self._loading: set[str] = set()
        self._changing = asyncio.Lock()
        self._changer: asyncio.Task[object] | None = None
        self._retiring: set[asyncio.Task[None]] = set()

    async def __aenter__(self) -> Catalogue:
        loaded: list[LoadedVersion] = []
        try:
            for source in self._sources:
                try:
                    loaded += await self._serve([source])
                except StartError as error:
                    self._break(BrokenModel(source.name, source.version, str(error)))
                except Exception as error:  # one model's fault is no other's, whatever it is
                    log.error("a model could not be loaded", model=source.name, exc_info=error)
                    self._break(
                        BrokenModel(source.name, source.version, f"{source.file}: could not be loaded: {error!r}")
                    )
            if self._broken and (self._settings.models.strict or not loaded):
                raise StartError(self._all_reasons())
        except BaseException:
            await self._retire(loaded)
            raise
        for name in {standing.served.name for standing in loaded}:
            self._put(name, [standing for standing in loaded if standing.served.name == name])
        for each in self.broken:
            log.error("cannot be served", model=each.name, version=each.version, because=each.reason)
        self._entered = True
        return self

    async def __aexit__(self, *_: object) -> None:
        self._entered = False
        if self._changer is not None:
            self._changer.cancel()
        async with self._changing:
            standing = [each for versions in self._standing.values() for each in versions.values()]
            self._standing.clear()
            self._default.clear()
            await self._retire(standing)
            await asyncio.gather(*self._retiring)

    # What is in service.

    def resolve(self, model: str, version: int | None, label: str | None = None) -> ServedModel:
        """The version that a caller means. Raises `ModelNotFound`, or `ModelNotReady` for one that is broken.

        Without a model, the default one: `models.default`, or the only one that there is. Without a version or a label,
        the model's default version: the highest, unless another was chosen.
        """
        if not model:
            model = self.default_model
        if label is not None:
            version = self._labelled(model, label)
        if version is None:
            served = self._default.get(model)
        else:
            standing = self._standing.get(model, {}).get(version)
            served = None if standing is None else standing.served
        if served is None:
            raise self._not_found(model, version)
        return served

    @property
    def default_model(self) -> str:
        """The model of calls that name none. Raises `ModelNotFound` if nobody can tell which is meant."""
        named = self._settings.models.default
        if named is not None:
            return named
        # A call is not for a model only because the one that it was for is broken.
        if len(there := {*self._standing, *self._broken}) == 1:
            return there.pop()
        raise ModelNotFound(
            "the call names no model, and several are served or none: name one, or have the operator set models.default"
        )

    def versions(self, model: str) -> tuple[ServedModel, ...]:
        """All versions of a model, lowest first. Raises `ModelNotFound`."""
        if model not in self._standing:
            raise self._not_found(model, None)
        return tuple([standing.served for standing in self._standing[model].values()])

    @property
    def models(self) -> tuple[str, ...]:
        """The names in service, in alphabetical order."""
        return tuple(sorted(self._standing))

    @property
    def ready(self) -> bool:
        """Whether every version in service has a living worker; false before loading and after leaving."""
        return self._entered and all(
            standing.served.ready for versions in self._standing.values() for standing in versions.values()
        )

    @property
    def broken(self) -> tuple[BrokenModel, ...]:
        """What was to be served and cannot be, by name."""
        return tuple([each for name in sorted(self._broken) for each in self._broken[name]])

    def standing(self) -> tuple[object, ...]:
        """What readiness depends on, as a value that differs when any of it has changed."""
        versions = [each.served for standing in self._standing.values() for each in standing.values()]
        defaults = [(name, served.version) for name, served in self._default.items()]
        return tuple([(each.name, each.version, each.ready) for each in versions]), tuple(defaults), self.broken

    def stranded(self, now_s: float) -> tuple[ServedModel, ...]:
        """The versions in service that have had no worker, and could get none, for as long as they may."""
        standing = [each.served for versions in self._standing.values() for each in versions.values()]
        return tuple([each for each in standing if each.is_stranded(now_s)])

    async def index(self) -> tuple[IndexEntry, ...]:
        """Every version in service, on its way or broken, and every model of the repository that has none, by name."""
        names = await asyncio.to_thread(model_names, self._settings.models.path)
        entries: list[IndexEntry] = []
        for name in sorted({*names, *self._standing, *self._loading, *self._broken}):
            entries += [
                IndexEntry(name, each.version, VersionState.READY)
                if each.ready
                else IndexEntry(name, each.version, VersionState.UNAVAILABLE, "no worker process lives")
                for each in (standing.served for standing in self._standing.get(name, {}).values())
            ]
            broken = self._broken.get(name, ())
            entries += [IndexEntry(name, each.version, VersionState.UNAVAILABLE, each.reason) for each in broken]
            if name in self._loading:
                entries.append(IndexEntry(name, None, VersionState.LOADING))
            elif name not in self._standing and not broken:
                entries.append(IndexEntry(name, None, VersionState.UNAVAILABLE, "unloaded"))
        return tuple(entries)

    # How it changes.

    async def load(self, model: str) -> None:
        """Serve a model as it lies in the repository now.

        Versions that are new, or whose files or configuration changed, are loaded and warmed first; then they take
        over, and what is gone or replaced ends. Unchanged versions are left alone. Raises `ModelNotFound` if the
        repository has no such model, and `StartError` if it cannot be served; nothing has changed then.
        """
        async with self._changing:
            self._changer = asyncio.current_task()
            self._loading.add(model)
            try:
                replaced = await self._reload(model)
            except StartError as error:
                if model not in self._standing:
                    self._broken[model] = (BrokenModel(model, None, str(error)),)
                raise
            finally:
                self._loading.discard(model)
                self._changer = None
        await self._retire(replaced)

    async def unload(self, model: str, version: int | None = None) -> None:
        """Serve a model, or one version of it, no more; returns once what it had accepted is answered.

        A broken model, which nobody could be served by, is broken no more. Raises `ModelNotFound`.
        """
        async with self._changing:
            if model in self._broken and model not in self._standing and version is None:
                del self._broken[model]
                return
            self.resolve(model, version)
            standing = self._standing[model]
            gone = [standing[version]] if version is not None else list(standing.values())
            if version is None:
                self._broken.pop(model, None)
            self._put(model, [each for each in standing.values() if each not in gone])
        await self._retire(gone)

    def set_default(self, model: str, version: int) -> None:
        """From now on calls that name no version mean this one, as long as it is served. Raises `ModelNotFound`."""
        self._default[model] = self.resolve(model, version)
        self._chosen[model] = version

    async def _reload(self, model: str) -> Sequence[LoadedVersion]:
        """Put the model as it lies on disk in service; what it replaces is for the caller to retire."""
        settings = self._settings
        path, allowed = settings.models.path, settings.models.allow
        sources = await asyncio.to_thread(scan_model, path, model, settings.model_defaults, allowed)
        if not sources:
            raise ModelNotFound(f"the repository has no model {model[:128]!r}")
        before = self._standing.get(model, {})
        kept = [
            before[source.version]
            for source in sources
            if source.version in before and _same(before[source.version].source, source)
        ]
        versions_kept = {each.served.version for each in kept}
        loaded = await self._serve([source for source in sources if source.version not in versions_kept])
        self._broken.pop(model, None)
        self._put(model, [*kept, *loaded])
        return [each for each in before.values() if each not in kept]

    def _put(self, model: str, standing: Sequence[LoadedVersion]) -> None:
        """Let these be the versions of a model, all at once."""
        if not standing:
            del self._standing[model], self._default[model]
            self._chosen.pop(model, None)
            return
        by_version: Mapping[int, LoadedVersion] = {each.served.version: each for each in standing}
        self._standing[model] = {version: by_version[version] for version in sorted(by_version)}
        if self._chosen.get(model) not in by_version:
            self._chosen.pop(model, None)
        self._default[model] = by_version[self._chosen.get(model, max(by_version))].served

    async def _serve(self, sources: Iterable[ModelVersion]) -> Sequence[LoadedVersion]:
        """The sources, warm. If one cannot be served, those before it are ended again."""
        loaded: list[LoadedVersion] = []
        try:
            for source in sources:
                stack = AsyncExitStack()
                served = await stack.enter_async_context(
                    serve_version(source, self._settings, self._metrics, self._cache, self._tracer)
                )
                loaded.append(LoadedVersion(served, source, stack))
        except BaseException:
            await self._retire(loaded)
            raise
        return loaded

    async def _retire(self, standing: Iterable[LoadedVersion]) -> None:
        """End versions, all at the same time: each may take as long as its last request. Goes on without its caller."""
        tasks = [asyncio.create_task(_end(each)) for each in standing]
        self._retiring.update(tasks)
        for task in tasks:
            task.add_done_callback(self._retiring.discard)
        await asyncio.shield(asyncio.gather(*tasks))

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
        as_a_whole = model not in self._standing and (version is None or None in broken)
        if version in broken or (broken and as_a_whole):
            return ModelNotReady(f"model {model!r} is in the repository and cannot be served; GET /v2/health says why")
        if model not in self._standing:
            return ModelNotFound(
                f"Request for unknown model: {model[:128]!r} is not found; see GET /v2/models for those that are served"
            )
        served = ", ".join(map(str, self._standing[model]))
        return VersionNotFound(f"Request for unknown model: {model!r} version {version} is not found; it has {served}")


async def _end(standing: LoadedVersion) -> None:
    await standing.stack.aclose()
    log.info("model ended", model=standing.served.name, version=standing.served.version)


def _same(one: ModelVersion, other: ModelVersion) -> bool:
    """Whether two scans saw a version that answers alike and is served alike, from files that can be loaded again."""
    what = ("digest", "config", "sample", "file", "tried_with")
    return all(getattr(one, name) == getattr(other, name) for name in what)
