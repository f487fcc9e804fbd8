"""`model.toml`: its tables and keys, and the messages about what is wrong in it."""

from __future__ import annotations

import os
from collections.abc import Callable
from pathlib import Path

import pytest
from pydantic import ValidationError

from sluice.inference.config.model_config import (
    GIB,
    KIB,
    MIB,
    BatchingConfig,
    CutOutput,
    ModelConfig,
    PaddedInput,
    PaddingConfig,
    WorkersConfig,
)
from sluice.inference.config.model_toml import load_model_config
from sluice.inference.errors import RepositoryError

MAX_ROWS = "expected a whole number from 1 to 65536"
BYTES = 'expected a whole number of bytes, such as 65536 or "64KiB" (KiB, MiB or GiB)'
DEVICE = 'expected "cpu", or "cuda:N" for the GPU with the number N ("cuda" is "cuda:0")'
BATCHING_KEYS = "keys here are latency_objective_ms, max_rows, max_queue_rows, max_queue_bytes, batched, audit_share"


def load(tmp_path: Path, text: str | bytes, defaults: ModelConfig | None = None) -> ModelConfig:
    file = tmp_path / "model.toml"
    file.write_bytes(text if isinstance(text, bytes) else text.encode())
    return load_model_config(file, defaults or ModelConfig())


def problems(tmp_path: Path, text: str | bytes) -> list[str]:
    with pytest.raises(RepositoryError) as caught:
        load(tmp_path, text)
    lines = str(caught.value).splitlines()
    assert all(line.startswith(f"{tmp_path}/model.toml: ") for line in lines)
    return [line.removeprefix(f"{tmp_path}/model.toml: ") for line in lines]


def test_an_empty_file_changes_nothing(tmp_path: Path) -> None:
    defaults = ModelConfig(workers=WorkersConfig(count=3))
    assert load(tmp_path, "", defaults) == defaults


def test_defaults() -> None:
    config = ModelConfig()
    assert config.batching == BatchingConfig(
        latency_objective_ms=None, max_rows=None, max_queue_rows=4096, max_queue_bytes=256 * MIB, batched=None
    )
    assert config.workers == WorkersConfig(
        count=None, device="cpu", intra_op_threads=None, run_timeout_s=20.0, load_timeout_s=300.0
    )


def test_only_the_keys_of_the_file_override(tmp_path: Path) -> None:
    defaults = ModelConfig(
        batching=BatchingConfig(max_rows=8, max_queue_rows=99), workers=WorkersConfig(count=3, device="cuda:1")
    )
    loaded = load(tmp_path, "[batching]\nmax_rows = 16\n[workers]\nintra_op_threads = 2\nrun_timeout_s = 5\n", defaults)
    assert loaded == ModelConfig(
        batching=BatchingConfig(max_rows=16, max_queue_rows=99),
        workers=WorkersConfig(count=3, device="cuda:1", intra_op_threads=2, run_timeout_s=5.0),
    )


@pytest.mark.parametrize(
    ("written", "bytes_"),
    [("7", 7), ('"7"', 7), ('"7B"', 7), ('"64KiB"', 64 * KIB), ('"256 MiB"', 256 * MIB), ('" 2GiB "', 2 * GIB)],
)
def test_sizes(tmp_path: Path, written: str, bytes_: int) -> None:
    assert load(tmp_path, f"batching.max_queue_bytes = {written}").batching.max_queue_bytes == bytes_


@pytest.mark.parametrize("written", ["1MB", "64kib", "1.5GiB", "-1KiB", "", "KiB", "٣KiB", "1 000"])
def test_sizes_that_are_refused(tmp_path: Path, written: str) -> None:
    expected = [f'batching.max_queue_bytes = "{written}": {BYTES}']
    assert problems(tmp_path, f'batching.max_queue_bytes = "{written}"') == expected


@pytest.mark.parametrize(
    ("written", "device"), [("cpu", "cpu"), ("cuda", "cuda:0"), ("cuda:0", "cuda:0"), ("cuda:12", "cuda:12")]
)
def test_devices(tmp_path: Path, written: str, device: str) -> None:
    assert load(tmp_path, f'workers.device = "{written}"').workers.device == device


@pytest.mark.parametrize("written", ["gpu", "cuda:", "cuda:-1", "cuda:01", "cpu:0", "cuda:0 ", "", "cuda:\uff11"])
def test_devices_that_are_refused(tmp_path: Path, written: str) -> None:
    assert problems(tmp_path, f'workers.device = "{written}"') == [f'workers.device = "{written}": {DEVICE}']


@pytest.mark.parametrize(
    ("written", "fault"),
    [
        ("batching.max_rows = 0", f"batching.max_rows = 0: {MAX_ROWS}"),
        ("batching.max_rows = 65537", f"batching.max_rows = 65537: {MAX_ROWS}"),
        ("batching.max_rows = 1.5", f"batching.max_rows = 1.5: {MAX_ROWS}"),
        ("batching.max_rows = true", f"batching.max_rows = true: {MAX_ROWS}"),
        ('batching.max_rows = "many"', f'batching.max_rows = "many": {MAX_ROWS}'),
        ("batching.max_rows = [1]", f"batching.max_rows = [1]: {MAX_ROWS}"),
        ("batching.max_queue_rows = 0", "batching.max_queue_rows = 0: expected a whole number of at least 1"),
        ("batching.max_queue_bytes = 0", f"batching.max_queue_bytes = 0: {BYTES}, of at least 1"),
        (
            "batching.latency_objective_ms = 0",
            "batching.latency_objective_ms = 0: expected a number above 0",
        ),
        ("batching = 3", "batching: expected a table, [batching]"),
        ("workers.count = 65", "workers.count = 65: expected a whole number from 1 to 64"),
        ("workers.device = 0", "workers.device = 0: expected text in quotation marks"),
        ("workers.run_timeout_s = 0", "workers.run_timeout_s = 0: expected a number of seconds above 0"),
        ("batching.audit_share = -0.1", "batching.audit_share = -0.1: expected a number from 0 to 1"),
        ("batching.audit_share = 1.5", "batching.audit_share = 1.5: expected a number from 0 to 1"),
        ("workers.run_timeout_s = inf", "workers.run_timeout_s = inf: expected a finite number"),
        ("workers.run_timeout_s = nan", "workers.run_timeout_s = nan: expected a finite number"),
        ("workers.run_timeout_s = false", "workers.run_timeout_s = false: expected a number of seconds above 0"),
        (
            "workers.intra_op_threads = 0",
            "workers.intra_op_threads = 0: expected a whole number from 1 to 1024",
        ),
    ],
)
def test_wrong_values(tmp_path: Path, written: str, fault: str) -> None:
    assert problems(tmp_path, written) == [fault]


@pytest.mark.parametrize(
    ("written", "fault"),
    [
        ("batching.max_row = 1", f"batching.max_row: unknown key; did you mean max_rows? The {BATCHING_KEYS}"),
        ("batching.colour = 1", f"batching.colour: unknown key; the {BATCHING_KEYS}"),
        (
            "max_rows = 1",
            "max_rows: unknown key; did you mean batching.max_rows? The keys here are batching, workers, cache, "
            "padding, text, input, labels, version_labels",
        ),
        (
            "[bathcing]",
            "bathcing: unknown key; did you mean batching? The keys here are batching, workers, cache, padding, "
            "text, input, labels, version_labels",
        ),
    ],
)
def test_unknown_keys(tmp_path: Path, written: str, fault: str) -> None:
    assert problems(tmp_path, written) == [fault]


def test_every_fault_is_told_at_once(tmp_path: Path) -> None:
    found = problems(tmp_path, '[batching]\nmax_rows = 0\nmax_rwos = 1\n[workers]\ndevice = "gpu"\n')
    assert [each.split(":")[0].split(" ")[0] for each in found] == [
        "batching.max_rows",
        "batching.max_rwos",
        "workers.device",
    ]


def test_a_long_value_is_cut(tmp_path: Path) -> None:
    (fault,) = problems(tmp_path, f'workers.device = "{"x" * 5000}"')
    assert len(fault) < 300


def test_broken_toml_names_the_line(tmp_path: Path) -> None:
    (fault,) = problems(tmp_path, "[batching]\nmax_rows = 1\nmax_queue_rows 7\n")
    assert fault.startswith("not valid TOML: ")
    assert "line 3" in fault


def test_a_file_that_is_not_utf8_names_the_line(tmp_path: Path) -> None:
    assert problems(tmp_path, b"# ok\n# \xff\n") == ["line 2 is not UTF-8; a TOML file must be"]


def test_a_file_that_cannot_be_read(tmp_path: Path) -> None:
    with pytest.raises(RepositoryError, match=r"cannot be read: Is a directory"):
        load_model_config(tmp_path, ModelConfig())


@pytest.mark.parametrize("name", ["model.toml", "classes.txt"])
@pytest.mark.parametrize("make", [os.mkfifo, lambda file: file.symlink_to("/dev/zero")])
def test_pipes_and_devices_are_not_read(make: Callable[[Path], None], name: str, tmp_path: Path) -> None:
    """Reading the first would block, and reading the second would never end."""
    (tmp_path / "model.toml").write_text('labels.y = "classes.txt"\n')
    (tmp_path / name).unlink(missing_ok=True)
    make(tmp_path / name)
    with pytest.raises(RepositoryError, match=rf"{name}: is a pipe, a socket or a device; put a file there$"):
        load_model_config(tmp_path / "model.toml", ModelConfig())


@pytest.mark.parametrize(
    ("written", "share"),
    [
        ("", 0.01),
        ("batching.audit_share = 0.2", 0.2),
        ("batching.audit_share = 0", 0.0),
        ('batching.batched = "unchecked"', 0.0),
        ('batching = {batched = "unchecked", audit_share = 0.05}', 0.05),
    ],
)
def test_who_says_unchecked_is_believed_while_serving_too(tmp_path: Path, written: str, share: float) -> None:
    assert load(tmp_path, written).batching.audited_share == share


@pytest.mark.parametrize(("written", "batched"), [("true", True), ("false", False), ('"unchecked"', "unchecked")])
def test_the_operators_word_on_the_batch_axis(tmp_path: Path, written: str, batched: bool | str) -> None:
    assert ModelConfig().batching.batched is None
    assert load(tmp_path, f"batching.batched = {written}").batching.batched == batched


@pytest.mark.parametrize(
    "written", ['"some"', "2", "1", "0", "1.0", '"yes"', '"on"', '"1"', '"True"', '"Unchecked"', "[true]"]
)
def test_a_word_on_the_batch_axis_that_is_none(tmp_path: Path, written: str) -> None:
    expected = f'batching.batched = {written}: expected true or false, or "unchecked"'
    assert problems(tmp_path, f"batching.batched = {written}") == [expected]


def test_configuration_is_frozen() -> None:
    with pytest.raises(ValidationError):
        ModelConfig().batching.max_rows = 3  # type: ignore[misc]


def test_padding_of_inputs_and_cutting_of_outputs_by_name(tmp_path: Path) -> None:
    written = """
        [padding.inputs.ids]
        axis = 2
        value = -9223372036854775808
        buckets = [16, 32]
        [padding.inputs."mask.1"]
        like = "ids"
        [padding.outputs.logits]
        like = "ids"
    """
    loaded = load(tmp_path, written).padding
    assert loaded.inputs == {
        "ids": PaddedInput(axis=2, value=-(2**63), buckets=(16, 32)),
        "mask.1": PaddedInput(axis=1, value=0, like="ids"),
    }
    assert loaded.outputs == {"logits": CutOutput(axis=1, like="ids")}
    assert ModelConfig().padding == PaddingConfig(inputs={}, outputs={})


BUCKETS = "expected rising lengths of at least 1, such as [16, 32, 64]"
PADDED_KEYS = "keys here are axis, value, buckets, like"


@pytest.mark.parametrize(
    ("written", "fault"),
    [
        ("padding = 3", "padding: expected a table, [padding]"),
        ("padding.inputs = 3", "padding.inputs = 3: expected tables, [padding.inputs.NAME]"),
        ("padding.inputs = true", "padding.inputs = true: expected tables, [padding.inputs.NAME]"),
        ("padding.inputs.x = 3", "padding.inputs.x: expected a table, [padding.inputs.x]"),
        ("padding.inputs.x.axis = 0", "padding.inputs.x.axis = 0: expected a whole number from 1 to 31"),
        ("padding.inputs.x.axis = true", "padding.inputs.x.axis = true: expected a whole number from 1 to 31"),
        ("padding.inputs.x.value = inf", "padding.inputs.x.value = inf: expected a finite number"),
        ('padding.inputs.x.value = "0"', 'padding.inputs.x.value = "0": expected a finite number'),
        ("padding.inputs.x.value = true", "padding.inputs.x.value = true: expected a number"),
        ("padding.inputs.x.buckets = 8", "padding.inputs.x.buckets = 8: expected a list in square brackets"),
        ("padding.inputs.x.buckets = []", f"padding.inputs.x.buckets = []: {BUCKETS}"),
        ("padding.inputs.x.buckets = [0, 8]", f"padding.inputs.x.buckets = [0, 8]: {BUCKETS}"),
        ("padding.inputs.x.buckets = [8, 8]", f"padding.inputs.x.buckets = [8, 8]: {BUCKETS}"),
        (
            "padding.inputs.x.buckets = [8, 2147483648]",
            "padding.inputs.x.buckets = [8, 2147483648]: expected lengths of at most 2147483647",
        ),
        (
            "padding.inputs.x.buckets = [99999999999999999999]",
            "padding.inputs.x.buckets = [99999999999999999999]: expected lengths of at most 2147483647",
        ),
        ("padding.inputs.x.buckets = [8, 4]", f"padding.inputs.x.buckets = [8, 4]: {BUCKETS}"),
        ("padding.inputs.x.buckets = [4, true]", "padding.inputs.x.buckets = true: expected a whole number"),
        ('padding.inputs.x.buckets = ["4"]', 'padding.inputs.x.buckets = "4": expected a whole number'),
        (
            "padding.inputs.x.value = 1",
            "padding.inputs.x.buckets: expected lengths to pad to, such as [16, 32, 64], or `like` with the input that "
            "this one follows",
        ),
        (
            'padding.inputs.x = {buckets = [8], like = "y"}',
            "padding.inputs.x.buckets: an input with `like` is padded as the input that it follows; "
            "remove one of the two",
        ),
        (
            'padding.inputs."in.1".bucket = [8]',
            f'padding.inputs."in.1".bucket: unknown key; did you mean buckets? The {PADDED_KEYS}',
        ),
        ("padding.outputs.y.value = 3", "padding.outputs.y.value: unknown key; the keys here are axis, like"),
        ("padding.outputs.y.like = 3", "padding.outputs.y.like = 3: expected text in quotation marks"),
        (
            "padding.input.x.axis = 1",
            "padding.input: unknown key; did you mean inputs? The keys here are inputs, outputs",
        ),
    ],
)
def test_wrong_padding(tmp_path: Path, written: str, fault: str) -> None:
    assert problems(tmp_path, written) == [fault]


def test_a_model_that_embeds_texts(tmp_path: Path) -> None:
    assert load(tmp_path, "").text is None
    text = load(tmp_path, '[text]\npooling = "mean"').text
    assert text is not None
    assert (text.pooling, text.tokenizer, text.max_tokens, text.normalise) == ("mean", "tokenizer.json", 512, True)
    assert problems(tmp_path, "[text]") == ["text.pooling: is needed, and has no default"]
    assert problems(tmp_path, 'text = "yes"') == ["text: expected a table, [text]"]
    assert problems(tmp_path, '[text]\npooling = "sum"\nmax_tokens = 0\ntruncate = "yes"\nmasc = "mask"') == [
        'text.pooling = "sum": expected "mean", "cls", "last", "max" or "none"',
        "text.max_tokens = 0: expected a whole number from 1 to 1048576",
        'text.truncate = "yes": expected true or false',
        "text.masc: unknown key; did you mean mask? The keys here are pooling, tokenizer, max_tokens, truncate, "
        "max_characters, normalise, dimensions, ids, mask, types, output",
    ]


@pytest.mark.parametrize("name", ["", ".", "..", "../tokenizer.json", "/etc/tokenizer.json"])
def test_a_tokenizer_lies_beside_its_model(tmp_path: Path, name: str) -> None:
    fault = 'expected the name of a file without a folder, such as "tokenizer.json"'
    written = f'[text]\npooling = "cls"\ntokenizer = "{name}"'
    assert problems(tmp_path, written) == [f'text.tokenizer = "{name}": {fault}']
