"""``derive``: other subclasses from stored targets, whole, the same every time, and a student that learns them."""

from __future__ import annotations

import re
import shutil
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from embedded_targets import KERNEL, OUTPUTS, WIDTH, make_embedded_run, pairs_of
from scipy.special import log_softmax, logsumexp, softmax
from small_run import change_json, rewrite_targets
from support import files_of

from features.errors import ArtifactError, ConfigError
from models.methods import METHODS, SOURCES
from pipeline import storage
from pipeline.beam import make_options
from pipeline.derive import derive
from pipeline.keys import finished_students, student_sources
from pipeline.settings import DerivedConfig, StudentConfig
from pipeline.verify import verify
from pipeline.workspace import EXAMPLES, TARGETS, Run, derived_stage

CONFIG = DerivedConfig(pseudo_subclasses=3)
ONE = make_options((), 1)
TINY = StudentConfig(min_count=1, epochs=1.0, batch_size=64, evaluations=1, hidden=4, averaging=0.0)


@pytest.fixture(scope="module")
def made(tmp_path_factory: pytest.TempPathFactory) -> Run:
    """All sources, not to be written to."""
    run = make_embedded_run(tmp_path_factory.mktemp("derived"))
    for source in SOURCES:
        assert derive(run, source, CONFIG, ONE)
    return run


@pytest.fixture
def run(made: Run, tmp_path: Path) -> Run:
    """A copy that may be changed."""
    shutil.copytree(made.path, tmp_path / "run")
    return Run(str(tmp_path / "run"))


def arrays(run: Run, split: str, stage: str) -> tuple[np.ndarray, np.ndarray]:
    """Logits float64 and embeddings of the rows of a split."""
    pairs = pairs_of(run, split, stage)
    embeddings = [target.embedding for _, target in pairs if target.embedding is not None]
    return np.concatenate([t.logits for _, t in pairs]).astype(np.float64), np.concatenate(embeddings)


def conditionals(logits: np.ndarray) -> np.ndarray:
    found: np.ndarray = softmax(logits.reshape(len(logits), 2, -1), axis=2)
    return found


@pytest.mark.parametrize("source", SOURCES)
def test_derived_targets_keep_rows_embeddings_and_class_logits(made: Run, source: str) -> None:
    stage = derived_stage(source)
    manifest, targets = made.manifest(stage), made.manifest(TARGETS)
    assert manifest["outputs"] == (6 if source == "lelp" else OUTPUTS)
    assert manifest["sources"] == {name: made.identity(name) for name in (EXAMPLES, TARGETS)}
    assert manifest["teacher"] != targets["teacher"]
    shards, others = ({(s["path"], s["split"], s["rows"]) for s in m["shards"]} for m in (manifest, targets))
    assert shards == others
    assert (manifest["embedding"], manifest["label"], "head" in manifest) == (WIDTH, "", False)
    assert set(files_of(made.file(stage))) == {"manifest.json", *(shard["path"] for shard in manifest["shards"])}
    for split in ("train", "valid", "test"):
        (derived, embedding), (teacher, before) = (arrays(made, split, name) for name in (stage, TARGETS))
        assert len(derived) == made.spec().rows[split] and derived.shape[1] == manifest["outputs"]
        np.testing.assert_array_equal(embedding, before)
        classes = (logsumexp(z.reshape(len(z), 2, -1), axis=2) for z in (derived, teacher))
        np.testing.assert_allclose(*classes, atol=1e-5)


def test_random_keeps_how_sure_the_teacher_is_and_nothing_of_what(made: Run) -> None:
    derived, teacher = (conditionals(arrays(made, "train", name)[0]) for name in (derived_stage("random"), TARGETS))
    np.testing.assert_allclose(np.sort(derived, axis=2), np.sort(teacher, axis=2), atol=1e-5)
    same = derived.argmax(axis=2) == teacher.argmax(axis=2)
    assert 0.4 < same.mean() < 0.6


def test_lelp_are_projections_outside_the_class_directions(made: Run) -> None:
    """From the stored embeddings by another way: singular values of the rows of a class."""
    derived, embedding = arrays(made, "train", derived_stage("lelp"))
    labels = np.concatenate([block.labels for block, _ in pairs_of(made, "train")])
    h, found = embedding.astype(np.float64), conditionals(derived)
    weights = np.stack([KERNEL[:, :2].mean(axis=1), KERNEL[:, 2:].mean(axis=1)]).astype(np.float64)
    outside = np.eye(WIDTH) - np.linalg.pinv(weights) @ weights
    for label in range(2):
        rows = (h - h[labels == label].mean(axis=0)) @ outside
        _, values, directions = np.linalg.svd(rows[labels == label], full_matrices=False)
        scaled = rows @ directions[:3].T / np.sqrt((values[:3] ** 2).mean() / (labels == label).sum())
        # Softmax leaves a constant of each row open; what is left is a rotation of the scaled projections.
        logits = np.log(found[:, label])
        differences = logits - logits.mean(axis=1, keepdims=True)
        rotation, residual, *_ = np.linalg.lstsq(scaled, differences, rcond=None)
        assert float(residual.sum()) < 1e-6 * float((differences**2).sum())
        centring = np.eye(3) - 1 / 3
        np.testing.assert_allclose(rotation.T @ rotation, centring, atol=1e-4)


def test_centroids_are_nearness_to_the_means_of_subclasses(made: Run) -> None:
    derived, embedding = arrays(made, "train", derived_stage("centroids"))
    teacher, h = arrays(made, "train", TARGETS)[0], embedding.astype(np.float64)
    means = softmax(teacher, axis=1).T @ h
    near = h @ (means / np.linalg.norm(means, axis=1, keepdims=True)).T
    expected = log_softmax(near.reshape(len(h), 2, 2), axis=2)
    np.testing.assert_allclose(np.log(conditionals(derived)), expected, atol=1e-5)


def test_only_what_a_source_reads_makes_it_anew(run: Run) -> None:
    others = {"random": "lelp_temperature", "lelp": "centroid_temperature", "centroids": "seed"}
    own = {"random": "seed", "lelp": "pseudo_subclasses", "centroids": "centroid_temperature"}
    for source in SOURCES:
        before = files_of(run.file(derived_stage(source)))
        assert derive(run, source, CONFIG, ONE) is False
        assert derive(run, source, replace(CONFIG, **{others[source]: 4}), ONE) is False
        assert files_of(run.file(derived_stage(source))) == before
        assert derive(run, source, replace(CONFIG, **{own[source]: 4}), ONE) is True
        assert files_of(run.file(derived_stage(source))) != before


@pytest.mark.parametrize("source", SOURCES)
def test_an_unfinished_stage_goes_on_to_the_same_bytes(run: Run, source: str) -> None:
    stage = derived_stage(source)
    manifest, before = run.manifest(stage), files_of(run.file(stage))
    Path(run.file(stage, "manifest.json")).unlink()
    storage.write_json(run.file(stage, ".started.json"), {"key": manifest["key"]})
    inodes = {}
    for shard in manifest["shards"]:
        path = Path(run.file(stage, shard["path"]))
        if shard["split"] == "valid":
            path.unlink()
        else:
            storage.write_json(run.file(stage, ".work", shard["path"].replace("/", "-") + ".json"), shard)
            inodes[path] = path.stat().st_ino
    assert derive(run, source, CONFIG, make_options((), 2)) is True
    assert {path: path.stat().st_ino for path in inodes} == inodes
    assert files_of(run.file(stage)) == before


def test_a_damaged_shard_stops_before_anything_is_finished(run: Run) -> None:
    path = run.file(TARGETS, run.shards("test")[0]["path"])
    whole = Path(path).read_bytes()
    Path(path).write_bytes(whole[:-3])
    config = replace(CONFIG, centroid_temperature=3.0)
    with pytest.raises(ArtifactError, match="A TFRecord file must be whole"):
        derive(run, "centroids", config, ONE)
    assert not storage.exists(run.file("derived/centroids/manifest.json"))
    Path(path).write_bytes(whole)
    assert derive(run, "centroids", config, ONE) is True


@pytest.mark.parametrize(
    ("source", "change", "error", "message"),
    [
        ("lelp", {"embedding": 0}, ArtifactError, r"Targets must have embeddings.*ctr-distill precompute --embedding"),
        ("centroids", {"embedding": 0}, ArtifactError, "Targets must have embeddings. Received: none"),
        ("lelp", {"head": None}, ArtifactError, "The teacher of lelp must have one linear head"),
        ("lelp", {"embedding": 4}, ConfigError, "pseudo_subclasses must be at most the 4 floats .* Received: 3"),
        ("random", {"sources": {EXAMPLES: "other"}}, ArtifactError, "targets of a run must be made from its present"),
    ],
)
def test_what_the_targets_lack(
    run: Run, source: str, change: dict[str, Any], error: type[Exception], message: str
) -> None:
    def changed(manifest: dict[str, Any]) -> None:
        manifest.update(change)
        for name in [name for name, value in change.items() if value is None]:
            del manifest[name]

    change_json(run.file(TARGETS, "manifest.json"), changed)
    before = files_of(run.file(derived_stage(source)))
    with pytest.raises(error, match=message):
        derive(run, source, CONFIG, ONE)
    assert files_of(run.file(derived_stage(source))) == before


def test_random_needs_no_embeddings(run: Run) -> None:
    for shard in run.manifest(TARGETS)["shards"]:
        rewrite_targets(run, shard["path"], lambda block: replace(block, embedding=None))
    change_json(run.file(TARGETS, "manifest.json"), lambda manifest: manifest.pop("embedding"))
    assert derive(run, "random", CONFIG, ONE) is True
    assert "embedding" not in run.manifest("derived/random")
    assert all(target.embedding is None for _, target in pairs_of(run, "train", "derived/random"))


def test_verify_proves_derived_targets(run: Run) -> None:
    proved = verify(run)
    assert proved.wrong == []
    assert re.search(r"rows of teacher teacher-1; derived/random: 1,200 rows of", dict(proved.proved)["targets"])
    path = Path(run.file("derived/lelp", run.shards("test")[0]["path"]))
    path.write_bytes(path.read_bytes()[:-1])
    Path(run.file("derived/random/stray")).write_text("")
    wrong = verify(run).wrong
    assert len(wrong) == 2 and any(str(path) in text for text in wrong) and any("stray" in text for text in wrong)


def test_a_student_learns_derived_targets(run: Run) -> None:
    from pipeline.distill import distill
    from pipeline.student_data import StudentData

    data = StudentData.read(run, METHODS["lelp"])
    assert (data.training.outputs, data.training.embedding, data.head) == (6, 0, None)
    assert all("derived/lelp" in path for path in data.training.targets)
    assert distill(run, "lelp", TINY) is True and distill(run, "lelp", TINY) is False
    manifest = run.manifest("students/lelp")
    assert manifest["sources"] == student_sources(run, "lelp")
    assert finished_students(run) == ["students/lelp"]
    derive(run, "lelp", replace(CONFIG, lelp_temperature=3.0), ONE)
    assert finished_students(run) == []
    shutil.rmtree(run.file("derived/lelp"))
    assert finished_students(run) == []
    with pytest.raises(ArtifactError, match="ctr-distill derive --source lelp --run"):
        distill(run, "lelp", TINY)


def test_derived_targets_of_other_targets_are_refused(run: Run) -> None:
    from pipeline.distill import distill

    change_json(run.file(TARGETS, "manifest.json"), lambda manifest: manifest.update(parameters=2))
    with pytest.raises(ArtifactError, match=r"derived/random .* present targets.*ctr-distill derive --source random"):
        distill(run, "random", TINY)
