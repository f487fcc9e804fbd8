"""Models that come, change and go while they are called: a gateway with real workers, without its socket."""

from __future__ import annotations

import asyncio
import json
import shutil
from collections.abc import AsyncIterator
from contextlib import AsyncExitStack, asynccontextmanager
from pathlib import Path
from types import SimpleNamespace
from typing import cast

import numpy as np
import pytest
from onnx import TensorProto, helper, numpy_helper

from sluice.cache.cache import Cache, CacheOptions
from sluice.gateway.assembly import Gateway
from sluice.gateway.commands.banner import banner
from sluice.gateway.serving.catalogue import Catalogue
from sluice.gateway.serving.model import ServedModel
from sluice.gateway.serving.repository_index import IndexEntry, VersionState
from sluice.gateway.serving.version_loader import LoadedVersion
from sluice.gateway.settings.load import Settings
from sluice.gateway.settings.sections import ModelsSettings
from sluice.gateway.telemetry.metrics import Metrics
from sluice.inference.config.model_config import ModelConfig, WorkersConfig
from sluice.inference.errors import ModelLoadError, ModelNotFound, ModelNotReady, RepositoryError, StartError
from sluice.inference.repository.scan import ModelVersion, look, model_names, scan_model
from tests import models
from tests.gateway.telemetry.scrape import scrape

BODY = b'{"inputs": [{"name": "x", "shape": [1, 1], "datatype": "FP32", "data": [3]}]}'


def times(factor: float) -> bytes:
    """float32[N,1] `x` -> float32[N,1] `y` = x times the factor."""
    node = helper.make_node("Mul", ["x", "factor"], ["y"])
    value = [helper.make_tensor_value_info(name, TensorProto.FLOAT, ["N", 1]) for name in ("x", "y")]
    constant = numpy_helper.from_array(np.array(factor, np.float32), "factor")
    graph = helper.make_graph([node], "graph", value[:1], value[1:], [constant])
    opsets = [helper.make_opsetid("", models.OPSET)]
    serialized: bytes = helper.make_model(graph, ir_version=models.IR_VERSION, opset_imports=opsets).SerializeToString()
    return serialized


def put(root: Path, name: str, version: int, factor: float) -> Path:
    """Put a version with a new file in place, as a deployment does: the file is written beside and then moved."""
    file = models.place(times(factor), root / name / str(version), "new.onnx")
    return file.rename(file.with_name("model.onnx"))


@asynccontextmanager
async def serving(root: Path, default: str | None = None, *, strict: bool = False) -> AsyncIterator[Gateway]:
    settings = Settings(
        models=ModelsSettings(path=root, default=default, strict=strict),
        workers=WorkersConfig(count=1, intra_op_threads=1),
    )
    found = look(root, settings.model_defaults)
    async with Gateway(settings, found.versions, found.broken) as gateway:
        yield gateway


async def ask(gateway: Gateway, target: str = "m") -> float | int:
    """The model's answer to 3, or the status of a refusal."""
    route = gateway.plane.recognise(f"/v2/models/{target}/infer".encode())
    assert route is not None
    answer = await gateway.plane.answer(route, "POST", ((b"cache-control", b"no-store"),), BODY)
    return float(json.loads(answer.body)["outputs"][0]["data"][0]) if answer.status == 200 else answer.status


async def test_a_new_version_takes_over_and_an_old_one_goes(tmp_path: Path) -> None:
    put(tmp_path, "m", 1, 10)
    async with serving(tmp_path) as gateway:
        catalogue = gateway.catalogue
        assert await ask(gateway) == 30
        kept = catalogue.resolve("m", 1)
        put(tmp_path, "m", 2, 20)
        await catalogue.load("m")
        assert (await ask(gateway), await ask(gateway, "m/versions/1")) == (60, 30)
        assert catalogue.resolve("m", 1) is kept, "what did not change is left alone"
        shutil.rmtree(tmp_path / "m" / "1")
        await catalogue.load("m")
        assert (await ask(gateway), await ask(gateway, "m/versions/1")) == (60, 404)
        assert await catalogue.index() == (IndexEntry("m", 2, VersionState.READY),)
        page = scrape(gateway.metrics)[0].decode()
        assert 'sluice_workers{model="m",version="2"} 1.0' in page
        assert 'sluice_workers{model="m",version="1"}' not in page


async def test_no_call_is_lost_while_a_version_is_replaced(tmp_path: Path) -> None:
    put(tmp_path, "m", 1, 10)
    async with serving(tmp_path) as gateway:
        stop = asyncio.Event()
        answers: list[float | int] = []

        async def keep_asking() -> None:
            while not stop.is_set():
                answers.append(await ask(gateway))

        async with asyncio.TaskGroup() as callers:
            for _ in range(8):
                callers.create_task(keep_asking())
            for factor in (20, 30):
                put(tmp_path, "m", 1, factor)
                await gateway.catalogue.load("m")
                assert await ask(gateway) == 3 * factor
            stop.set()
        assert set(answers) == {30, 60, 90}
        page = scrape(gateway.metrics)[0].decode()
        assert 'sluice_workers{model="m",version="1"} 1.0' in page
        assert 'outcome="refused",version="1"} 0.0' in page


async def test_what_cannot_be_loaded_changes_nothing_and_says_why(tmp_path: Path) -> None:
    put(tmp_path, "m", 1, 10)
    async with serving(tmp_path) as gateway:
        catalogue = gateway.catalogue
        put(tmp_path, "m", 2, 20)
        models.place(b"no model", tmp_path / "m" / "3")
        with pytest.raises(ModelLoadError):
            await catalogue.load("m")
        assert (await ask(gateway), await ask(gateway, "m/versions/2")) == (30, 404)
        (tmp_path / "m" / "model.toml").write_text("[bathcing]\n")
        with pytest.raises(RepositoryError, match="bathcing"):
            await catalogue.load("m")
        models.place(b"no model", tmp_path / "broken" / "1")
        with pytest.raises(ModelLoadError):
            await catalogue.load("broken")
        broken, mended = await catalogue.index()
        assert (broken.name, broken.state, mended) == (
            "broken",
            VersionState.UNAVAILABLE,
            IndexEntry("m", 1, VersionState.READY),
        )
        assert "broken" in broken.reason
        assert 'sluice_workers{model="m",version="1"} 1.0' in scrape(gateway.metrics)[0].decode()


async def test_a_model_is_unloaded_and_comes_back(tmp_path: Path) -> None:
    for version in (1, 2):
        put(tmp_path, "m", version, 10 * version)
    put(tmp_path, "other", 1, 7)
    async with serving(tmp_path) as gateway:
        catalogue = gateway.catalogue
        await catalogue.unload("m", 2)
        assert await ask(gateway) == 30
        await catalogue.unload("m")
        assert (await ask(gateway), await ask(gateway, "other")) == (404, 21)
        assert catalogue.resolve("", None).name == "other", "the only one that is left"
        assert IndexEntry("m", None, VersionState.UNAVAILABLE, "unloaded") in await catalogue.index()
        assert catalogue.ready
        with pytest.raises(ModelNotFound):
            await catalogue.unload("m")
        await catalogue.load("m")
        assert await ask(gateway) == 60


async def test_another_version_can_be_the_default_until_it_goes(tmp_path: Path) -> None:
    for version in (1, 2):
        put(tmp_path, "m", version, 10 * version)
    async with serving(tmp_path) as gateway:
        catalogue = gateway.catalogue
        catalogue.set_default("m", 1)
        put(tmp_path, "m", 3, 30)
        await catalogue.load("m")
        assert await ask(gateway) == 30
        with pytest.raises(ModelNotFound):
            catalogue.set_default("m", 4)
        await catalogue.unload("m", 1)
        assert await ask(gateway) == 90


@pytest.mark.parametrize("name", ["nothing", "../m", "/", "", ".hidden", "m/1"])
async def test_a_model_that_is_not_in_the_repository(tmp_path: Path, name: str) -> None:
    put(tmp_path, "m", 1, 10)
    async with serving(tmp_path) as gateway:
        with pytest.raises(ModelNotFound, match="the repository has no model"):
            await gateway.catalogue.load(name)


async def test_leaving_ends_a_load_that_is_under_way(tmp_path: Path) -> None:
    put(tmp_path, "m", 1, 10)
    async with serving(tmp_path) as gateway:
        put(tmp_path, "m", 2, 20)
        loading = asyncio.create_task(gateway.catalogue.load("m"))
        while not [entry for entry in await gateway.catalogue.index() if entry.state is VersionState.LOADING]:
            assert not loading.done()
    with pytest.raises(asyncio.CancelledError):
        await loading
    assert not gateway.catalogue.ready


def test_one_model_is_found_wherever_it_lies(tmp_path: Path) -> None:
    file = put(tmp_path, "m", 1, 10)
    put(tmp_path, "n", 4, 10)
    bare = models.place(times(1), tmp_path / "bare", "single.onnx")
    assert model_names(tmp_path) == ("bare", "m", "n")
    assert [each.version for each in scan_model(tmp_path, "n")] == [4]
    for path, name in ((tmp_path / "m", "m"), (bare, "single")):
        assert model_names(path) == (name,)
        assert [each.name for each in scan_model(path, name)] == [name]
        assert scan_model(path, "n") == ()
    assert scan_model(tmp_path, "m")[0].file == file
    assert model_names(tmp_path / "nowhere.onnx") == ("nowhere",)


def break_all(root: Path) -> None:
    """Models that cannot be served, each for another reason; those whose names begin with a `b` load, but badly."""
    models.place(b"no model", root / "bad" / "1")
    models.place(models.sequence_output(), root / "bad2" / "1")
    put(root, "padded", 1, 10)
    (root / "padded" / "model.toml").write_text("[padding.inputs.nothing]\nbuckets = [4]\n")
    put(root, "toml", 1, 10)
    (root / "toml" / "model.toml").write_text("[bathcing]\n")
    models.place(models.external_weights("w.bin"), root / "weights" / "1")


BROKEN = ("bad", "bad2", "padded", "toml", "weights")


async def test_what_is_broken_keeps_no_other_from_being_served(tmp_path: Path) -> None:
    put(tmp_path, "m", 1, 10)
    put(tmp_path, "z", 1, 20)
    break_all(tmp_path)
    async with serving(tmp_path) as gateway:
        catalogue = gateway.catalogue
        assert catalogue.ready
        assert (await ask(gateway, "m"), await ask(gateway, "z"), await ask(gateway, "toml")) == (30, 60, 503)
        assert catalogue.models == ("m", "z")
        assert tuple(each.name for each in catalogue.broken) == BROKEN
        said = banner(gateway.settings.server, gateway.catalogue, ("127.0.0.1", 1)).splitlines()
        assert said[-1] == f"not served, or not whole: {', '.join(BROKEN)}; http://127.0.0.1:1/v2/health says why"
        assert all(str(tmp_path) in each.reason or "model.toml" in each.reason for each in catalogue.broken)
        index = {entry.name: entry for entry in await catalogue.index()}
        assert {name for name, entry in index.items() if entry.state is VersionState.UNAVAILABLE} == set(BROKEN)
        assert all(index[each.name].reason == each.reason for each in catalogue.broken)
        for name in BROKEN:
            with pytest.raises(ModelNotReady, match=r"cannot be served; GET /v2/health says why"):
                catalogue.resolve(name, None)


async def test_with_strict_all_that_is_broken_is_named_and_nothing_served(tmp_path: Path) -> None:
    put(tmp_path, "m", 1, 10)
    models.place(b"no model", tmp_path / "bad" / "1")
    models.place(models.sequence_output(), tmp_path / "bad2" / "1")
    with pytest.raises(StartError) as caught:
        async with serving(tmp_path, strict=True):
            pytest.fail("entered")
    first, second = str(caught.value).splitlines()
    assert first.startswith(f"{tmp_path}/bad/1/model.onnx: ")
    assert second.startswith(f"{tmp_path}/bad2/1/model.onnx: ")
    (tmp_path / "toml").mkdir()
    (tmp_path / "toml" / "model.toml").touch()
    with pytest.raises(StartError) as caught:
        async with serving(tmp_path, strict=True):
            pytest.fail("entered")
    places = [line.partition(":")[0] for line in str(caught.value).splitlines()]
    assert places == [f"{tmp_path}/{place}" for place in ("bad/1/model.onnx", "bad2/1/model.onnx", "toml")]


async def test_where_nothing_can_be_served_all_that_is_broken_is_named(tmp_path: Path) -> None:
    break_all(tmp_path)
    with pytest.raises(StartError) as caught:
        async with serving(tmp_path):
            pytest.fail("entered")
    assert all(name in str(caught.value) for name in ("/bad/1", "/bad2/1", "'padded'", "/toml/", "/weights/1"))


async def test_a_broken_version_keeps_no_other_version_from_being_served(tmp_path: Path) -> None:
    put(tmp_path, "m", 1, 10)
    models.place(b"no model", tmp_path / "m" / "2")
    (tmp_path / "m" / "3").mkdir()
    async with serving(tmp_path) as gateway:
        assert await ask(gateway) == 30
        asked = [await ask(gateway, f"m/versions/{version}") for version in (1, 2, 3, 4)]
        assert asked == [30, 503, 503, 404]
        assert [(each.version, each.state) for each in await gateway.catalogue.index()] == [
            (1, VersionState.READY),
            (3, VersionState.UNAVAILABLE),
            (2, VersionState.UNAVAILABLE),
        ]


async def test_a_broken_model_is_mended_by_loading_it(tmp_path: Path) -> None:
    put(tmp_path, "other", 1, 7)
    models.place(b"no model", tmp_path / "m" / "1")
    async with serving(tmp_path) as gateway:
        catalogue = gateway.catalogue
        with pytest.raises(ModelLoadError):
            await catalogue.load("m")
        assert [each.name for each in catalogue.broken] == ["m"]
        put(tmp_path, "m", 1, 10)
        await catalogue.load("m")
        assert (await ask(gateway), await ask(gateway, "other"), catalogue.broken) == (30, 21, ())
        models.place(b"no model", tmp_path / "late" / "1")
        with pytest.raises(ModelLoadError):
            await catalogue.load("late")
        assert (await ask(gateway), await ask(gateway, "late")) == (30, 503)
        await catalogue.unload("late")
        assert await ask(gateway, "late") == 404
        assert catalogue.ready


async def test_a_call_without_a_model_is_not_for_the_one_that_is_left(tmp_path: Path) -> None:
    put(tmp_path, "m", 1, 10)
    models.place(b"no model", tmp_path / "bad" / "1")
    async with serving(tmp_path) as gateway:
        with pytest.raises(ModelNotFound, match="several are served"):
            gateway.catalogue.resolve("", None)
        await gateway.catalogue.unload("bad")
        assert gateway.catalogue.resolve("", None).name == "m"


async def test_equal_files_that_lie_in_another_way_are_the_same_version(tmp_path: Path) -> None:
    file = put(tmp_path, "m", 1, 10)
    async with serving(tmp_path) as gateway:
        kept = gateway.catalogue.resolve("m", 1)
        put(tmp_path, "m", 1, 10)
        file.touch()
        await gateway.catalogue.load("m")
        assert gateway.catalogue.resolve("m", 1) is kept


def loaded(version: int, config: ModelConfig, name: str = "m") -> LoadedVersion:
    served = cast(ServedModel, SimpleNamespace(name=name, callee=SimpleNamespace(config=config), version=version))
    return LoadedVersion(served, cast(ModelVersion, None), AsyncExitStack())


def test_a_call_without_a_model_means_the_only_one_or_the_one_that_is_set() -> None:
    def catalogue(default: str | None, *names: str) -> Catalogue:
        settings = Settings(models=ModelsSettings(default=default))
        made = Catalogue((), settings, Metrics("0"), Cache(CacheOptions(0)))
        for name in names:
            made._put(name, [loaded(1, ModelConfig(), name)])
        return made

    assert catalogue(None, "a").resolve("", None).name == "a"
    assert catalogue("b", "a", "b").resolve("", None).name == "b"
    for nobody in (catalogue(None, "a", "b"), catalogue(None), catalogue("c", "a")):
        with pytest.raises(ModelNotFound):
            nobody.resolve("", None)


def test_a_label_stands_for_a_version() -> None:
    made = Catalogue((), Settings(), Metrics("0"), Cache(CacheOptions(0)))
    config = ModelConfig(version_labels={"stable": 1, "gone": 7})
    made._put("m", [loaded(1, config), loaded(2, config)])
    assert made.resolve("m", None).version == 2
    assert made.resolve("m", None, "stable").version == 1
    with pytest.raises(ModelNotFound, match=r"no version label 'canary'; it has 'stable', 'gone'"):
        made.resolve("m", None, "canary")
    with pytest.raises(ModelNotFound, match="'m' version 7 is not found"):
        made.resolve("m", None, "gone")
