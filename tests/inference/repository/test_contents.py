"""What a version's digest covers, and which files a graph may name."""

from __future__ import annotations

import os
import shutil
from pathlib import Path

import pytest

from sluice.inference.config.fence import Fence
from sluice.inference.config.model_config import ModelConfig, TextConfig
from sluice.inference.errors import RepositoryError
from sluice.inference.repository import contents as module
from sluice.inference.repository import snapshot
from sluice.inference.repository.contents import Contents, contents
from sluice.inference.repository.snapshot import FileState
from tests import models

WEIGHTS = b"\0\0\0@\0\0@@"


def put(file: Path, content: bytes = b"model") -> Path:
    file.parent.mkdir(parents=True, exist_ok=True)
    file.write_bytes(content)
    return file


def version(folder: Path, location: str = "w.bin", weights: bytes | None = WEIGHTS) -> Path:
    """A version whose weights are in a file of that name, which is put there unless it is to be missing."""
    put(folder / "model.onnx", models.external_weights(location))
    if weights is not None:
        put(folder / location, weights)
    return folder


def read(folder: Path, root: Path | None = None, config: ModelConfig | None = None, *allowed: Path) -> Contents:
    return contents(folder / "model.onnx", config or ModelConfig(), Fence(root or folder, allowed), folder)


def refusal(folder: Path, root: Path | None = None, *allowed: Path) -> str:
    with pytest.raises(RepositoryError) as caught:
        read(folder, root, None, *allowed)
    return str(caught.value)


@pytest.mark.parametrize(
    "name", ["w.bin", ".hidden.bin", ".hidden/w.bin", "a/.b/c/w.bin", ".git/w.bin", "__pycache__/w.bin", "größe.bin"]
)
def test_whatever_lies_in_the_folder_counts(tmp_path: Path, name: str) -> None:
    put(tmp_path / "model.onnx")
    without = read(tmp_path).digest
    put(tmp_path / name, b"one")
    one = read(tmp_path).digest
    put(tmp_path / name, b"two")
    assert len({without, one, read(tmp_path).digest}) == 3


@pytest.mark.parametrize("link", ["weights", ".weights", "a/b"])
def test_what_lies_behind_a_linked_folder_counts(tmp_path: Path, link: str) -> None:
    put(tmp_path / "m/1/model.onnx")
    there = put(tmp_path / "elsewhere/deep/w.bin", b"one")
    (tmp_path / "m/1" / link).parent.mkdir(exist_ok=True)
    (tmp_path / "m/1" / link).symlink_to(tmp_path / "elsewhere")
    one = read(tmp_path / "m/1").digest
    put(there, b"two")
    assert read(tmp_path / "m/1").digest != one


def test_what_a_linked_file_holds_counts_and_not_where_it_is(tmp_path: Path) -> None:
    put(tmp_path / "m/1/model.onnx")
    for number in (1, 2):
        put(tmp_path / f"blobs/{number}", b"same")
    link = tmp_path / "m/1/w.bin"
    link.symlink_to(tmp_path / "blobs/1")
    one = read(tmp_path / "m/1").digest
    link.unlink()
    link.symlink_to(tmp_path / "blobs/2")
    assert read(tmp_path / "m/1").digest == one
    put(tmp_path / "blobs/2", b"else")
    assert read(tmp_path / "m/1").digest != one
    link.unlink()
    put(link, b"same")
    assert read(tmp_path / "m/1").digest == one


@pytest.mark.parametrize("location", ["../shared/w.bin", "../../w.bin", "../2/.w/w.bin", "..w/w.bin", "./sub//w.bin"])
def test_what_the_graph_names_counts_wherever_it_lies(tmp_path: Path, location: str) -> None:
    folder = version(tmp_path / "m/1", location)
    one = read(folder, tmp_path)
    put(folder / location, b"heavier!")
    assert read(folder, tmp_path).digest != one.digest
    assert [state.file for state in one.engine.files] == [folder / "model.onnx", folder / location]


def test_a_volume_of_kubernetes_is_the_same_after_its_links_were_swapped(tmp_path: Path) -> None:
    folder = tmp_path / "m/1"
    version(folder / "..2026_11_01")
    (folder / "..data").symlink_to("..2026_11_01")
    for name in ("model.onnx", "w.bin"):
        (folder / name).symlink_to(f"..data/{name}")
    one = read(folder, tmp_path)
    shutil.copytree(folder / "..2026_11_01", folder / "..2026_11_02")
    (folder / "..swap").symlink_to("..2026_11_02")
    (folder / "..swap").rename(folder / "..data")
    shutil.rmtree(folder / "..2026_11_01")
    assert read(folder, tmp_path).digest == one.digest
    assert snapshot.SnapshotCheck(one.engine).changed() is None
    put(folder / "..2026_11_02/w.bin", b"heavier!")
    assert read(folder, tmp_path).digest != one.digest
    assert snapshot.SnapshotCheck(one.engine).changed() == folder / "w.bin"


TEXT = ModelConfig(text=TextConfig(pooling="mean"))


@pytest.mark.parametrize("place", ["m/tokenizer.json", "m/1/tokenizer.json"])
def test_a_tokenizer_counts_wherever_it_lies(tmp_path: Path, place: str) -> None:
    put(tmp_path / "m/1/model.onnx")
    without = read(tmp_path / "m/1", config=TEXT)
    tokenizer = put(tmp_path / place, b"one")
    one = read(tmp_path / "m/1", config=TEXT)
    put(tokenizer, b"two")
    assert len({without.digest, one.digest, read(tmp_path / "m/1", config=TEXT).digest}) == 3
    assert without.tokenizer is None
    assert one.tokenizer is not None
    assert one.tokenizer.file == tokenizer


def test_no_other_tokenizer_stands_in_for_one_that_a_link_was_to_lead_to(tmp_path: Path) -> None:
    put(tmp_path / "m/1/model.onnx")
    put(tmp_path / "m/tokenizer.json", b"another")
    (tmp_path / "m/1/tokenizer.json").symlink_to("nowhere")
    with pytest.raises(FileNotFoundError):
        read(tmp_path / "m/1", config=TEXT)


def test_the_names_of_classes_count(tmp_path: Path) -> None:
    put(tmp_path / "m/1/model.onnx")
    labels: list[dict[str, tuple[str, ...]]] = [{}, {"y": ("a", "b")}, {"y": ("b", "a")}, {"z": ("a", "b")}]
    digests = {read(tmp_path / "m/1", config=ModelConfig(labels={**each})).digest for each in labels}
    assert len(digests) == 4


def test_weights_that_are_missing(tmp_path: Path) -> None:
    folder = version(tmp_path / "m/1", weights=None)
    assert refusal(folder) == (
        f"{folder}/model.onnx: its weights are to be in 'w.bin', but there is no {folder}/w.bin; "
        "put that file there, too"
    )
    (folder / "w.bin").mkdir()
    assert refusal(folder).endswith("/w.bin is no file; put a file there")
    (folder / "w.bin").rmdir()
    (folder / "w.bin").symlink_to("w.bin")
    assert "but there is no" in refusal(folder)


@pytest.mark.parametrize("location", ["../../../secret.bin", "/etc/hostname", "sub/../../../../secret.bin", "../../x"])
def test_weights_outside_the_repository_are_refused(tmp_path: Path, location: str) -> None:
    root = tmp_path / "repository"
    put(tmp_path / "secret.bin", WEIGHTS)
    put(tmp_path / "x", WEIGHTS)
    folder = root / "m/1" if location != "../../x" else tmp_path / "repository/1"
    put(folder / "model.onnx", models.external_weights(location))
    (folder / "sub").mkdir()
    assert f"outside of {root}; put that file into the version's folder, or name it" in refusal(folder, root)


def test_weights_behind_a_link_out_of_the_repository_are_refused(tmp_path: Path) -> None:
    root = tmp_path / "repository"
    folder = version(root / "m/1", "sub/w.bin", weights=None)
    put(tmp_path / "elsewhere/w.bin", WEIGHTS)
    (folder / "sub").symlink_to(tmp_path / "elsewhere")
    assert f"which is {tmp_path}/elsewhere/w.bin, outside of {root}" in refusal(folder, root)
    for allowed in (tmp_path / "elsewhere", tmp_path / "elsewhere/w.bin"):
        assert read(folder, root, None, allowed).engine.apart == ("sub/w.bin",)
    assert "outside of" in refusal(folder, root, tmp_path / "else")
    assert "outside of" in refusal(folder, root, tmp_path / "elsewhere/w.bi")


def test_a_way_out_of_a_linked_folder_is_none_back_in(tmp_path: Path) -> None:
    """As text, `sub/../w.bin` is `w.bin`; the system follows the link `sub` first, to `elsewhere/../w.bin`."""
    root = tmp_path / "repository"
    folder = version(root / "m/1", "sub/../w.bin", weights=None)
    put(tmp_path / "w.bin", WEIGHTS)
    put(folder / "w.bin", WEIGHTS)
    (tmp_path / "elsewhere").mkdir()
    (folder / "sub").symlink_to(tmp_path / "elsewhere")
    assert f"which is {tmp_path}/w.bin, outside of" in refusal(folder, root)


@pytest.mark.parametrize("location", ["../shared/w.bin", "/ABSOLUTE/w.bin"])
def test_what_the_engine_would_not_read_by_itself_is_named(tmp_path: Path, location: str) -> None:
    location = location.replace("/ABSOLUTE", str(tmp_path))
    folder = version(tmp_path / "m/1", location)
    assert read(folder, tmp_path).engine.apart == (location,)
    assert read(version(tmp_path / "m/2"), tmp_path).engine.apart == ()


def test_weights_beside_the_blob_that_the_model_is_are_taken(tmp_path: Path) -> None:
    made = version(tmp_path / "made")
    blobs = tmp_path / "blobs"
    blobs.mkdir()
    folder = tmp_path / "repository/m/1"
    folder.mkdir(parents=True)
    for blob, name in (("aaa", "model.onnx"), ("bbb", "w.bin")):
        (made / name).rename(blobs / blob)
        (folder / name).symlink_to(os.path.relpath(blobs / blob, folder))
    found = read(folder, tmp_path / "repository")
    assert (found.engine.model_file, found.engine.apart) == (folder / "model.onnx", ())
    put(blobs / "bbb", b"heavier!")
    assert read(folder, tmp_path / "repository").digest != found.digest


@pytest.mark.parametrize("to", [".", "..", "../..", "sub"])
def test_links_that_lead_in_circles_are_left_alone(tmp_path: Path, to: str) -> None:
    folder = tmp_path / "m/1"
    put(folder / "model.onnx")
    put(folder / "sub/more", b"x")
    (folder / "sub/back").symlink_to(folder / to)
    found = read(folder)
    (line,) = found.passed_over
    assert line.endswith(": leads back to a folder that it lies in")
    (folder / "itself").symlink_to("itself")
    assert read(folder).digest == found.digest


def test_a_link_to_a_crowded_place_is_refused(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(module, "MAX_ENTRIES", 20)
    put(tmp_path / "m/1/model.onnx")
    for number in range(18):
        put(tmp_path / f"crowd/{number}/file")
    assert not read(tmp_path / "m/1").passed_over
    (tmp_path / "m/1/link").symlink_to(tmp_path / "crowd")
    assert refusal(tmp_path / "m/1") == (
        f"{tmp_path}/m/1: holds more than 20 files and folders, with those behind links; a version's folder is for "
        "the model and what belongs to it"
    )


def test_a_link_to_huge_files_is_refused_unread(tmp_path: Path) -> None:
    put(tmp_path / "m/1/model.onnx")
    with put(tmp_path / "huge", b"").open("r+b") as file:
        file.truncate(module.MAX_BYTES)
    (tmp_path / "m/1/huge").symlink_to(tmp_path / "huge")
    assert "holds 256 GiB, with what is behind links" in refusal(tmp_path / "m/1")


@pytest.mark.parametrize("place", ["/proc", "/proc/self", "/sys", "/proc/kmsg"])
def test_a_link_into_the_kernel_is_left_alone(tmp_path: Path, place: str) -> None:
    put(tmp_path / "m/1/model.onnx")
    without = read(tmp_path / "m/1").digest
    (tmp_path / "m/1/link").symlink_to(place)
    assert read(tmp_path / "m/1").digest == without


def test_what_is_no_file_is_not_read(tmp_path: Path) -> None:
    put(tmp_path / "m/1/model.onnx")
    without = read(tmp_path / "m/1").digest
    os.mkfifo(tmp_path / "m/1/pipe")
    (tmp_path / "m/1/zeros").symlink_to("/dev/zero")
    assert read(tmp_path / "m/1").digest == without
    folder = version(tmp_path / "m/2", "pipe", weights=None)
    os.mkfifo(folder / "pipe")
    assert refusal(folder).endswith("/pipe is no file; put a file there")


@pytest.mark.parametrize("name", ["model.onnx", "w.bin", "notes.txt", "tokenizer.json"])
def test_files_that_change_while_they_are_read(tmp_path: Path, name: str, monkeypatch: pytest.MonkeyPatch) -> None:
    folder = version(tmp_path / "m/1")
    put(folder / "notes.txt")
    put(folder / "tokenizer.json")

    def read_and_write(path: Path) -> FileState:
        state = snapshot.read(path)
        if path.name == name:
            put(path, b"other" + path.read_bytes())
        return state

    monkeypatch.setattr(module, "read", read_and_write)
    assert refusal(folder) == (
        f"{folder / name}: has changed while it was read; put new files into a version of their own"
    )
