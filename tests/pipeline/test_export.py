"""``export``: other models of a finished student, and which of them fits."""

from __future__ import annotations

import dataclasses
import json
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import pytest
from sklearn.metrics import log_loss
from small_run import change_json, read_shard
from support import Made, files_of

from features.blocks import Block
from features.errors import ArtifactError, ConfigError
from models.backend import tf
from models.calibration import Calibration
from models.serving_features import FEATURES_FILE
from pipeline import cli
from pipeline.evaluate import load_student
from pipeline.export import SIZES_FILE, Asked, Exported, export, in_order, parts_of
from pipeline.exported_model import ExportedModel
from pipeline.served_student import WEIGHTS
from pipeline.settings import SERVED, StudentConfig
from pipeline.stage_inputs import read_vocabularies
from pipeline.stored_student import Candidate
from pipeline.workspace import Run

STAGE = "students/subclass"


def rows_of(run: Run, split: str) -> Block:
    return Block.concatenate([block for shard in run.shards(split) for block in read_shard(run, shard["path"])])


@dataclass(frozen=True)
class Model:
    """A model that was exported again, and where it lies."""

    exported: Exported
    run: Run

    def logits(self, split: str) -> np.ndarray:
        block = rows_of(self.run, split)
        return ExportedModel(self.exported.path).logits(block.ids, block.dense)


@pytest.fixture(scope="module")
def models(made: Made, tmp_path_factory: pytest.TempPathFactory) -> dict[str, Model]:
    """As it was exported, with fewer values in another precision, and one of a given size."""
    folder = tmp_path_factory.mktemp("exports")
    asked = {
        "same": Asked(subclasses=True),
        "pruned": Asked("float16", 30),
        "target": Asked("int8", 10**6, 10**6),
    }
    return {name: Model(export(made.run, STAGE, f"{folder}/{name}", each), made.run) for name, each in asked.items()}


def test_without_wishes_it_is_the_same_model(made: Made, models: dict[str, Model]) -> None:
    first = load_student(made.run, STAGE)(rows_of(made.run, "test"))
    assert np.array_equal(models["same"].logits("test"), first)
    table = models["same"].exported.table
    settings = made.run.manifest(STAGE)["settings"]
    assert table["served"].tolist() == ["float32", settings["served"]]
    assert set(table["min_count"]) == {settings["min_count"]}
    # A byte a float, and four in the float32 model; the keys are the same.
    floats = (table["least_bytes"].iloc[0] - table["least_bytes"].iloc[1]) / 3
    rows = made.run.spec().vocabulary_ids
    assert floats == int(floats) and 5 * len(rows) < floats < 5 * (sum(rows) + 13 * 100)


def test_probabilities_of_subclasses_are_given_on_request(models: dict[str, Model]) -> None:
    for name, given in (("same", True), ("pruned", False)):
        outputs = tf.saved_model.load(models[name].exported.path).signatures["features"].structured_outputs
        assert ("subclass_probabilities" in outputs) is given


@pytest.mark.parametrize("name", ["same", "pruned", "target"])
def test_the_table_says_what_the_model_does(models: dict[str, Model], name: str) -> None:
    model = models[name]
    table = model.exported.table
    last = table.iloc[-1]
    for split in ("valid", "test"):
        p_click = 1 / (1 + np.exp(-model.logits(split)))
        loss = log_loss(rows_of(model.run, split).labels, p_click)
        assert last[f"{split}_logloss"] == pytest.approx(loss, abs=1e-6)
        difference = last[f"{split}_logloss"] - table[f"{split}_logloss"].iloc[0]
        assert last[f"{split}_difference"] == pytest.approx(difference, abs=1e-12)
    assert table["bytes"].isna().tolist() == [True, False]
    sizes = {file: len(data) for file, data in files_of(model.exported.path).items()}
    assert last["bytes"] == sum(sizes.values()) == sum(model.exported.parts.values())
    assert model.exported.parts["keys"] == sizes["assets/vocabulary.txt"]
    assert model.exported.parts["graph"] == sizes["saved_model.pb"]
    assert last["least_bytes"] < model.exported.parts["keys"] + model.exported.parts["weights"]


def test_values_below_the_count_have_no_row(models: dict[str, Model]) -> None:
    model = models["pruned"]
    vocabularies = read_vocabularies(model.run, model.run.spec())
    expected = [int((v.counts[2:].sum(axis=1) >= 30).sum()) for v in vocabularies]
    features = json.loads(Path(model.exported.path, FEATURES_FILE).read_bytes())
    assert list(features["kept"].values()) == expected
    last = model.exported.table.iloc[-1]
    assert (last["served"], last["min_count"], last["values"]) == ("float16", 30, sum(expected))
    assert 0 < sum(expected) < model.exported.table["values"].iloc[0]
    # So many training rows has no value: only missing and other rows are left.
    assert models["target"].exported.table["values"].iloc[-1] == 0


def test_the_table_is_kept_with_the_model(models: dict[str, Model]) -> None:
    model = models["pruned"].exported
    kept = json.loads(Path(model.path, SIZES_FILE).read_bytes())
    assert kept["parts"] == model.parts == parts_of(model.path)
    assert [row["bytes"] for row in kept["models"]] == [None, sum(model.parts.values())]
    assert kept["models"][1]["test_logloss"] == pytest.approx(model.table["test_logloss"].iloc[1], abs=1e-12)


def test_it_is_complete(made: Made, models: dict[str, Model]) -> None:
    names = set(files_of(made.run.file(STAGE, "model/1")))
    assert set(files_of(models["pruned"].exported.path)) == names | {SIZES_FILE}


def test_the_command_prints_the_table(made: Made, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    asked = ["--method", "hard", "--served", "float32", "--output", f"{tmp_path}/new/"]
    cli.main(["export", "--run", made.run.path, *asked])
    header, first, *_, last = [line for line in capsys.readouterr().out.splitlines() if line]
    assert header.split()[:3] == ["served", "min", "count"] and first.split()[0] == "float32"
    assert "+0.000000" in first
    size = sum(len(data) for data in files_of(tmp_path / "new/1").values())
    assert last.startswith(f"{tmp_path}/new/1: {size:,} bytes (keys ")


def test_a_target_that_is_too_small(made: Made, tmp_path: Path) -> None:
    with pytest.raises(
        ConfigError, match=r"--target-bytes must be at least \d+, the bytes of the smallest model.* 1000"
    ):
        export(made.run, STAGE, str(tmp_path / "new"), Asked("int8", 10**6, 1000))
    assert not files_of(tmp_path / "new")


def candidate(served: str, least_bytes: int, valid: float) -> Candidate:
    return Candidate(served, 4, 10, least_bytes, Calibration(), {"valid": valid})


FOUR = [
    candidate("float32", 400, 0.470001),
    candidate("float16", 200, 0.470003),
    candidate("int8", 100, 0.46),
    candidate("int8", 50, 0.5),
]


@pytest.mark.parametrize(
    ("target", "order"),
    [(None, [400, 200, 100, 50]), (400, [100, 200, 400, 50]), (200, [100, 200, 50]), (99, [50]), (1, [50])],
)
def test_the_best_that_may_fit_comes_first(target: int | None, order: list[int]) -> None:
    assert [found.least_bytes for found in in_order(FOUR, target)] == order


def test_what_is_looked_at() -> None:
    config = StudentConfig(min_count=3, served="float16")
    assert Asked().choices(config) == [("float16", 3)]
    assert Asked("int8", 7).choices(config) == [("int8", 7)]
    ladder = [3, 6, 12, 24, 48, 96, 192]
    assert Asked(target_bytes=1).choices(config) == [(served, count) for served in SERVED for count in ladder]
    assert Asked("int8", None, 1).choices(config) == [("int8", count) for count in ladder]
    assert Asked(None, 9, 1).choices(config) == [(served, 9) for served in SERVED]


WRONG: dict[str, tuple[Asked, str]] = {
    "fewer training rows": (Asked(min_count=3), "--min-count must be at least that of the training, 4. Received: 3."),
    "no bytes": (Asked(target_bytes=0), "--target-bytes must be positive. Received: 0."),
}


@pytest.mark.parametrize("name", WRONG)
def test_what_cannot_be(made: Made, tmp_path: Path, name: str) -> None:
    asked, message = WRONG[name]
    with pytest.raises(ConfigError, match=message):
        export(made.run, STAGE, str(tmp_path / "new"), asked)
    assert not (tmp_path / "new").exists()


@pytest.mark.parametrize("kind", ["file", "full folder"])
def test_an_output_that_is_not_new(made: Made, tmp_path: Path, kind: str) -> None:
    output = tmp_path / "new"
    if kind == "file":
        output.write_text("text")
    else:
        (output / "1").mkdir(parents=True)
    with pytest.raises(ConfigError, match="--output must be a new or empty local folder. Received"):
        export(made.run, STAGE, str(output), Asked())


def test_a_student_without_what_is_needed(copy_of: Callable[..., Run], tmp_path: Path) -> None:
    run, output = copy_of("teacher", "targets"), str(tmp_path / "new")
    change_json(run.file(STAGE, "manifest.json"), lambda manifest: manifest["sources"].update(examples="others"))
    with pytest.raises(
        ArtifactError, match="from the present examples.*again with `ctr-distill distill --method subclass"
    ):
        export(run, STAGE, output, Asked())
    Path(run.file(STAGE, WEIGHTS)).unlink()
    with pytest.raises(
        ArtifactError, match="must have stored weights.*again with `ctr-distill distill --method subclass"
    ):
        export(run, STAGE, output, Asked())
    with pytest.raises(ArtifactError, match="must hold finished students/lelp"):
        export(run, "students/lelp", output, Asked())
    assert not Path(output).exists()


def test_a_damaged_setting_is_named(copy_of: Callable[..., Run], tmp_path: Path) -> None:
    run = copy_of("teacher", "targets")
    settings = dataclasses.asdict(StudentConfig()) | {"served": "int4"}
    change_json(run.file(STAGE, "manifest.json"), lambda manifest: manifest.update(settings=settings))
    with pytest.raises(ConfigError, match="served must be one of float32, float16, int8. Received: int4"):
        export(run, STAGE, str(tmp_path / "new"), Asked())
