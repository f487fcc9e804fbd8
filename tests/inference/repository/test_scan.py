"""What a scan of the repository finds, and what it says if it finds nothing."""

from __future__ import annotations

import tracemalloc
from pathlib import Path

import pytest

from sluice.inference.config.model_config import BatchingConfig, ModelConfig
from sluice.inference.errors import RepositoryError
from sluice.inference.repository import contents, snapshot
from sluice.inference.repository.scan import BrokenModel, ModelVersion, look, scan, scan_model
from sluice.inference.repository.snapshot import FileState
from tests import models


def put(file: Path, content: bytes = b"model") -> Path:
    file.parent.mkdir(parents=True, exist_ok=True)
    file.write_bytes(content)
    return file


def found(versions: tuple[ModelVersion, ...]) -> list[tuple[str, int]]:
    return [(each.name, each.version) for each in versions]


def refusal(path: Path) -> str:
    with pytest.raises(RepositoryError) as caught:
        scan(path)
    return str(caught.value)


def test_models_and_versions_come_in_order(tmp_path: Path) -> None:
    for place in ("b/2", "b/10", "a/1"):
        put(tmp_path / place / "model.onnx")
    versions = scan(tmp_path)
    assert found(versions) == [("a", 1), ("b", 2), ("b", 10)]
    assert [each.file for each in versions] == [tmp_path / p / "model.onnx" for p in ("a/1", "b/2", "b/10")]
    assert [each.config for each in versions] == [ModelConfig()] * 3


def test_a_bare_file_is_version_one_of_its_stem(tmp_path: Path) -> None:
    file = put(tmp_path / "my.net.onnx")
    (version,) = scan(file)
    assert (version.name, version.version, version.file) == ("my.net", 1, file)


def test_a_folder_that_is_one_model_is_named_by_the_folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    put(tmp_path / "digits/1/model.onnx")
    put(tmp_path / "digits/2/model.onnx")
    put(tmp_path / "digits/model.toml", b"[batching]\nmax_rows = 5\n")
    versions = scan(tmp_path / "digits")
    assert found(versions) == [("digits", 1), ("digits", 2)]
    assert {each.config.batching.max_rows for each in versions} == {5}
    monkeypatch.chdir(tmp_path / "digits")
    assert found(scan(Path())) == [("digits", 1), ("digits", 2)]


def test_hidden_files_and_bystanders_are_passed_over(tmp_path: Path) -> None:
    put(tmp_path / "a/1/model.onnx")
    before = scan(tmp_path)
    put(tmp_path / ".git/1/model.onnx")
    put(tmp_path / ".hidden.onnx")
    put(tmp_path / "README.md")
    put(tmp_path / "a/.cache/2/model.onnx")
    put(tmp_path / "a/.3/model.onnx")
    put(tmp_path / "a/labels.txt")
    put(tmp_path / "a/notes/plan.md")
    assert scan(tmp_path) == before


def test_links_are_followed(tmp_path: Path) -> None:
    # Kubernetes and git-sync mount a folder as links into a hidden one, which they change for another.
    put(tmp_path / "real/model.onnx")
    (tmp_path / "models/a").mkdir(parents=True)
    (tmp_path / "models/a/1").symlink_to(tmp_path / "real")
    assert found(scan(tmp_path / "models")) == [("a", 1)]


def test_a_models_sample_is_found_and_no_part_of_its_digest(tmp_path: Path) -> None:
    put(tmp_path / "a/1/model.onnx")
    (without,) = scan(tmp_path)
    sample = put(tmp_path / "a/sample.json")
    (with_sample,) = scan(tmp_path)
    assert (without.sample, with_sample.sample) == (None, sample)
    assert without.digest == with_sample.digest


def test_a_model_overrides_the_defaults_key_by_key(tmp_path: Path) -> None:
    put(tmp_path / "a/1/model.onnx")
    put(tmp_path / "b/1/model.onnx")
    put(tmp_path / "a/model.toml", b"[batching]\nmax_rows = 5\n")
    a, b = scan(tmp_path, ModelConfig(batching=BatchingConfig(max_rows=8, max_queue_rows=99)))
    assert a.config.batching == BatchingConfig(max_rows=5, max_queue_rows=99)
    assert b.config.batching == BatchingConfig(max_rows=8, max_queue_rows=99)


def test_equal_files_have_equal_digests_and_others_do_not(tmp_path: Path) -> None:
    put(tmp_path / "a/1/model.onnx")
    put(tmp_path / "a/2/model.onnx")
    put(tmp_path / "a/3/model.onnx", b"another")
    put(tmp_path / "a/4/model.onnx")
    put(tmp_path / "a/4/weights/w.bin", b"1")
    put(tmp_path / "a/5/model.onnx")
    put(tmp_path / "a/5/weights/w.bin", b"2")
    put(tmp_path / "a/6/model.onnx")
    put(tmp_path / "a/6/weights/v.bin", b"1")
    digests = [each.digest for each in scan(tmp_path)]
    assert digests[0] == digests[1]
    assert len(set(digests)) == 5
    assert all(len(digest) == 64 for digest in digests)


def test_a_digest_tells_where_one_file_ends_and_the_next_begins(tmp_path: Path) -> None:
    put(tmp_path / "a/1/model.onnx", b"xy")
    put(tmp_path / "a/1/w", b"z")
    put(tmp_path / "a/2/model.onnx", b"x")
    put(tmp_path / "a/2/w", b"yz")
    one, two = scan(tmp_path)
    assert one.digest != two.digest


def test_a_bare_files_digest_covers_the_weights_beside_it(tmp_path: Path) -> None:
    file = put(tmp_path / "net.onnx", models.external_weights("weights.bin"))
    put(tmp_path / "weights.bin", b"weights!")
    with_weights = scan(file)[0].digest
    put(tmp_path / "net.onnx.txt", b"unrelated")
    put(tmp_path / "other.onnx", b"unrelated")
    assert scan(file)[0].digest == with_weights
    put(tmp_path / "weights.bin", b"heavier!")
    assert scan(file)[0].digest != with_weights


def test_a_version_comes_with_the_state_of_its_files(tmp_path: Path) -> None:
    file = put(tmp_path / "a/1/model.onnx", models.external_weights("w.bin"))
    weights = put(tmp_path / "a/1/w.bin", b"weights!")
    (version,) = scan(tmp_path)
    assert version.files is not None
    assert version.files.model_file == file
    assert [state.file for state in version.files.files] == [file, weights]


def test_files_that_change_while_they_are_read_have_no_digest(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    file = put(tmp_path / "a/1/model.onnx")

    def read_and_write(path: Path) -> FileState:
        state = snapshot.read(path)
        put(path, b"other")
        return state

    monkeypatch.setattr(contents, "read", read_and_write)
    assert refusal(tmp_path).startswith(f"{file}: has changed while it was read; ")


def test_a_digest_never_holds_a_whole_file(tmp_path: Path) -> None:
    size_bytes = 32 * 1024 * 1024
    with put(tmp_path / "a/1/model.onnx", b"").open("r+b") as file:
        file.truncate(size_bytes)
    tracemalloc.start()
    try:
        scan(tmp_path)
        assert tracemalloc.get_traced_memory()[1] < size_bytes / 8
    finally:
        tracemalloc.stop()


def test_a_path_that_does_not_exist(tmp_path: Path) -> None:
    assert refusal(tmp_path / "no") == f"{tmp_path / 'no'}: does not exist; give a folder of models or a .onnx file"


def test_a_file_that_is_no_onnx_file(tmp_path: Path) -> None:
    file = put(tmp_path / "model.pb")
    assert refusal(file).startswith(f"{file}: is neither a folder nor a .onnx file")


def test_an_empty_folder(tmp_path: Path) -> None:
    assert refusal(tmp_path) == f"{tmp_path}: holds no models; put one at {tmp_path}/NAME/1/model.onnx"


def test_a_folder_without_versions(tmp_path: Path) -> None:
    put(tmp_path / "a/model.toml", b"")
    assert refusal(tmp_path) == f"{tmp_path}/a: has no versions; put the first one at {tmp_path}/a/1/model.onnx"


def test_a_version_without_a_model(tmp_path: Path) -> None:
    put(tmp_path / "a/1/model.onnx")
    put(tmp_path / "a/2/net.onnx")
    expected = f"{tmp_path}/a/2: has no model.onnx; the model of version 2 must be {tmp_path}/a/2/model.onnx"
    assert refusal(tmp_path) == expected


@pytest.mark.parametrize("name", ["01", "0", "-1", "+1", "1" * 19])
def test_a_number_that_is_no_version(tmp_path: Path, name: str) -> None:
    put(tmp_path / "a/1/model.onnx")
    (tmp_path / "a" / name).mkdir()
    assert refusal(tmp_path).startswith(f"{tmp_path}/a/{name}: {name!r} is not a version; versions are whole numbers")


@pytest.mark.parametrize("name", ["v2", "latest", "2.0", "\uff11"])
def test_a_model_in_a_folder_that_is_no_version(tmp_path: Path, name: str) -> None:
    put(tmp_path / "a/1/model.onnx")
    put(tmp_path / "a" / name / "model.onnx")
    assert f"{name!r} is not a version" in refusal(tmp_path)


def test_a_bare_file_in_the_root(tmp_path: Path) -> None:
    put(tmp_path / "a/1/model.onnx")
    put(tmp_path / "net.onnx")
    assert refusal(tmp_path) == (
        f"{tmp_path}/net.onnx: lies in the repository's root; move it to {tmp_path}/net/1/model.onnx, "
        f"or serve {tmp_path}/net.onnx itself"
    )


def test_a_version_folder_as_the_root(tmp_path: Path) -> None:
    put(tmp_path / "1/model.onnx")
    assert f"move it to {tmp_path}/1/NAME/1/model.onnx, or serve" in refusal(tmp_path / "1")


@pytest.mark.parametrize("name", ["two words", "naïve", "a:b", "x" * 129, "per%cent"])
def test_a_name_that_no_address_can_carry(tmp_path: Path, name: str) -> None:
    put(tmp_path / "models" / name / "1/model.onnx")
    assert f"{name!r} cannot be a model's name" in refusal(tmp_path / "models")
    assert f"{name!r} cannot be a model's name" in refusal(put(tmp_path / f"{name}.onnx"))


def test_names_at_the_edge_are_taken(tmp_path: Path) -> None:
    names = ["-", "9", "A.b_c-D", "x" * 128]
    for name in names:
        put(tmp_path / name / "1/model.onnx")
    assert [each.name for each in scan(tmp_path)] == sorted(names)


def test_a_wrong_model_toml(tmp_path: Path) -> None:
    put(tmp_path / "a/1/model.onnx")
    put(tmp_path / "a/model.toml", b"[batching]\nmax_rows = 0\n")
    assert refusal(tmp_path) == (
        f"{tmp_path}/a/model.toml: batching.max_rows = 0: expected a whole number from 1 to 65536"
    )


@pytest.mark.parametrize(
    ("link", "why"), [("nowhere", "No such file or directory"), ("model.toml", "Too many levels ")]
)
def test_a_model_is_not_served_without_the_settings_that_a_link_was_to_lead_to(
    link: str, why: str, tmp_path: Path
) -> None:
    put(tmp_path / "a/1/model.onnx")
    (tmp_path / "a/model.toml").symlink_to(link)
    assert refusal(tmp_path).startswith(f"{tmp_path}/a/model.toml: cannot be read: {why}")


def test_a_file_that_cannot_be_read(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    file = put(tmp_path / "a/1/model.onnx")

    def denied(path: Path, *_: object) -> None:
        raise PermissionError(13, "Permission denied", str(path))

    monkeypatch.setattr(Path, "open", denied)  # root may read everything
    assert refusal(tmp_path) == f"{file}: cannot be read: Permission denied"


BYSTANDERS = ["lost+found", "__pycache__", "@eaDir", "two words", "$RECYCLE.BIN", "docs", "#recycle", ".git", "..data"]


@pytest.mark.parametrize("name", BYSTANDERS)
@pytest.mark.parametrize("content", ["", "notes.txt", "sub/deep/file", "objects/ab/cd"])
def test_folders_that_are_no_models_are_passed_over_with_a_line_each(tmp_path: Path, name: str, content: str) -> None:
    put(tmp_path / "a/1/model.onnx")
    alone = look(tmp_path)
    (tmp_path / name).mkdir()
    if content:
        put(tmp_path / name / content)
    found = look(tmp_path)
    assert (found.versions, found.broken) == (alone.versions, ())
    (line,) = found.passed_over
    assert line.startswith(f"{tmp_path / name}: ")


@pytest.mark.parametrize("name", ["lost+found", ".git", "notes", "v2", "__pycache__"])
def test_folders_beside_the_versions_are_passed_over_with_a_line_each(tmp_path: Path, name: str) -> None:
    put(tmp_path / "a/1/model.onnx")
    (tmp_path / "a" / name).mkdir()
    assert look(tmp_path).passed_over == (f"{tmp_path}/a/{name}: is no version",)
    assert found(scan(tmp_path / "a")) == [("a", 1)], "where the model is the root, too"


def test_only_bystanders(tmp_path: Path) -> None:
    (tmp_path / "lost+found").mkdir()
    put(tmp_path / "docs/readme.md")
    assert refusal(tmp_path).splitlines() == [
        f"{tmp_path}: holds no models; put one at {tmp_path}/NAME/1/model.onnx",
        f"  {tmp_path}/docs: has no versions; put the first one at {tmp_path}/docs/1/model.onnx",
        f"  {tmp_path}/lost+found: is no model",
    ]


def test_every_broken_model_is_named_and_the_others_are_found(tmp_path: Path) -> None:
    for name in ("fine", "also"):
        put(tmp_path / name / "1/model.onnx")
    put(tmp_path / "toml/1/model.onnx")
    put(tmp_path / "toml/model.toml", b"[batching]\nmax_rows = 0\n")
    put(tmp_path / "half/1/model.onnx")
    put(tmp_path / "half/2/net.onnx")
    put(tmp_path / "half/v3/model.onnx")
    put(tmp_path / "flat/model.onnx")
    put(tmp_path / "two words/1/model.onnx")
    put(tmp_path / "weights/1/model.onnx", models.external_weights("w.bin"))
    put(tmp_path / "stray.onnx")
    (tmp_path / "gone").symlink_to(tmp_path / "nowhere")
    (tmp_path / "fine/7").symlink_to("nowhere")
    seen = look(tmp_path)
    assert found(seen.versions) == [("also", 1), ("fine", 1), ("half", 1)]
    assert {(each.name, each.version) for each in seen.broken} == {
        *(("fine", 7), ("flat", None), ("gone", None), ("half", 2), ("half", None), ("stray", None)),
        *(("toml", None), ("two words", None), ("weights", 1)),
    }
    assert refusal(tmp_path) == "\n".join(each.reason for each in seen.broken)
    reasons = {(each.name, each.version): each.reason for each in seen.broken}
    assert reasons["gone", None].startswith(f"{tmp_path}/gone: links to {tmp_path}/nowhere, where there is nothing")
    assert reasons["fine", 7].startswith(f"{tmp_path}/fine/7: links to nowhere, where there is nothing")


def test_one_model_is_scanned_for_itself_alone(tmp_path: Path) -> None:
    put(tmp_path / "fine/1/model.onnx")
    put(tmp_path / "half/1/model.onnx")
    for version in (2, 3):
        put(tmp_path / f"half/{version}/net.onnx")
    assert found(scan_model(tmp_path, "fine")) == [("fine", 1)]
    with pytest.raises(RepositoryError) as caught:
        scan_model(tmp_path, "half")
    assert [line.partition(":")[0] for line in str(caught.value).splitlines()] == [
        f"{tmp_path}/half/{n}" for n in (2, 3)
    ]


@pytest.mark.parametrize("place", ["a", "a/1", "a/1/model.onnx"])
def test_a_link_that_leads_to_itself(tmp_path: Path, place: str) -> None:
    put(tmp_path / "b/1/model.onnx")
    (tmp_path / place).parent.mkdir(parents=True, exist_ok=True)
    (tmp_path / place).symlink_to((tmp_path / place).name)
    seen = look(tmp_path)
    assert found(seen.versions) == [("b", 1)]
    assert [each.name for each in seen.broken] == ["a"]


def test_names_that_are_no_text_are_told_all_the_same(tmp_path: Path) -> None:
    put(tmp_path / "a/1/model.onnx")
    (tmp_path / "caf\udce9").mkdir()
    put(tmp_path / "th\udce9/1/model.onnx")
    seen = look(tmp_path)
    assert [each.name for each in seen.broken] == ["th\ufffd"]
    assert all(line.encode() for line in (*seen.passed_over, seen.broken[0].reason))


def test_what_is_broken_says_which_version(tmp_path: Path) -> None:
    put(tmp_path / "a/3/net.onnx")
    reason = f"{tmp_path}/a/3: has no model.onnx; the model of version 3 must be {tmp_path}/a/3/model.onnx"
    assert look(tmp_path).broken == (BrokenModel("a", 3, reason),)
