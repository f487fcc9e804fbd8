"""`sluice profile`, with real workers."""

from __future__ import annotations

import json
import os
import sys
import tomllib
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from click.testing import CliRunner, Result

from sluice.gateway.cli import main
from sluice.gateway.commands.profile.command import ProfileOrder, carry_out
from sluice.gateway.commands.profile.measure import Profile, as_json_text, as_table, picked, under, without_plan
from sluice.gateway.commands.profile.plot import plot
from sluice.gateway.commands.profile.write import model_toml, settings_of, write_plan
from sluice.inference.config.model_config import BatchingConfig, ModelConfig, WorkersConfig
from sluice.inference.errors import RepositoryError, StartError
from sluice.inference.findings import WAYS, Evidence, Findings
from sluice.inference.repository.scan import ModelVersion, ScannedRepository
from sluice.inference.serving_plan import ServingPlan
from sluice.inference.types import Knot
from tests import classifiers, influences, models

KNOTS = (Knot(1, 1e-3), Knot(2, 1.4e-3), Knot(4, 2.4e-3))
PLAN = ServingPlan(2, 3, 2, KNOTS, ("because of one thing", "because of another"))
PROVEN = Findings(Evidence.PROVEN, "every operator keeps rows apart")
SOURCE = ModelVersion("m", 4, Path("m/4/model.onnx"), "digest", ModelConfig())


def profiled(*arguments: str | Path) -> Result:
    return CliRunner().invoke(main, ["profile", *map(str, arguments)], catch_exceptions=False)


@pytest.fixture
def repository(tmp_path: Path) -> Path:
    """Two models that are measured quickly: one with two versions, and one whose rows mix."""
    for place, model in (("a/1", models.linear()), ("a/2", models.tiny()), ("b/1", models.centred())):
        models.place(model, tmp_path / "models" / place)
    for name in ("a", "b"):
        (tmp_path / "models" / name / "model.toml").write_text("batching.max_rows = 4\n")
    return tmp_path / "models"


def test_the_table_has_a_line_for_each_size_and_marks_the_chosen_one() -> None:
    assert as_table(Profile(SOURCE, None, True, PLAN, PROVEN)) == "\n".join(
        [
            "m, version 4",
            "",
            "rows  run ms   µs/row  rows/s, 2 workers x 3 threads",
            "   1   1.000  1000.00                          1,818",
            "   2   1.400   700.00                          2,667  <- max_rows",
            "   4   2.400   600.00                          3,200",
            "",
            "plan: 2 workers with 3 threads each, batches of up to 2 rows",
            "  - because of one thing",
            "  - because of another",
            "rows: batched (proven): every operator keeps rows apart",
        ]
    )


def test_a_model_that_could_not_be_measured_has_no_table() -> None:
    plan = ServingPlan(1, 1, 64, (), ("because",))
    assert "rows/s" not in as_table(Profile(SOURCE, None, True, plan, PROVEN))


def test_machines_get_all_of_it() -> None:
    (found,) = json.loads(as_json_text([Profile(SOURCE, 50.0, True, PLAN, PROVEN)]))
    assert found["knots"][1] == {"rows": 2, "run_s": 1.4e-3, "rows_per_s": pytest.approx(4 / 1.5e-3)}
    del found["knots"]
    assert found == {
        "model": "m",
        "version": 4,
        "batched": True,
        "rows": {
            "evidence": "proven",
            "because": "every operator keeps rows apart",
            "missing": None,
            "ways": [],
            "erratic_because": None,
            "alarm": None,
            "notes": [],
        },
        "latency_objective_ms": 50.0,
        "workers": 2,
        "intra_op_threads": 3,
        "max_rows": 2,
        "reasons": ["because of one thing", "because of another"],
    }


def test_the_highest_version_of_each_model_is_measured(repository: Path) -> None:
    result = profiled(repository, "--json")
    assert result.exit_code == 0, result.output
    found = json.loads(result.stdout)
    assert [(each["model"], each["version"], each["batched"]) for each in found] == [("a", 2, True), ("b", 1, False)]
    assert [knot["rows"] for knot in found[0]["knots"]] == [1, 2, 4]
    assert "measuring a, version 2" in result.stderr


def test_one_model_is_picked_by_its_name(repository: Path) -> None:
    result = profiled(repository, "--model", "b")
    assert result.exit_code == 0, result.output
    assert result.stdout.startswith("b, version 1\n")
    assert "every request runs alone: output 'y': ReduceMean " in result.stdout
    assert "<- max_rows" in result.stdout
    assert "a, version" not in result.output


@pytest.mark.parametrize("path", ["models", "models/b", "alone.onnx"])
def test_what_serve_takes_is_taken(path: str, repository: Path) -> None:
    models.place(models.centred(), repository.parent, "alone.onnx")
    result = profiled(repository.parent / path, "--model", "alone" if path == "alone.onnx" else "b")
    assert result.exit_code == 0, result.output


def test_an_objective_and_a_fresh_start_change_what_is_planned_under() -> None:
    config = ModelConfig(
        batching=BatchingConfig(latency_objective_ms=9, max_rows=4, max_queue_rows=7),
        workers=WorkersConfig(count=2, intra_op_threads=3, device="cuda:1"),
    )
    assert under(config, None) == config
    assert under(config, 5.0).batching == BatchingConfig(latency_objective_ms=5, max_rows=4, max_queue_rows=7)
    assert without_plan(config) == ModelConfig(
        batching=BatchingConfig(latency_objective_ms=9, max_queue_rows=7), workers=WorkersConfig(device="cuda:1")
    )


def test_the_objective_reaches_the_plan(repository: Path) -> None:
    result = profiled(repository, "--model", "a", "--afresh", "--objective-ms", "0.000001")
    assert result.exit_code == 0, result.output
    assert "the objective of 0.001 µs cannot be kept" in result.stdout


def test_the_plan_is_written_beside_what_stands_there(repository: Path) -> None:
    toml = repository / "a" / "model.toml"
    toml.write_text("# mine\nbatching.max_rows = 4 # why\n\n[workers]\n# slow disk\nload_timeout_s = 99\n")
    os.chmod(toml, 0o640)
    result = profiled(repository, "--model", "a", "--write", "--objective-ms", "50")
    assert result.exit_code == 0, result.output
    written = toml.read_text()
    assert all(each in written for each in ("# mine\n", "# slow disk\n", "# why"))
    found = tomllib.loads(written)
    rows = found["batching"]["max_rows"]
    assert found["batching"] == {"max_rows": rows, "latency_objective_ms": 50}
    assert found["workers"]["load_timeout_s"] == 99
    assert found["workers"]["count"] >= 1
    assert found["workers"]["intra_op_threads"] >= 1
    assert f"written: {toml}: batching.latency_objective_ms = 50, batching.max_rows = {rows}," in result.stderr
    assert toml.stat().st_mode & 0o777 == 0o640
    assert sorted(each.name for each in toml.parent.iterdir()) == ["1", "2", "model.toml"]


def test_a_model_that_runs_alone_gets_no_rows_written(repository: Path) -> None:
    toml = repository / "b" / "model.toml"
    toml.unlink()
    result = profiled(repository, "--model", "b", "--write")
    assert result.exit_code == 0, result.output
    assert list(tomllib.loads(toml.read_text())) == ["workers"]


@pytest.mark.parametrize(
    ("old", "new"),
    [
        ("", {}),
        ("[batching]\n", {}),
        ("batching = {max_rows = 3, max_queue_rows = 5}\n", {"batching": {"max_queue_rows": 5}}),
        ("batching.max_queue_rows = 5\n[workers]\n", {"batching": {"max_queue_rows": 5}}),
        ("[padding.inputs.x]\nbuckets = [8]\n", {"padding": {"inputs": {"x": {"buckets": [8]}}}}),
        ("workers.count = 3\nbatching.batched = true", {"batching": {"batched": True}}),
    ],
)
def test_every_way_to_write_toml_is_kept(tmp_path: Path, old: str, new: dict[str, Any]) -> None:
    toml = tmp_path / "model.toml"
    toml.write_text(old)
    told = write_plan(toml, {"batching": {"max_rows": 8}, "workers": {"count": 1, "intra_op_threads": 2}})
    assert told == "batching.max_rows = 8, workers.count = 1, workers.intra_op_threads = 2"
    assert tomllib.loads(toml.read_text()) == {
        **new,
        "batching": {**new.get("batching", {}), "max_rows": 8},
        "workers": {"count": 1, "intra_op_threads": 2},
    }


def test_a_link_stays_a_link(tmp_path: Path) -> None:
    (tmp_path / "kept.toml").write_text("# kept\n")
    (tmp_path / "model.toml").symlink_to(tmp_path / "kept.toml")
    write_plan(tmp_path / "model.toml", {"workers": {"count": 1}})
    assert (tmp_path / "model.toml").is_symlink()
    assert tomllib.loads((tmp_path / "kept.toml").read_text()) == {"workers": {"count": 1}}


def test_a_file_that_cannot_be_written_is_left_as_it_was(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    toml = tmp_path / "model.toml"
    toml.write_text("# as it was\n")

    def refuse(*_: object) -> None:
        raise PermissionError(13, "Permission denied")

    monkeypatch.setattr("os.replace", refuse)
    with pytest.raises(RepositoryError, match=r"model\.toml: cannot be written: Permission denied"):
        write_plan(toml, {"workers": {"count": 1}})
    assert [each.name for each in tmp_path.iterdir()] == ["model.toml"]
    assert toml.read_text() == "# as it was\n"


def test_the_curve_is_drawn(repository: Path, tmp_path: Path) -> None:
    pytest.importorskip("matplotlib")
    picture = tmp_path / "curve.png"
    result = profiled(repository, "--plot", picture)
    assert result.exit_code == 0, result.output
    assert picture.read_bytes().startswith(b"\x89PNG\r\n")


def test_a_picture_needs_the_extra(repository: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "matplotlib", None)
    result = profiled(repository, "--plot", tmp_path / "curve.png")
    assert (result.exit_code, result.stdout) == (1, "")
    assert (
        result.stderr == "Error: --plot needs matplotlib, which is not installed: pip install 'sluice-gateway[plot]'\n"
    )


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["models", "--model", "c"], "there is no model 'c'; there are a, b"),
        (["absent"], "does not exist; give a folder of models or a .onnx file"),
        (["alone.onnx", "--write"], "only a model in a folder has a model.toml; move it to "),
        (["models/a/2/model.onnx", "--write"], "served without a model.toml; give the model's folder, "),
        (["models", "--objective-ms", "0"], "--objective-ms 0: expected a number above 0"),
        (["models", "--objective-ms", "nan"], "--objective-ms nan: expected a number above 0"),
        (["broken"], "model.onnx: "),
        (["models", "--config", "absent.toml"], "absent.toml does not exist"),
    ],
)
def test_faults_are_told_plainly(
    arguments: list[str], message: str, repository: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    models.place(models.tiny(), repository.parent, "alone.onnx")
    models.place(b"no model", repository.parent / "broken" / "x" / "1")
    monkeypatch.chdir(repository.parent)
    result = profiled(*arguments)
    assert (result.exit_code, result.stdout) == (1, "")
    assert "Error: " in result.stderr
    assert message in result.stderr
    assert "Traceback" not in result.output


@pytest.mark.parametrize("suffix", [".jpg", ""])
def test_a_picture_is_a_png(suffix: str, repository: Path, tmp_path: Path) -> None:
    pytest.importorskip("matplotlib")
    result = profiled(repository, "--plot", tmp_path / f"curve{suffix}")
    assert (result.exit_code, result.stdout) == (1, "")
    assert "expected a file that ends in .png" in result.stderr


def test_picking_takes_the_highest_version_whatever_the_order() -> None:
    def version(name: str, number: int) -> ModelVersion:
        return ModelVersion(name, number, Path(), "", ModelConfig())

    there = ScannedRepository((version("b", 2), version("b", 10), version("a", 1), version("b", 3)))
    assert [(each.name, each.version) for each in picked(there, None)[0]] == [("a", 1), ("b", 10)]
    assert [(each.name, each.version) for each in picked(there, "b")[0]] == [("b", 10)]


class Terminal:
    """What was printed, in order."""

    def __init__(self) -> None:
        self.said: list[str] = []
        self.noted: list[str] = []
        self.all: list[str] = []

    def say(self, text: str) -> None:
        self.said.append(text)
        self.all.append(text)

    def note(self, text: str) -> None:
        self.noted.append(text)
        self.all.append(text)


async def test_each_model_is_shown_as_soon_as_it_is_measured(repository: Path) -> None:
    terminal = Terminal()
    await carry_out(ProfileOrder(repository, ModelConfig()), terminal.say, terminal.note)
    firsts = [text.strip().splitlines()[0] for text in terminal.all]
    assert firsts == ["measuring a, version 2 ...", "a, version 2", "measuring b, version 1 ...", "b, version 1"]


@pytest.mark.parametrize("as_json", [False, True])
async def test_what_is_known_of_other_models_survives_a_failure(as_json: bool, repository: Path) -> None:
    models.place(b"no model", repository / "aa" / "1")
    models.place(b"no model", repository / "z" / "1")
    terminal = Terminal()
    order = ProfileOrder(repository, ModelConfig(), as_json=as_json, write=True)
    with pytest.raises(StartError) as caught:
        await carry_out(order, terminal.say, terminal.note)
    failures = str(caught.value).splitlines()
    assert len(failures) == 2
    assert "aa/1/model.onnx: " in failures[0]
    assert "z/1/model.onnx: " in failures[1]
    if as_json:
        assert [each["model"] for each in json.loads("".join(terminal.said))] == ["a", "b"]
    else:
        assert [text.strip().split(",")[0] for text in terminal.said] == ["a", "b"]
    for name in ("a", "b"):
        assert "count" in tomllib.loads((repository / name / "model.toml").read_text())["workers"]


async def test_an_objective_is_planned_for_afresh_beside_what_was_written_before(repository: Path) -> None:
    toml = repository / "a" / "model.toml"
    toml.write_text("[batching]\nmax_rows = 1\nmax_queue_rows = 9\n[workers]\nintra_op_threads = 2\n")
    terminal = Terminal()
    order = ProfileOrder(repository, ModelConfig(), name="a", objective_ms=1000.0, as_json=True)
    await carry_out(order, terminal.say, terminal.note)
    said = f"planned afresh for --objective-ms, without what {toml} says: batching.max_rows = 1, "
    assert f"{said}workers.intra_op_threads = 2" in terminal.noted
    (found,) = json.loads(terminal.said[0])
    assert len(found["knots"]) > 1
    assert not any("is set" in reason for reason in found["reasons"])


async def test_what_the_settings_say_of_all_models_stays_under_an_objective(repository: Path) -> None:
    defaults = ModelConfig(batching=BatchingConfig(max_rows=2))
    terminal = Terminal()
    order = ProfileOrder(repository, defaults, name="a", objective_ms=1000.0, as_json=True)
    await carry_out(order, terminal.say, terminal.note)
    (found,) = json.loads(terminal.said[0])
    assert found["max_rows"] == 2


async def test_without_an_objective_what_is_set_stays(repository: Path) -> None:
    terminal = Terminal()
    await carry_out(ProfileOrder(repository, ModelConfig(), name="a", as_json=True), terminal.say, terminal.note)
    (found,) = json.loads(terminal.said[0])
    assert found["max_rows"] == 4
    assert terminal.noted == ["measuring a, version 2 ..."]


async def test_a_model_that_could_not_be_measured_is_neither_written_nor_drawn(repository: Path) -> None:
    pytest.importorskip("matplotlib")
    models.place(models.lookup(0), repository / "c" / "1")
    picture = repository.parent / "curve.png"
    terminal = Terminal()
    order = ProfileOrder(repository, ModelConfig(), name="c", write=True, plot_file=picture)
    with pytest.raises(StartError) as caught:
        await carry_out(order, terminal.say, terminal.note)
    assert str(caught.value).splitlines() == [
        "--write: 'c' could not be measured, so there is no plan to write; set batching.max_rows, workers.count and "
        "workers.intra_op_threads by hand",
        "--plot: 'c' could not be measured, so there is no curve to draw",
    ]
    assert terminal.said[0].startswith("c, version 1\n")
    assert not picture.exists()
    assert not (repository / "c" / "model.toml").exists()


def test_a_guess_is_not_written_down_and_not_drawn(tmp_path: Path) -> None:
    guess = Profile(SOURCE, None, True, ServingPlan(1, 1, 64, (), ("because",)), PROVEN)
    with pytest.raises(RepositoryError, match="'m' could not be measured, so there is no plan to write"):
        settings_of(guess, None)
    pytest.importorskip("matplotlib")
    with pytest.raises(StartError, match="'m' could not be measured, so there is no curve to draw"):
        plot([guess], tmp_path / "curve.png")


async def test_padding_that_does_not_suit_the_model_is_told_before_it_is_measured(
    repository: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def measured(*_: object, **__: object) -> None:
        pytest.fail("the model was measured")

    monkeypatch.setattr("sluice.gateway.commands.profile.measure.Workers", measured)
    models.place(models.texts(), repository / "t" / "1")
    (repository / "t" / "model.toml").write_text("[padding.inputs.idz]\nbuckets = [4]\n")
    with pytest.raises(StartError, match=r"the model\.toml of 't': .*unknown input; did you mean ids\?"):
        await carry_out(ProfileOrder(repository, ModelConfig(), name="t"), print, print)


async def test_padding_that_suits_the_model_is_taken(repository: Path) -> None:
    models.place(models.texts(), repository / "t" / "1")
    (repository / "t" / "model.toml").write_text("[padding.inputs.ids]\nbuckets = [4]\n")
    terminal = Terminal()
    await carry_out(ProfileOrder(repository, ModelConfig(), name="t"), terminal.say, terminal.note)
    assert "rows/s" in terminal.said[0]


def test_a_version_s_file_is_written_for_in_its_models_folder(repository: Path) -> None:
    file = repository / "a" / "2" / "model.onnx"
    with pytest.raises(RepositoryError) as caught:
        model_toml(SOURCE, file)
    assert str(caught.value).endswith(f"give the model's folder, {repository / 'a'}")


def test_that_nothing_is_known_of_the_rows_is_said_with_what_to_do() -> None:
    unproven = Findings(
        Evidence.NONE, "nobody knows", missing="rows that differ", notes=("the sample was not used",), ways=WAYS
    )
    lines = as_table(Profile(SOURCE, None, False, PLAN, unproven)).splitlines()
    rows = lines[lines.index("rows: served alone: nobody knows") + 1 :]
    assert rows[:2] == ["  - missing: rows that differ", "  - to have it batched, give one of these:"]
    assert [line[:6] for line in rows[2:]] == ["    - "] * 3 + ["  - th"]


async def test_the_ways_to_have_a_model_batched_are_for_machines_too(repository: Path) -> None:
    models.place(influences.hidden_every_row(1e7), repository / "l" / "1")
    terminal = Terminal()
    await carry_out(ProfileOrder(repository, ModelConfig(), name="l", as_json=True), terminal.say, terminal.note)
    (found,) = json.loads(terminal.said[0])
    assert (found["batched"], found["rows"]["evidence"], len(found["rows"]["ways"])) == (False, "none", 3)
    assert "'boxes'" in found["rows"]["missing"]
    assert "Reshape" in found["rows"]["missing"]


def test_the_proof_is_explained_operator_by_operator(repository: Path) -> None:
    said = profiled(repository, "--explain").stdout
    assert said.splitlines()[:3] == [
        "a, version 2: the rows of a batch are proven apart",
        "  every operator between the inputs and the outputs keeps rows apart",
        "  MatMul   logits  [N, 3], rows along axis 0",
    ]
    mixed = "mixed: ReduceMean adds up, or compares, along the axis of the rows"
    assert said.splitlines()[-4:] == [
        "b, version 1: the rows of a batch are not apart",
        "  output 'y': ReduceMean adds up, or compares, along the axis of the rows",
        f"  ReduceMean  mean  {mixed}  <- from here on",
        "  Sub         y     mixed, from above",
    ]


def test_an_explanation_as_json(repository: Path) -> None:
    (told,) = json.loads(profiled(repository, "--explain", "--json", "--model", "b").stdout)
    assert told["verdict"] == "mixed"
    assert [step["operator"] for step in told["operators"]] == ["ReduceMean", "Sub"]


def test_what_is_served_of_a_classifier_is_explained(tmp_path: Path) -> None:
    file = models.place(classifiers.named().model, tmp_path)
    (told,) = json.loads(profiled(file, "--explain", "--json").stdout)
    assert told["verdict"] == "proven"


def test_what_cannot_be_explained_is_an_error(tmp_path: Path) -> None:
    result = profiled(tmp_path / "nowhere.onnx", "--explain")
    assert result.exit_code == 1
    assert "does not exist" in result.output


def test_what_is_broken_keeps_no_other_from_being_explained(repository: Path) -> None:
    (repository / "broken" / "1").mkdir(parents=True)
    result = profiled(repository, "--explain")
    assert result.exit_code == 1
    assert "a, version 2: the rows of a batch are proven apart" in result.output
    assert f"{repository / 'broken' / '1'}: has no model.onnx" in result.output
    assert profiled(repository, "--explain", "--model", "a").exit_code == 0
    alone = profiled(repository, "--explain", "--model", "broken")
    assert (alone.exit_code, "version 2" in alone.output) == (1, False)


def test_weights_that_are_allowed_elsewhere_are_so_for_explanations(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "elsewhere").mkdir()
    (tmp_path / "elsewhere" / "w.bin").write_bytes(np.ones(2, np.float32).tobytes())
    models.place(models.external_weights("../../../elsewhere/w.bin"), tmp_path / "models" / "m" / "1")
    assert profiled(tmp_path / "models", "--explain").exit_code == 1
    monkeypatch.setenv("SLUICE_MODELS_ALLOW", str(tmp_path / "elsewhere"))
    assert profiled(tmp_path / "models", "--explain").exit_code == 0
