"""Files that a model names must lie with the model: no name and no link leads to another file of the machine."""

from __future__ import annotations

import os
from pathlib import Path

import pytest

from sluice.inference.config.fence import Fence, plain_name
from sluice.inference.config.model_config import ModelConfig
from sluice.inference.config.model_toml import MOST_LABELS_BYTES, load_model_config
from sluice.inference.errors import RepositoryError
from sluice.inference.repository.sample import find_sample
from sluice.inference.repository.scan import look
from tests import models

SECRET = "redis://user:PASSWORD@host"
TEXT = '[text]\npooling = "mean"\n'


@pytest.fixture
def secret(tmp_path: Path) -> Path:
    """A file beside the repository, which no model may read."""
    file = tmp_path / "outside" / "environ"
    file.parent.mkdir()
    file.write_text(SECRET)
    return file


@pytest.fixture
def root(tmp_path: Path) -> Path:
    models.place(models.tiny(), tmp_path / "models" / "m" / "1")
    return tmp_path / "models"


def reason(root: Path) -> str:
    [broken] = look(root).broken
    assert "PASSWORD" not in broken.reason
    return broken.reason


@pytest.mark.parametrize("name", ["/proc/self/environ", "../../outside/environ", "a/../b", "..", "/etc/passwd", ""])
def test_labels_are_in_a_file_below_the_models_folder(name: str, root: Path, secret: Path) -> None:
    assert secret.exists()
    (root / "m" / "model.toml").write_text(f"labels.y = '{name}'\n")
    assert f'labels.y = "{name}": expected the name of a file in {root / "m"}' in reason(root)


@pytest.mark.parametrize("target", ["/proc/self/environ", "../../outside/environ"])
def test_a_link_to_labels_does_not_lead_out(target: str, root: Path, secret: Path) -> None:
    assert secret.exists()
    (root / "m" / "model.toml").write_text('labels.y = "classes.txt"\n')
    (root / "m" / "classes.txt").symlink_to(target)
    assert "classes.txt: leads to /" in reason(root)
    assert "models.allow" in reason(root)


def test_labels_behind_links_within_the_repository(root: Path) -> None:
    """As in a ConfigMap, and in a store of contents."""
    for store in (root / "m" / "..2026", root / "blobs"):
        store.mkdir()
        (store / "c").write_text("a\nb\nc\n")
        (root / "m" / "classes.txt").unlink(missing_ok=True)
        (root / "m" / "classes.txt").symlink_to(os.path.relpath(store / "c", root / "m"))
        (root / "m" / "model.toml").write_text('labels.y = "classes.txt"\n')
        [version] = look(root).versions
        assert version.config.labels == {"y": ("a", "b", "c")}


def test_labels_beside_the_blob_that_the_configuration_is_a_link_to(root: Path, tmp_path: Path) -> None:
    blobs = tmp_path / "blobs"
    blobs.mkdir()
    (blobs / "1").write_text('labels.y = "classes.txt"\n')
    (blobs / "2").write_text("a\n")
    (root / "m" / "model.toml").symlink_to(blobs / "1")
    (root / "m" / "classes.txt").symlink_to(blobs / "2")
    [version] = look(root).versions
    assert version.config.labels == {"y": ("a",)}


def test_what_the_operator_allows(root: Path, secret: Path) -> None:
    (root / "m" / "model.toml").write_text('labels.y = "classes.txt"\n')
    (root / "m" / "classes.txt").symlink_to(secret)
    [version] = look(root, allowed=(secret.parent,)).versions
    assert version.config.labels == {"y": (SECRET,)}


def test_a_file_of_labels_has_a_bounded_length(root: Path) -> None:
    (root / "m" / "model.toml").write_text('labels.y = "classes.txt"\n')
    (root / "m" / "classes.txt").write_bytes(b"\n" * (MOST_LABELS_BYTES + 1))
    assert f"at most {MOST_LABELS_BYTES} are read" in reason(root)
    (root / "m" / "classes.txt").write_bytes(b"\n" * MOST_LABELS_BYTES)
    assert "classes have names" in reason(root)
    (root / "m" / "classes.txt").write_bytes(b"\xff")
    assert "is no UTF-8 text" in reason(root)


def test_a_tokenizer_does_not_lie_elsewhere(root: Path, secret: Path) -> None:
    (root / "m" / "model.toml").write_text(TEXT)
    (root / "m" / "tokenizer.json").symlink_to(secret)
    assert "tokenizer.json: leads to" in reason(root)
    (root / "m" / "tokenizer.json").unlink()
    os.mkfifo(root / "m" / "tokenizer.json")
    assert not look(root).broken  # what is no file is not taken for one
    (root / "m" / "model.toml").write_text(TEXT + 'tokenizer = "../x"\n')
    assert "expected the name of a file without a folder" in reason(root)


def test_samples_do_not_lie_elsewhere(root: Path, secret: Path) -> None:
    file = root / "m" / "1" / "model.onnx"
    (root / "m" / "sample.json").symlink_to(secret)
    assert find_sample(file) is None
    found = look(root)
    assert [version.sample for version in found.versions] == [None]
    assert "sample.json: leads out of the repository" in found.passed_over[0]
    (root / "m" / "sample.json").unlink()
    (root / "m" / "sample.json").write_text("{}")
    assert find_sample(file) is not None


def test_deep_nesting_in_a_configuration_is_said(root: Path) -> None:
    (root / "m" / "model.toml").write_text("a = " + "[" * 100_000 + "]" * 100_000)
    assert "has lists or tables in one another too deeply" in reason(root)
    for deep in ("labels.y = " + "[" * 60 + "]" * 60, "x = " + "{a = " * 50 + "1" + "}" * 50):
        (root / "m" / "model.toml").write_text(deep)
        assert reason(root).startswith(f"{root / 'm' / 'model.toml'}: ")
    (root / "m" / "model.toml").write_text("#" * (1 << 20) + "\n")
    assert "is longer than the 1048576 bytes" in reason(root)


def test_what_the_kernel_makes_up_is_no_file_of_a_model() -> None:
    with pytest.raises(RepositoryError, match="is the kernel's"):
        Fence(Path("/proc")).check(Path("/proc/self/environ"), Path("/proc/self/stat"), 1000)


@pytest.mark.parametrize(("name", "plain"), [("a.txt", True), ("a/b.txt", True), ("a..b", True), ("a\0", False)])
def test_plain_names(name: str, plain: bool) -> None:
    assert plain_name(name) is plain


def test_a_configuration_without_a_repository_names_files_in_its_folder(tmp_path: Path, secret: Path) -> None:
    (tmp_path / "m").mkdir()
    (tmp_path / "m" / "model.toml").write_text('labels.y = "classes.txt"\n')
    (tmp_path / "m" / "classes.txt").symlink_to(secret)
    with pytest.raises(RepositoryError, match="leads to"):
        load_model_config(tmp_path / "m" / "model.toml", ModelConfig())
