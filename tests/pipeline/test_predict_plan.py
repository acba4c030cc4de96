"""The plan of ``predict``: its model, its ranges, its key."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from features.errors import ArtifactError, ConfigError, DataError
from features.schema import CATEGORICAL, FLOAT, LABEL, Column, Schema
from pipeline.predict_plan import PredictPlan, find_model, find_tasks
from pipeline.storage import find_inputs

SCHEMA = Schema((Column("y", LABEL), Column("x", FLOAT), Column("c", CATEGORICAL)), ",")
MB = 1 << 20


@pytest.fixture
def model(tmp_path: Path) -> Path:
    """Files with the names of a student's; nothing here loads them."""
    folder = tmp_path / "model" / "1"
    for name in ("saved_model.pb", "variables/variables.index"):
        (folder / name).parent.mkdir(parents=True, exist_ok=True)
        (folder / name).write_text(name)
    (folder / "assets.extra").mkdir()
    (folder / "assets.extra/features.json").write_text(json.dumps({"schema": SCHEMA.to_json()}))
    return folder


def log_of(path: Path, size: int) -> str:
    """A log of so many bytes that has some lines at its beginning, and a hole behind them."""
    path.write_bytes(b"1,2,a\n" * 200)
    with path.open("r+b") as file:
        file.truncate(size)
    return str(path)


@pytest.mark.parametrize(
    ("sizes", "ranges"),
    [
        ([1000], [1]),
        ([4 * MB], [1]),
        ([9 * MB], [3]),
        ([160 * MB], [16]),
        ([80 * MB, 800, 80 * MB], [8, 1, 8]),
        ([1600 * MB], [25]),
    ],
    ids=lambda value: str(value),
)
def test_ranges_are_neither_few_nor_small(tmp_path: Path, sizes: list[int], ranges: list[int]) -> None:
    """16 ranges where they have 4 MiB, as many of 64 MiB as are needed where 16 of them do not do."""
    files = find_inputs([log_of(tmp_path / f"{number}", size) for number, size in enumerate(sizes)])
    tasks = [task for task, _ in find_tasks(files, SCHEMA)]
    assert [sum(task.index == number for task in tasks) for number in range(len(sizes))] == ranges
    for number, size in enumerate(sizes):
        places = [place for task in tasks if task.index == number for place in task.ranges]
        assert [place.start for place in places] == [0, *(place.end for place in places[:-1])]
        assert places[-1].end == size


def test_labels_are_found_in_each_file(tmp_path: Path) -> None:
    (tmp_path / "a").write_text("1,2,a\n0,2,b\n")
    (tmp_path / "b").write_text("2,a\n2,b\n")
    (tmp_path / "c").touch()
    files = find_inputs([str(tmp_path / name) for name in "abc"])
    assert [(task.file.path, labelled) for task, labelled in find_tasks(files, SCHEMA)] == [
        (str(tmp_path / "a"), True),
        (str(tmp_path / "b"), False),
    ]
    with pytest.raises(DataError, match="^The input must hold rows"):
        find_tasks(files[2:], SCHEMA)


def test_the_model_is_the_folder_or_its_version(model: Path) -> None:
    assert find_model(str(model)) == find_model(f"{model}/") == find_model(str(model.parent)) == str(model)


@pytest.mark.parametrize("missing", ["saved_model.pb", "assets.extra/features.json"])
def test_what_is_no_student_says_what_it_lacks(model: Path, missing: str) -> None:
    (model / missing).unlink()
    with pytest.raises(ArtifactError, match=rf"^--current must be .* student. Received: .*model \(no {missing}\)"):
        find_model(str(model.parent), "--current")


@pytest.mark.parametrize(
    ("text", "error", "message"),
    [
        ("{", ArtifactError, "A JSON file must be whole"),
        ("[]", ArtifactError, "The features of a student must be what distill wrote"),
        ('{"numeric": []}', ArtifactError, "The features of a student must be what distill wrote"),
        ('{"schema": {"rows": 3}}', ConfigError, "A schema must have 'columns'"),
    ],
)
def test_features_of_something_else(
    model: Path, tmp_path: Path, text: str, error: type[Exception], message: str
) -> None:
    (model / "assets.extra/features.json").write_text(text)
    with pytest.raises(error, match=message):
        PredictPlan.of(str(model), [log_of(tmp_path / "log", 1000)])


def test_the_key_knows_model_logs_and_ranges(model: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    log, other = log_of(tmp_path / "log", 1000), log_of(tmp_path / "other", 1000)
    plan = PredictPlan.of(str(model), [log])
    assert plan == PredictPlan.of(str(model.parent), [log])
    assert (plan.model, plan.schema, [file.path for file in plan.files]) == (str(model), SCHEMA, [log])
    keys = {plan.key, PredictPlan.of(str(model), [other]).key, PredictPlan.of(str(model), [log, other]).key}
    monkeypatch.setattr("pipeline.predict_plan._RANGE_BYTES", 100)
    keys.add(PredictPlan.of(str(model), [log]).key)
    monkeypatch.undo()
    (model / "saved_model.pb").write_text("another graph")
    keys.add(PredictPlan.of(str(model), [log]).key)
    assert len(keys) == 5
