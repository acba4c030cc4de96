"""Embeddings beside the targets: leading directions of the teacher's hidden layer, the same bytes every time."""

from __future__ import annotations

import shutil
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from embedded_targets import pairs_of, two_logs
from sklearn.decomposition import PCA
from small_run import change_json, make_run
from support import files_of

from features.errors import ArtifactError, ConfigError
from features.statistics import NO_FOLD
from models.backend import tf
from pipeline import storage
from pipeline.arrays import read_arrays
from pipeline.beam import make_options
from pipeline.precompute import precompute
from pipeline.verify import verify
from pipeline.workspace import EXAMPLES, TARGETS, TEACHER, Run

WIDTH, OUTPUTS = 6, 4
ONE = make_options((), 1)


class Fake(tf.Module):
    """A teacher whose hidden layer and logits follow from ids, numbers and fold in a few lines."""

    def __init__(self, columns: tuple[int, int], embeds: bool = True) -> None:
        super().__init__()
        numeric, categorical = columns
        rng = np.random.default_rng(1)
        self.kernel = tf.Variable(rng.normal(size=(WIDTH, OUTPUTS)), dtype=tf.float32)
        self.bias = tf.Variable(rng.normal(size=OUTPUTS), dtype=tf.float32)
        self.mixing = tf.Variable(rng.normal(size=(numeric + categorical + 1, WIDTH)), dtype=tf.float32)
        shapes = (([None, categorical], tf.int32), ([None, numeric], tf.float32), ([None], tf.int32))
        signature = [tf.TensorSpec(*shape, name) for shape, name in zip(shapes, ("ids", "dense", "fold"), strict=True)]
        self.score = tf.function(self._score, input_signature=signature)
        if embeds:
            self.embed = tf.function(lambda *rows: {"hidden": self._hidden(*rows)}, input_signature=signature)
            self.head = tf.function(lambda: {"kernel": 1 * self.kernel, "bias": 1 * self.bias}, input_signature=[])

    def _hidden(self, ids: tf.Tensor, dense: tf.Tensor, fold: tf.Tensor) -> tf.Tensor:
        dense = tf.where(tf.math.is_nan(dense), tf.zeros_like(dense), dense)
        parts = (tf.cast(ids % 5, tf.float32), dense, tf.cast(fold, tf.float32)[:, tf.newaxis] / 10)
        return tf.tanh(tf.concat(parts, axis=1) @ self.mixing / 3) + 1

    def _score(self, ids: tf.Tensor, dense: tf.Tensor, fold: tf.Tensor) -> dict[str, tf.Tensor]:
        return {"logits": self._hidden(ids, dense, fold) @ self.kernel + self.bias}


def add_teacher(run: Run, embeds: bool = True) -> None:
    """A finished teacher."""
    schema = run.spec().schema
    teacher = Fake((len(schema.numeric), len(schema.categorical)), embeds)
    tf.saved_model.save(teacher, run.file(TEACHER, "model"))
    told: dict[str, Any] = {"sources": {EXAMPLES: run.identity(EXAMPLES)}, "models": ["model"], "fingerprint": "f"}
    told |= {"folds": 0, "outputs": OUTPUTS, "label": "", "parameters": 1, "calibration": {}, "settings": {}}
    run.finish(TEACHER, "key", told)


@pytest.fixture(scope="module")
def made(tmp_path_factory: pytest.TempPathFactory) -> Run:
    """Examples, a teacher, and targets with embeddings of three floats; not to be written to."""
    folder = tmp_path_factory.mktemp("embedded")
    run = make_run(folder, *two_logs(folder), split="hash:user:70/15/15")
    add_teacher(run)
    assert precompute(run, ONE, 3)
    return run


@pytest.fixture
def run(made: Run, tmp_path: Path) -> Run:
    """A copy that may be changed."""
    shutil.copytree(made.path, tmp_path / "run")
    return Run(str(tmp_path / "run"))


def hidden_of(run: Run, split: str) -> np.ndarray:
    """The hidden layers of a split; training rows ask with their own fold."""
    teacher, found = tf.saved_model.load(run.file(TEACHER, "model")), []
    for block, _ in pairs_of(run, split):
        fold = block.folds if split == "train" else np.full(len(block), NO_FOLD)
        arguments = tf.constant(block.ids), tf.constant(block.dense), tf.constant(fold.astype(np.int32))
        found.append(teacher.embed(*arguments)["hidden"].numpy().astype(np.float64))
    return np.concatenate(found)


def embeddings_of(run: Run, split: str) -> np.ndarray:
    found = [target.embedding for _, target in pairs_of(run, split) if target.embedding is not None]
    assert all(part.dtype == np.float16 for part in found)
    return np.concatenate(found).astype(np.float64)


def test_embeddings_are_the_principal_components_of_the_training_rows(made: Run) -> None:
    peer = PCA(3).fit(hidden_of(made, "train"))
    scale = np.sqrt(peer.transform(hidden_of(made, "train")).var(axis=0).mean())
    signs = np.sign([column[np.abs(column).argmax()] for column in peer.components_])
    for split in ("train", "valid", "test"):
        expected = peer.transform(hidden_of(made, split)) * signs / scale
        found = embeddings_of(made, split)
        assert len(found) == made.spec().rows[split]
        np.testing.assert_allclose(found, expected, atol=5e-3)
    manifest = made.manifest(TARGETS)
    assert manifest["explained"] == pytest.approx(peer.explained_variance_ratio_.sum(), abs=2e-6)
    assert (manifest["embedding"], manifest["head"]) == (3, "head.npz")
    assert read_arrays(made.file(TARGETS, "head.npz"))["kernel"].shape == (3, OUTPUTS)


def test_the_logits_are_those_without_embeddings(run: Run) -> None:
    before = [target.logits for _, target in pairs_of(run, "train")]
    with_them = run.manifest(TARGETS)
    assert precompute(run, ONE) is True
    pairs = pairs_of(run, "train")
    assert all(target.embedding is None for _, target in pairs)
    assert all(np.array_equal(a, target.logits) for a, (_, target) in zip(before, pairs, strict=True))
    assert set(with_them) - set(run.manifest(TARGETS)) == {"embedding", "explained", "head"}
    assert set(files_of(run.file(TARGETS))) == {"manifest.json", *(s["path"] for s in with_them["shards"])}


def test_all_directions_give_the_logits_back(run: Run) -> None:
    assert precompute(run, ONE, WIDTH) is True
    head = read_arrays(run.file(TARGETS, "head.npz"))
    logits = np.concatenate([target.logits for _, target in pairs_of(run, "test")])
    np.testing.assert_allclose(embeddings_of(run, "test") @ head["kernel"] + head["bias"], logits, atol=0.01)
    assert run.manifest(TARGETS)["explained"] == 1


def test_again_there_is_nothing_to_do_and_the_bytes_do_not_depend_on_the_workers(run: Run) -> None:
    assert precompute(run, ONE, 3) is False
    before = files_of(run.file(TARGETS))
    storage.remove(run.file(TARGETS))
    assert precompute(run, make_options((), 2), 3) is True
    assert files_of(run.file(TARGETS)) == before


def test_a_stopped_call_goes_on_where_it_was(run: Run) -> None:
    """Directions that are found are not looked for again, and the whole is the same."""
    before = files_of(run.file(TARGETS))
    storage.remove(run.file(TARGETS))
    shard = Path(run.file(EXAMPLES, run.shards("test")[0]["path"]))
    whole = shard.read_bytes()
    shard.write_bytes(whole[:-3])
    with pytest.raises(ArtifactError, match="A TFRecord file must be whole"):
        precompute(run, ONE, 3)
    projection = Path(run.file(TARGETS, ".work", "projection.npz"))
    assert not storage.exists(run.file(TARGETS, "manifest.json"))
    inode = projection.stat().st_ino
    with pytest.raises(ArtifactError, match="A TFRecord file must be whole"):
        precompute(run, ONE, 3)
    assert projection.stat().st_ino == inode
    shard.write_bytes(whole)
    assert precompute(run, ONE, 3) is True
    assert files_of(run.file(TARGETS)) == before


def test_verify_looks_at_the_embeddings(run: Run) -> None:
    assert verify(run).wrong == []
    change_json(run.file(TARGETS, "manifest.json"), lambda manifest: manifest.update(embedding=2))
    assert any(text.startswith("The floats of an embedding must be 2. Received: 3") for text in verify(run).wrong)


def test_more_floats_than_the_hidden_layer_has(run: Run) -> None:
    """That is said before anything is removed."""
    before = files_of(run.file(TARGETS))
    with pytest.raises(ConfigError, match=f"embedding must be at most the {WIDTH} floats .* Received: {WIDTH + 1}"):
        precompute(run, ONE, WIDTH + 1)
    assert files_of(run.file(TARGETS)) == before


def test_cross_fitted_teachers_have_no_common_embeddings(run: Run) -> None:
    change_json(run.file(TEACHER, "manifest.json"), lambda manifest: manifest.update(folds=2))
    before = files_of(run.file(TARGETS))
    with pytest.raises(ConfigError, match="embedding must be 0 with cross-fitting. Received: 3"):
        precompute(run, ONE, 3)
    assert files_of(run.file(TARGETS)) == before


def test_a_teacher_from_before_there_were_embeddings(run: Run) -> None:
    storage.remove(run.file(TEACHER))
    add_teacher(run, embeds=False)
    assert precompute(run, ONE) is True
    before = files_of(run.file(TARGETS))
    with pytest.raises(ArtifactError, match="A teacher must have been exported with its embeddings"):
        precompute(run, ONE, 3)
    assert files_of(run.file(TARGETS)) == before
